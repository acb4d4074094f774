"""The baselines: what they imitate, that they learn it, that a stop changes nothing, and what lies on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import ARCHITECTURE, tiny_model

from tests.training.test_training_resume import CPU, StopError, equal, nothing, table, weights_of
from worldmodel.baselines.bundle import load_baseline, save_baseline
from worldmodel.baselines.dreamer_policy import DreamerConfig
from worldmodel.baselines.pixels import PixelConfig, PixelPredictor, sharpness
from worldmodel.baselines.policy import GoalPolicy, PolicyConfig, displacements
from worldmodel.baselines.run import baseline
from worldmodel.bundle import save
from worldmodel.cli import VERBS, main
from worldmodel.data.table import Table
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import BundleError
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training.hindsight import hindsight
from worldmodel.training.learner import FitSettings, fit

SMALL = PolicyConfig(3, 3, "displacement", 4, latent_dim=8, token_width=4, projector_hidden=16, hidden=16, blocks=1)
DRAWN = PixelConfig(3, 3, side=16, channels=4, hidden=16, blocks=1, window=3)
ONE = "configurations_tried"


def policy(config: PolicyConfig = SMALL, seed: int = 0) -> GoalPolicy:
    torch.manual_seed(seed)
    return GoalPolicy(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config)


def generator(seed: int = 0) -> PixelPredictor:
    torch.manual_seed(seed)
    return PixelPredictor(DRAWN)


@pytest.mark.parametrize("span", [None, 1, 4])
def test_goals_are_later_pictures_of_the_same_episode(span: int | None) -> None:
    data = table()
    starts = data.window_starts(2, data.split()[0])
    rows, goals = hindsight(data, starts, np.random.default_rng(0), 4000, span)
    assert (data.episode[rows] == data.episode[goals]).all()
    assert (goals > rows).all()
    assert np.isin(data.episode[rows], data.split()[0]).all()
    assert (goals - rows).max() == (11 if span is None else span)  # an episode has 12 rows
    from_the_first = (goals - rows)[rows % 12 == 0]
    shares = np.bincount(from_the_first)[1:] / len(from_the_first)
    assert shares == pytest.approx(1 / len(shares), abs=0.08)


def test_the_displacement_is_what_was_done_up_to_the_goal() -> None:
    actions = np.array([[0.2, 0.9], [0.3, 0.9], [-0.1, 0.9], [0.4, -1.0]], np.float32)
    found = displacements(actions, np.array([0, 1, 0]), np.array([1, 3, 4]))
    assert found == pytest.approx(np.array([[0.2, 0.9], [0.2, 1.0], [0.8, 1.0]]))


def test_each_kind_has_its_target() -> None:
    data, features = table(), np.zeros((120, 16, 24), np.float16)
    starts = data.window_starts(2, data.split()[0])
    cloned, summed = (
        policy(replace(SMALL, target=target)).draw(data, features, starts, np.random.default_rng(0), 50)
        for target in ("action", "displacement")
    )
    rows, goals = hindsight(data, starts, np.random.default_rng(0), 50, SMALL.span)
    assert np.array_equal(cloned[3].numpy(), data.actions[rows])
    assert np.array_equal(summed[3].numpy(), displacements(data.actions, rows, goals))
    assert np.array_equal(cloned[2].numpy(), data.proprio[rows])


def test_a_policy_learns_what_it_imitates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (250, 12, 3)).astype(np.float32)
    moved = 0.05 * (np.cumsum(actions, axis=1) - actions)
    proprio = (moved + rng.uniform(-0.3, 0.3, (250, 1, 3))).reshape(-1, 3).astype(np.float32)
    empty = np.zeros((3000, 1, 1, 3), np.uint8)
    data = Table(empty, actions.reshape(-1, 3), proprio, proprio, np.repeat(np.arange(250), 12))
    # Features in which the position can be read, as those of a good encoder.
    features = (4 * proprio @ rng.normal(size=(3, 16 * 24)).astype(np.float32)).reshape(-1, 16, 24)
    model = policy(replace(SMALL, latent_dim=16, token_width=8, projector_hidden=32, hidden=32))
    model.fit_statistics(data, data.split()[0])
    fit(model, data, features, FitSettings(150, 64, 3e-3, 0, 2), tmp_path, CPU, nothing)
    found = model.validate(data, features, data.split()[1])
    assert found["action_error"] < 0.3 * found["action_error_of_the_mean"]


def trained(make: Any, folder: Path, stop: bool) -> list[torch.Tensor]:
    """Weights after 35 steps, with or without a stop after 25 of them and other weights to begin again with."""
    data = table()
    model = make(0)
    features = model.features(data, folder, "0" * 64, CPU)
    settings = FitSettings(35, 4, 1e-3, 0, 4, checkpoint_every=20)
    report = nothing
    if stop:
        model.fit_statistics(data, data.split()[0])
        # The loop reports every 50 steps; a kill comes when it likes.
        original, model.loss = model.loss, lambda batch: interrupted(original, batch)
        count = iter(range(25))

        def interrupted(loss: Any, batch: Any) -> Any:
            if next(count, None) is None:
                raise StopError
            return loss(batch)

        with pytest.raises(StopError):
            fit(model, data, features, settings, folder, CPU, report)
        model = make(7)
        features = model.features(data, folder, "0" * 64, CPU)
    model.fit_statistics(data, data.split()[0])
    before = weights_of(model)
    fit(model, data, features, settings, folder, CPU, report)
    assert not equal(before, weights_of(model))
    return [value for part in model.trainable().values() for value in weights_of(part)]


@pytest.mark.parametrize("make", [lambda seed: policy(seed=seed), generator], ids=["policy", "pixels"])
def test_training_resumes_exactly(make: Any, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "resumed")]
    for folder in folders:
        folder.mkdir()
    assert equal(trained(make, folders[0], stop=False), trained(make, folders[1], stop=True))


def test_the_generator_sees_means_of_pixels_and_draws_within_bounds() -> None:
    model, data = generator().eval(), table()
    model.fit_statistics(data, data.split()[0])
    frames = model.encode(torch.from_numpy(data.frames[:2]))
    assert frames.shape == (2, 3, 16, 16)
    mean = data.frames[0].reshape(16, 2, 16, 2, 3).mean((1, 3)) / 255
    assert frames[0].permute(1, 2, 0).numpy() == pytest.approx(mean, abs=1e-5)
    proprio, actions = torch.from_numpy(data.proprio[:2]), torch.from_numpy(data.actions[:2, None].repeat(3, 1))
    with torch.no_grad():
        drawn = torch.stack(list(model.rollout(frames, proprio, actions)))
        still = torch.stack(list(model.rollout(frames, proprio, 0 * actions)))
    assert drawn.shape == (3, 2, 3, 16, 16)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert not torch.allclose(drawn, still)


def test_a_blur_a_blank_and_a_picture_elsewhere_are_less_sharp_than_the_truth() -> None:
    sharp = (torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.9).float()
    soft = torch.nn.functional.avg_pool2d(sharp.flatten(0, 1), 3, 1, 1).reshape(sharp.shape)
    smudged = sharp + 0.3 * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(1))
    assert sharpness(sharp, sharp).tolist() == pytest.approx([1.0] * 3)
    assert sharpness(smudged, sharp).tolist() == pytest.approx([1.0] * 3, abs=0.1)
    assert (sharpness(soft, sharp) < 0.5).all()
    assert (sharpness(0 * sharp, sharp) == 0).all()
    assert (sharpness(sharp.roll(9, dims=-1), sharp).abs() < 0.15).all()


@pytest.mark.parametrize("make", [policy, generator])
def test_what_is_saved_is_what_is_loaded_and_damage_is_noticed(make: Any, tmp_path: Path) -> None:
    model = make()
    kind = "inverse_dynamics" if isinstance(model, GoalPolicy) else "pixel_prediction"
    sha256 = save_baseline(model, kind, {"parameters": 1, "decisions": 2, ONE: 3}, tmp_path / "model", "# card")
    found, card = load_baseline(tmp_path / "model", kind)
    sees, side = ("features", ARCHITECTURE["crop_size"]) if isinstance(model, GoalPolicy) else ("pixels", DRAWN.side)
    own = {} if isinstance(model, PixelPredictor) else {"encoder_sha256": model.encoder.sha256()}
    told = {"name": kind, "sha256": sha256, "sees": sees, "pixels": side, **own}
    assert card == {**told, "parameters": 1, "decisions": 2, ONE: 3}
    assert equal(weights_of(model), weights_of(found))
    assert not found.training
    with pytest.raises(BundleError, match=f"expected a baseline of kind 'behaviour_cloning' .* got '{kind}'"):
        load_baseline(tmp_path / "model", "behaviour_cloning")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="expected sha256"):
        load_baseline(tmp_path / "model", kind)


def test_a_planners_model_is_no_baseline_and_the_other_way_round(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "planner", "# card")
    with pytest.raises(BundleError, match="expected a baseline of kind 'inverse_dynamics'"):
        load_baseline(tmp_path / "planner", "inverse_dynamics")
    save_baseline(policy(), "inverse_dynamics", {}, tmp_path / "baseline", "# card")
    with pytest.raises(BundleError, match="expected format 'worldmodel/1'"):
        tiny_model_loaded(tmp_path / "baseline")
    broken = policy()
    with torch.no_grad():
        broken.proposer.trunk[0].weight[0, 0] = torch.nan  # type: ignore[index, operator]
    with pytest.raises(BundleError, match="NaN or infinity in trunk"):
        save_baseline(broken, "inverse_dynamics", {}, tmp_path / "nan", "# card")
    assert not (tmp_path / "nan").exists()


def tiny_model_loaded(folder: Path) -> Any:
    from worldmodel.bundle import load

    return load(folder)


@pytest.mark.parametrize("kind", VERBS["baseline"].options.choices("kind"))
def test_the_yaml_offers_what_the_verb_takes(kind: str) -> None:
    import inspect

    offered = VERBS["baseline"].options.compose([f"kind={kind}"])
    taken = inspect.signature(baseline).parameters
    assert set(offered) == set(taken)
    config: Any = {"pixel_prediction": PixelConfig, "dreamerv3": DreamerConfig, "dreamerv3_planning": DreamerConfig}
    config = config.get(kind, PolicyConfig)
    decided = {"action_dim", "proprio_dim", "target", "action_range", "frame_skip"}
    decided |= {"dreamerv3": {"compare"}, "dreamerv3_planning": {"reward", "span"}}.get(kind, set())
    assert set(offered["kind"]) - {"name", "batch_size", "warmup"} == set(config.__dataclass_fields__) - decided
    assert offered["kind"]["name"] == kind


def test_from_logs_to_driving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", f"out={tmp_path / 'data'}", "episodes=3", "steps=6", "workers=1"]) == 0
    build_model({**ARCHITECTURE, "crop_size": 128, "patch_size": 32}, 0).save_pretrained(tmp_path / "encoder")
    common = [f"data={tmp_path / 'data'}", f"encoder={tmp_path / 'encoder'}", "steps=2", "kind.batch_size=4"]
    sha256 = []
    for kind in ("behaviour_cloning", "inverse_dynamics", "pixel_prediction"):
        out, skip = tmp_path / kind, 2 if kind == "inverse_dynamics" else 1
        command = ["baseline", f"kind={kind}", f"out={out}", f"frame_skip={skip}", *common]
        assert main(command) == 0
        report = json.loads((out / "report.json").read_text())
        known = 12 // skip  # of two episodes; the last is held out
        assert (report["decisions"], report[ONE], report["kind"]) == (known, 1, kind)
        assert not (out / "checkpoints").exists()
        capsys.readouterr()
        assert main(command) == 0
        assert "complete already" in capsys.readouterr().out
        assert main([*command[:-2], "steps=3", command[-1]]) == 2
        assert "another settings" in capsys.readouterr().err
        sha256.append(report["model_sha256"])
        drive = [f"agent={kind}", f"baseline={out / 'model'}", "planner.num_samples=4", "planner.num_elites=2"]
        drive += ["planner.num_iterations=1", "episodes=1", f"out={tmp_path / 'row' / kind}"]
        assert main(["drive", *drive]) == 0
        summary = json.loads((tmp_path / "row" / kind / "summary.json").read_text())
        assert summary["failures"] == []
        assert summary["model"]["sha256"] == report["model_sha256"]
        assert (tmp_path / "row" / kind / "forecast.png").is_file() == (kind == "pixel_prediction")
        shutil.rmtree(tmp_path / "row" / kind)
    assert len(set(sha256)) == 3
    validation = json.loads((tmp_path / "pixel_prediction" / "report.json").read_text())["validation"]
    assert {len(values) for values in validation.values()} == {5}
    with Image.open(tmp_path / "pixel_prediction" / "forecast.png") as strip:
        assert strip.height > 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["agent=pixel_prediction"], "give baseline=DIR of a pixel_prediction"),
        (["agent=hold", "baseline=x"], "it is for agent=behaviour_cloning"),
        (["agent=inverse_dynamics", "baseline=absent"], "got absent: no such folder"),
    ],
)
def test_the_command_refuses(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drive", *words, f"out={tmp_path / 'row'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "row").exists()


def test_episodes_that_are_too_short_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", f"out={tmp_path / 'data'}", "episodes=2", "steps=3", "workers=1"]) == 0
    words = ["baseline", "kind=pixel_prediction", f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}"]
    assert main(words) == 2
    assert "expected training episodes of at least 5 frames, got at most 3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
