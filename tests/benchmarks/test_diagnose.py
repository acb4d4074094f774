"""`worldmodel diagnose`: a model that learned the world gets good verdicts, one that did not gets poor ones."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.diagnose import CHECKED, UNCHECKED, diagnose, findings_from, in_metres, measure
from benchmarks.diagnose_measure import Sample, energy_landscape, k_step_errors
from worldmodel.bundle import fingerprint, save
from worldmodel.cli import VERBS, main
from worldmodel.data.layout import Layout
from worldmodel.data.load import load_table
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.encoders import VJEPAEncoder
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.predictor import CompactPredictor
from worldmodel.pretrain.vjepa import build_model
from worldmodel.projector import PLACE_UNIT

HORIZON, REACH, PUSH = 4, 0.05, 0.04  # [m] the hand and the object go so far per unit of action
ENCODER = {
    "crop_size": 32, "patch_size": 16, "tubelet_size": 2, "frames_per_clip": 2, "hidden_size": 24,
    "num_hidden_layers": 1, "num_attention_heads": 1, "pred_hidden_size": 12, "pred_num_hidden_layers": 1,
    "pred_num_attention_heads": 1, "pred_num_mask_tokens": 1,
}  # fmt: skip


def world(windows: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z [W,H+1,1,13], proprio [W,H+1,3], actions [W,H,3] and object [W,H+1,3] of a world without friction."""
    generator = torch.Generator().manual_seed(seed)
    actions = (
        torch.rand(windows, HORIZON, 3, generator=generator) * 1.2
        - 0.6
        + torch.randn(windows, 1, 3, generator=generator).clamp(-0.4, 0.4)
    )
    moved = torch.cat([torch.zeros(windows, 1, 3), actions.cumsum(dim=1)], dim=1)
    hand = torch.rand(windows, 1, 3, generator=generator) * 0.2 + REACH * moved
    thing = torch.rand(windows, 1, 3, generator=generator) * 0.2 + PUSH * moved * torch.tensor([1.0, 1.0, 0.0])
    thing[..., 2] = 0.0
    scene = torch.randn(windows, HORIZON + 1, 4, generator=generator)
    z = torch.cat([thing[..., :2] / PLACE_UNIT, torch.full_like(hand[..., :1], -6.0), hand, scene, hand * 10], dim=-1)
    return z[:, :, None], hand, actions, thing


def drawn(windows: int = 48) -> Sample:
    z, hand, actions, thing = world(windows, 0)
    known, hands, _, things = world(60, 1)
    moved = (thing[:, -1] - thing[:, 0]).norm(dim=-1) > 0.03
    return Sample(z, hand, actions, thing, moved, known.flatten(0, 1), hands.flatten(0, 1), things.flatten(0, 1))


def blank() -> WorldModel:
    """Nothing moves, and nothing is read."""
    torch.manual_seed(0)
    config = ModelConfig(3, 3, 2, 4, 3, 4, 16, 2, 128, 1)
    return WorldModel(VJEPAEncoder(build_model(ENCODER, 0)), config, name="blank").eval()


@pytest.fixture(scope="module")
def learned() -> WorldModel:
    """The same, with dynamics fitted to the world."""
    model = blank()
    z, hand, actions, _ = world(200, 2)
    hands, pushes = hand[:, :-1], (model.place(z)[:, 1:] - model.place(z)[:, :-1]).flatten(0, 2)
    for member in model.members:
        assert isinstance(member, CompactPredictor)
        member.kinematics.fit(hands.flatten(0, 1), actions.flatten(0, 1), hand[:, 1:].flatten(0, 1))
        member.fourier.fit(hand.flatten(0, 1))
        solve(member.leave, lambda member=member: member(model.place(z)[:, :-1], actions, hands), pushes)
    return model.requires_grad_(False)


@torch.no_grad()
def solve(last: nn.Linear, call: Callable[[], Tensor], wanted: Tensor) -> None:
    """Fit the last layer in closed form: what enters it is caught while `call` runs."""
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    call()
    handle.remove()
    entered = seen[0].flatten(0, -2)
    found = torch.linalg.lstsq(F.pad(entered, (0, 1), value=1.0).double(), wanted.double(), driver="gelsd").solution
    last.weight.copy_(found[:-1].T)
    last.bias.copy_(found[-1])


def verdicts(model: WorldModel, s: Sample) -> dict[str, bool | None]:
    return {finding.title: finding.good for finding in findings_from(measure(model, s), s)}


def test_a_model_that_learned_the_world_is_said_to_be_good(learned: WorldModel) -> None:
    found = verdicts(learned, drawn())
    assert len(found) == 10
    assert [title for title, good in found.items() if not good] == []


def test_a_model_that_learned_nothing_is_said_to_be_poor() -> None:
    s = drawn()
    noise = torch.randn(s.probe_z.shape, generator=torch.Generator().manual_seed(3))
    noise[..., 7:] = 0.0
    found = verdicts(blank(), dataclasses.replace(s, probe_z=noise, z=s.z * 0 + s.z.mean()))
    assert [title for title, good in found.items() if good] == []


def test_errors_are_those_of_the_world_in_centimetres(learned: WorldModel) -> None:
    s = dataclasses.replace(drawn(), truth=None)
    found = k_step_errors(learned, s)
    still = (s.proprio[:, :1] - s.proprio[:, 1:]).norm(dim=-1).mean(dim=0) * 100
    np.testing.assert_allclose(found["hand"]["still"], still, rtol=1e-5)
    assert max(found["hand"]["model"] + found["object"]["model"]) < 1.0
    with torch.no_grad():
        stuck = k_step_errors(blank(), s)
    np.testing.assert_allclose(stuck["hand"]["model"], still, rtol=1e-5)


def test_the_landscape_is_a_valley_at_the_true_action(learned: WorldModel) -> None:
    curves = energy_landscape(learned, drawn())
    assert curves.shape == (3, 21)
    for curve in curves:
        lowest = int(curve.argmin())
        assert abs(lowest - 10) <= 2
        assert float(curve[0]) > 2 * float(curve[lowest])
        assert float(curve[-1]) > 2 * float(curve[lowest])


def test_an_action_that_moves_nothing_has_no_say(learned: WorldModel) -> None:
    s = drawn()
    numbers = measure(learned, s)
    slope = [1e-4 * offset for offset in range(21)]  # what is left of an action whose effect was not quite fitted to 0
    for extra in ([5.0] * 21, slope, slope[::-1]):
        curves = [*numbers["energy_landscape"], extra]
        (found,) = [
            finding
            for finding in findings_from({**numbers, "energy_landscape": curves}, s)
            if finding.title == "Is the true action the best one?"
        ]
        assert found.good is True
        assert found.verdict.count("+") + found.verdict.count("-0.") == 3
        assert "Left out: action 3, which changes the energy by less than 5%" in found.verdict


def test_only_metres_are_said_to_be_centimetres(learned: WorldModel) -> None:
    s = drawn()
    other = dataclasses.replace(s, metres=False)
    cm, raw = (k_step_errors(learned, each)["hand"]["still"] for each in (s, other))
    np.testing.assert_allclose(cm, 100 * np.array(raw), rtol=1e-6)
    said = [finding.verdict for finding in findings_from(measure(learned, other), other)]
    assert not [text for text in said if " cm" in text]
    assert in_metres(["x", "y", "ee_pos_z"])
    assert in_metres(["s0", "s1"])  # no names: taken at the word of docs/own_data.md
    assert not in_metres(["x", "y", "z", "gripper"])
    assert not in_metres(["shoulder_pan.pos_deg", "elbow"])


def write_data(root: Path, truth: bool, episodes: int = 6, length: int = 12) -> Path:
    """A white square, the object, on a floor; the arm is not in the picture."""
    rng = np.random.default_rng(0)
    layout = Layout(5, 3, 3, {"front": (32, 32)}, privileged_dim=3 if truth else None)
    records = []
    for episode in range(episodes):
        actions = rng.uniform(-1, 1, (length, 3)).astype(np.float32)
        places = np.cumsum(np.r_[rng.uniform(0.1, 0.2, (1, 3)), 0.03 * actions[:-1]], axis=0).astype(np.float32)
        frames = rng.integers(0, 30, (length, 32, 32, 3), dtype=np.uint8)
        for picture, (x, y, _) in zip(frames, (places * 80).astype(int).clip(0, 27), strict=True):
            picture[y : y + 5, x : x + 5] = 255
        made = Rollout({"front": frames}, places, actions, places if truth else None)
        records.append(write_episode(root, layout, made, episode=episode, start=episode * length, task="push"))
    finalize(root, layout, records, tasks=["push"], extra={})
    return root


@pytest.mark.parametrize("truth", [True, False])
def test_the_page_stands_alone(
    truth: bool, learned: WorldModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_data(tmp_path / "data", truth), tmp_path / "out"
    save(learned, tmp_path / "model", "")
    settings = [f"model={tmp_path / 'model'}", f"data={data}", f"out={out}", "horizon=4", "windows=16"]
    assert main(["diagnose", *settings]) == 0
    assert f"{out / 'index.html'}\n" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["config.yaml", "diagnosis.json", "index.html"]
    page, report = (out / "index.html").read_text(), json.loads((out / "diagnosis.json").read_text())
    assert page.count("<section>") == len(report["verdicts"]) == 10
    assert all(source.startswith("data:image/") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert not re.search(r"url\(|@import|<script|<link", page)
    assert ("no privileged column" in page) is not truth
    none = [title for title, item in report["verdicts"].items() if item["good"] is None]
    assert len(none) == (0 if truth else 4)
    assert main(["diagnose", *settings]) == 2
    assert "empty or new output folder" in capsys.readouterr().err


def test_what_cannot_be_measured_is_one_line(
    learned: WorldModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", False)
    save(learned, tmp_path / "model", "")
    cases = [
        ([f"model={tmp_path / 'model'}", "horizon=40"], "expected at least 5 windows of 41 frames"),
        ([f"model={tmp_path / 'none'}"], "no such folder"),
        ([f"model={tmp_path / 'model'}", "frame_skip=2", "horizon=2"], "got 6 and 3: name data of the same robot"),
    ]
    for settings, says in cases:
        assert main(["diagnose", f"data={data}", f"out={tmp_path / 'out'}", *settings]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()


def test_a_model_with_a_frame_skip_is_measured_at_its_own(tmp_path: Path) -> None:
    config = ModelConfig(6, 3, 2, 4, 3, 4, 16, 2, 16, 1, frame_skip=2)
    save(WorldModel(VJEPAEncoder(build_model(ENCODER, 0)), config, name="skips").eval(), tmp_path / "model", "")
    found = diagnose(model=tmp_path / "model", data=[str(write_data(tmp_path / "data", True, length=14))],
                     out=tmp_path / "out", horizon=2)  # fmt: skip
    assert found["windows"].startswith("5 of 2 decisions")  # 7 frames are left of 14, in one episode of 6
    assert len(found["energy_landscape"]) == 6


def test_what_training_held_out_is_what_is_measured(learned: WorldModel, tmp_path: Path) -> None:
    data, run = write_data(tmp_path / "data", True, length=20), tmp_path / "run"
    save(learned, run / "model", "")
    sizes = {"model": run / "model", "data": [str(data)], "horizon": 2, "windows": 17}

    def tell(**changes: object) -> None:
        split = {"train": [0, 1, 3, 4], "validation": [2, 5]}  # by another rule than today's: two episodes
        report = {"model_sha256": fingerprint(run / "model"), "data_sha256": load_table([str(data)]).sha256}
        (run / "split.json").write_text(json.dumps(split))
        (run / "report.json").write_text(json.dumps({**report, **changes}))

    assert diagnose(**sizes, out=tmp_path / "alone")["episodes"] == UNCHECKED
    assert UNCHECKED in (tmp_path / "alone" / "index.html").read_text()
    tell()
    known = diagnose(**{**sizes, "windows": 36}, out=tmp_path / "known")
    assert known["episodes"] == CHECKED
    assert CHECKED in (tmp_path / "known" / "index.html").read_text()
    assert known["windows"].startswith("36 of 2 decisions")  # of 18 in each of two episodes
    for number, change in enumerate(({"data_sha256": "of other folders"}, {"model_sha256": "of another run"})):
        tell(**change)
        assert diagnose(**sizes, out=tmp_path / str(number))["episodes"] == UNCHECKED


def test_bad_episodes_can_be_left_out_as_in_training(
    learned: WorldModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", False)
    save(learned, tmp_path / "model", "")
    (data / "data/chunk-000/file-002.parquet").write_bytes(b"cut short")
    words = ["diagnose", f"model={tmp_path / 'model'}", f"data={data}", "horizon=4", f"out={tmp_path / 'out'}"]
    assert main(words) == 2
    assert "skip_bad_episodes=true" in capsys.readouterr().err
    assert main([*words, "skip_bad_episodes=true"]) == 0
    assert "left out 1 of 6 episodes: [2]" in capsys.readouterr().out


def test_the_options_are_those_of_the_function() -> None:
    assert {*VERBS["diagnose"].options.compose()} == {*inspect.signature(diagnose).parameters} - {"config"}
