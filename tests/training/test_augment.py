"""Other looks: what changes in a picture and what does not, and what a model learns from it, without forgetting."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from tiny_model import tiny_model

import envs  # noqa: F401 (registers the tasks)
import worldmodel
from tests.training.test_training_resume import equal, table, weights_of
from worldmodel.bundle import save
from worldmodel.cli import main
from worldmodel.data.looks import Picked, RandomLooks, random_look
from worldmodel.model import WorldModel
from worldmodel.training import augment as module
from worldmodel.training.augment import SameAnswers, answers

FRAMES = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), dtype=np.uint8)


def test_a_look_is_a_picture_and_another_one_each_time() -> None:
    rng = np.random.default_rng(0)
    looks = [random_look(FRAMES[0], rng) for _ in range(60)]
    assert all(look.dtype == np.uint8 and look.shape == FRAMES[0].shape for look in looks)
    changed = [look for look in looks if not np.array_equal(look, FRAMES[0])]
    assert 45 <= len(changed) < 60  # nothing changes in 6% of them
    assert len({look.tobytes() for look in changed}) == len(changed)


def test_what_lies_somewhere_is_still_seen_there() -> None:
    """A square on a plain ground: in nearly every look its middle is told from the ground around it."""
    picture = np.full((64, 64, 3), 220, np.uint8)
    picture[24:40, 34:50] = (200, 30, 30)
    rng, told = np.random.default_rng(1), 0
    for _ in range(200):
        look = random_look(picture, rng).astype(float)
        told += np.abs(look[30:34, 40:44].mean(axis=(0, 1)) - look[28:36, 10:20].mean(axis=(0, 1))).max() > 10
    assert told >= 180


@pytest.mark.parametrize("count", [1, 3])
def test_a_look_depends_on_its_row_alone(count: int) -> None:
    looks = RandomLooks(FRAMES, count, 5)
    assert looks.shape == (9 * count, 32, 32, 3)
    assert len(looks) == 9 * count
    whole = looks[:]
    rows = np.array([4, 0, 9 * count - 1])
    assert np.array_equal(looks[rows], whole[rows])
    assert np.array_equal(looks[2:7], whole[2:7])
    assert looks[3:3].shape == (0, 32, 32, 3)
    assert not np.array_equal(RandomLooks(FRAMES, count, 6)[:], whole)


def test_picked_rows_are_those_rows() -> None:
    picked = Picked(FRAMES, np.array([7, 2, 3]))
    assert len(picked) == 3
    assert picked.shape == (3, 32, 32, 3)
    assert np.array_equal(picked[:2], FRAMES[[7, 2]])
    assert np.array_equal(picked[np.array([2, 0])], FRAMES[[3, 7]])


def test_a_batch_pairs_each_look_with_what_is_said_of_its_picture() -> None:
    model, rng = tiny_model(), np.random.default_rng(0)
    plain = rng.normal(size=(20, 16, 24)).astype(np.float16)
    looks = np.repeat(plain, 2, axis=0) + np.float16(50.0)  # one can tell whose look it is
    learner = SameAnswers(tiny_model(), model, plain, looks, np.arange(3, 20), torch.device("cpu"))
    seen, wanted = learner.draw(None, plain, np.arange(20), np.random.default_rng(1), 200)  # type: ignore[arg-type]
    is_look = seen[:, 0, 0] > 25.0
    assert 0.55 < is_look.float().mean() < 0.8
    rows = (torch.where(is_look[:, None, None], seen - 50.0, seen)[:, None] - torch.from_numpy(plain).float()).abs()
    picked = rows.sum(dim=(2, 3)).argmin(dim=1)
    assert picked.min() >= 3
    with torch.no_grad():
        said = torch.cat(answers(model, torch.from_numpy(plain).float()), dim=-1) / learner._scale
    assert torch.allclose(wanted, said[picked], atol=1e-5)
    with torch.no_grad():
        assert float(learner.loss((torch.from_numpy(plain).float(), said))) < 1e-9


def test_episodes_that_training_held_out_are_not_learned_from() -> None:
    data = table()
    for pictures in (2, 30, 1000):
        rows, held = module._drawn(data, pictures, 0)
        assert (~held).sum() == min(pictures, 108)
        assert held.any()
        assert np.array_equal(held, np.isin(data.episode[rows], data.split()[1]))
        assert np.array_equal(rows, np.unique(rows))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("augment") / "logs"
    assert main(["collect", "task=jaco_reach", "episodes=4", "steps=5", "seed=1", f"out={folder}"]) == 0
    return folder


def command(logs: Path, model: Path | str, out: Path, *more: str, steps: int = 12) -> list[str]:
    sizes = (f"steps={steps}", "pictures=24", "looks=2", "batch_size=16", "device=cpu")
    return ["augment", f"model={model}", f"data={logs}", f"out={out}", *sizes, *more]


def saved(folder: Path) -> Path:
    save(tiny_model(), folder / "model", "# tiny\n")
    return folder / "model"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(worldmodel.load(folder / "model").state_dict())


def test_only_what_reads_features_changes(logs: Path, tmp_path: Path) -> None:
    before = saved(tmp_path)
    assert main(command(logs, before, tmp_path / "run", "name=seen")) == 0
    old, new = tensors(tmp_path), tensors(tmp_path / "run")
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"tracker", "reader", "projector", "proposer"}
    assert worldmodel.load(tmp_path / "run/model").name == "seen"
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["augmented_from"] == worldmodel.load(before).sha256
    assert report["model_sha256"] == worldmodel.load(tmp_path / "run/model").sha256
    assert set(report["validation"]) == {"in their looks, before", "in their looks", "as they are"}
    assert "augment" in (tmp_path / "run/model/README.md").read_text()
    assert not (tmp_path / "run/checkpoints").exists()
    assert (tmp_path / "run/config.yaml").is_file()


def test_it_learns_to_answer_as_before(logs: Path, tmp_path: Path) -> None:
    assert main(command(logs, saved(tmp_path), tmp_path / "run", "learning_rate=3e-3", steps=400)) == 0
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/augment.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.3 * losses[0]


def test_a_stop_changes_nothing(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved(tmp_path)
    every = module.FitSettings

    def often(*settings: object) -> object:
        return every(*settings, checkpoint_every=5)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "FitSettings", often)
    assert main(command(logs, before, tmp_path / "whole")) == 0
    loss, count = SameAnswers.loss, iter(range(8))

    def interrupted(self: SameAnswers, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(SameAnswers, "loss", interrupted)
    assert main(command(logs, before, tmp_path / "parts")) == 130
    monkeypatch.setattr(SameAnswers, "loss", loss)
    assert main(command(logs, before, tmp_path / "parts")) == 0
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_run_is_refused_in_its_folder(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = saved(tmp_path)
    assert main(command(logs, before, tmp_path / "run")) == 0
    assert main(command(logs, before, tmp_path / "run")) == 0
    assert "complete already" in capsys.readouterr().out
    assert main(command(logs, before, tmp_path / "run", "seed=1")) == 2
    assert "seed (0 -> 1)" in capsys.readouterr().err


def test_the_shipped_one_sees_in_other_light_and_differs_in_nothing_else() -> None:
    plain, augmented = worldmodel.load("jaco"), worldmodel.load("jaco_augmented")
    assert isinstance(plain, WorldModel)
    assert isinstance(augmented, WorldModel)
    for part in ("encoder", "norm", "members", "inverse"):
        assert equal(weights_of(getattr(plain, part)), weights_of(getattr(augmented, part)))
    assert plain.config == augmented.config
    env = gymnasium.make("worldmodel/JacoPush-v0", shift="lighting")
    seen, truth = [], []
    for seed in range(160_000, 160_012):
        observation, info = env.reset(seed=seed, options={"explore": True})
        seen.append(observation["pixels"])
        truth.append(info["privileged"])
    env.close()
    frames, places = torch.from_numpy(np.stack(seen))[:, None], torch.from_numpy(np.stack(truth))
    gaps = []
    with torch.no_grad():
        for model in (plain, augmented):
            found = model.locate(model.place(model.encode(frames)[:, 0]))[:, 0]
            gaps.append(float((found - places)[:, :2].norm(dim=-1).median()))
    assert gaps[1] < 0.03 < 0.06 < gaps[0]
