"""Data of others trains unchanged to a finished model: what lerobot wrote, and mp4 with two cameras and 7-D actions."""

from __future__ import annotations

import json
from pathlib import Path

import foreign
import numpy as np
import pytest
import torch
from spoil import change_column, copy, put, write_lengths, write_noise
from tiny_model import ARCHITECTURE, TRAIN

import worldmodel
from worldmodel.cli import main
from worldmodel.data.table import Table
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training.assumptions import doubts


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    build_model(ARCHITECTURE, 0).save_pretrained(folder)
    return folder


def train(root: Path, encoder: Path, *words: str) -> Path:
    """Train with toy sizes; the folder of the run."""
    out = root.parent / "out"
    assert main(["train", f"data={root}", f"encoder={encoder}", f"out={out}", *TRAIN, *words]) == 0
    return out


def rolls(out: Path, action_dim: int, proprio_dim: int) -> None:
    """The finished bundle loads and predicts with the data's own dimensions."""
    model = worldmodel.load(out / "model")
    assert (model.config.action_dim, model.config.proprio_dim) == (action_dim, proprio_dim)
    z = model.encode(torch.zeros(1, 1, 48, 64, 3, dtype=torch.uint8))[:, 0]
    path, poses = model.rollout(model.place(z), torch.zeros(1, proprio_dim), torch.zeros(1, 3, 4, action_dim))
    assert torch.isfinite(path).all()
    assert poses.shape == (1, 3, 4, proprio_dim)


@pytest.mark.parametrize(("name", "action", "proprio"), [("lerobot_v3_image", 3, 3), ("lerobot_v3_video", 4, 6)])
def test_what_lerobot_wrote_trains(name: str, action: int, proprio: int, encoder: Path, tmp_path: Path) -> None:
    out = train(copy(name, tmp_path), encoder)
    rolls(out, action, proprio)
    assert json.loads((out / "split.json").read_text()) == {"train": [0, 1], "validation": [2]}


def test_two_cameras_seven_actions_several_files(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = foreign.make_two_cameras(tmp_path / "data")
    change_column(root, "action", put(1, [float("nan")] * 7))
    arguments = ["train", f"data={root}", f"encoder={encoder}", f"out={tmp_path / 'out'}", *TRAIN]
    assert main(arguments) == 2
    assert "got wrist, front in" in capsys.readouterr().err
    assert main([*arguments, "camera=wrist"]) == 2
    refusal = capsys.readouterr().err.splitlines()[-1]
    assert "row 1 of 'action' of episode 0" in refusal
    assert f"worldmodel check data={root}" in refusal
    assert not (tmp_path / "out").exists()
    out = train(root, encoder, "camera=wrist", "skip_bad_episodes=true")
    rolls(out, 7, 5)
    report = json.loads((out / "report.json").read_text())
    assert (report["camera"], report["frame_skip"], report["data"]["skipped"]) == ("wrist", 1, [0])
    assert (report["data"]["train"], report["data"]["validation"]) == (3, 1)
    assert "the hand's position in metres, but '0' spans" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ((12, 12, 5), "error: expected validation episodes of at least 9 frames, got at most 5 in"),
        ((12, 12, 8, 8, 8, 5), "error: expected validation episodes of at least 9 frames, got at most 5 in"),
        ((5, 12, 12), "1 of 2 training episodes have fewer than 9 frames"),
        ((12,) * 39 + (5,), "1 of 2 validation episodes have fewer than 9 frames"),
    ],
)
def test_short_episodes_of_both_kinds_are_counted(
    lengths: tuple[int, ...], says: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_lengths(tmp_path / "data", lengths)
    arguments = ["train", f"data={root}", f"encoder={encoder}", f"out={tmp_path / 'out'}", *TRAIN]
    assert main(arguments) == (2 if says.startswith("error") else 0)
    captured = capsys.readouterr()
    assert says in captured.out + captured.err
    if not says.startswith("error"):
        assert json.loads((tmp_path / "out/report.json").read_text())["validation"]["pose_after_8_m"] > 0


def test_a_frame_skip_joins_the_actions_of_the_model(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_noise(tmp_path / "data", 18, 16)
    out = train(root, encoder, "frame_skip=2")
    rolls(out, 4, 2)
    assert json.loads((out / "report.json").read_text())["frame_skip"] == 2
    arguments = ["train", f"data={root}", f"encoder={encoder}", f"out={tmp_path / 'three'}", *TRAIN]
    assert main([*arguments, "frame_skip=3"]) == 2
    assert "expected training episodes of at least 9 frames, got at most 6 in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("actions", "proprio", "names", "parts"),
    [
        (1.0, 0.05, ("x", "y"), []),
        (1.0, 0.05, ("s0", "s1"), []),
        (1.0, 0.05, ("ee_pos_x", "ee_pos_y"), []),
        (1.0, 0.05, ("shoulder_pan", "y"), ["hand's position in metres, but one is called 'shoulder_pan'"]),
        (1.0, 20.0, ("x", "y"), ["hand's position in metres, but 'x' spans"]),
        (0.02, 2.5, ("x", "y"), []),
        (90.0, 0.0005, ("x", "y"), []),
    ],
)
def test_what_looks_otherwise_than_assumed(
    actions: float, proprio: float, names: tuple[str, str], parts: list[str]
) -> None:
    rng = np.random.default_rng(0)
    moves = (actions * rng.uniform(-1, 1, (400, 2))).astype(np.float32)
    moves[0] = actions
    places = (proprio * np.concatenate([np.zeros((1, 2)), np.cumsum(moves[:-1], axis=0)])).astype(np.float32)
    table = Table(np.zeros((400, 1, 1, 3), np.uint8), moves, places, places, np.repeat(np.arange(20), 20))
    notes = doubts(table, names, 2)
    assert len(notes) == len(parts)
    assert all(part in note for part, note in zip(parts, notes, strict=True))


def test_absolute_targets_are_noticed() -> None:
    rng = np.random.default_rng(0)
    places = np.cumsum(0.1 * rng.uniform(-1, 1, (400, 2)), axis=0).astype(np.float32)
    targets = np.clip(np.roll(places, -1, axis=0), -1, 1)
    table = Table(np.zeros((400, 1, 1, 3), np.uint8), targets, places, places, np.repeat(np.arange(20), 20))
    assert "absolute targets should be turned into differences" in doubts(table, ("x", "y"), 2)[0]
    table = Table(table.frames, targets, 0 * places, places, table.episode)
    assert any("never changes" in note for note in doubts(table, ("x", "y"), 2))
