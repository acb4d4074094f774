"""The recipe of a robot that drives, in toy sizes: its logs in, a model out that finds its way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_model import ARCHITECTURE

import worldmodel
from worldmodel.cli import main
from worldmodel.data.layout import Layout
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.model import WorldModel
from worldmodel.pretrain.vjepa import build_model

SIDE, LENGTH = 16, 14
SMALL = ["motion_hidden=8", "roadmap_nodes=12", "token_width=4", "projector_hidden=16", "predictor_hidden=8"]
SMALL += ["time_to_go=robot"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `train` on a few logs of a robot on two wheels."""
    folder, rng, records = tmp_path_factory.mktemp("wheeled"), np.random.default_rng(0), []
    build_model(ARCHITECTURE, 0).save_pretrained(folder / "encoder")
    layout = Layout(5, 4, 2, {"above": (SIDE, SIDE)})
    for episode in range(4):
        pictures = rng.integers(0, 255, (LENGTH, SIDE, SIDE, 3), dtype=np.uint8)
        actions = rng.uniform(-1.0, 1.0, (LENGTH, 2)).astype(np.float32)
        heading = np.cumsum(0.5 * actions[:, 1])
        ahead = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        place = np.cumsum(0.1 * actions[:, :1] * ahead, axis=0)
        rollout = Rollout({"above": pictures}, np.concatenate([place, ahead], axis=1).astype(np.float32), actions)
        records.append(
            write_episode(folder / "data", layout, rollout, episode=episode, start=LENGTH * episode, task="go")
        )
    finalize(folder / "data", layout, records, tasks=["go"], extra={})
    words = [f"data={folder / 'data'}", f"encoder={folder / 'encoder'}", f"out={folder / 'run'}", "batch_size=4"]
    steps = [
        "steps=2",
        "track_steps=1",
        "track_rounds=0",
        "pose_steps=3",
        "refine_steps=1",
        "time_steps=3",
        "device=cpu",
    ]
    ahead_only = ["planning.horizon=2", "validate_task=navigate", "validate_episodes=1"]
    wheeled = ["predictor=wheeled", "planning=wheeled", *(f"predictor.{size}" for size in SMALL)]
    assert main(["train", *words, *steps, *wheeled, *ahead_only]) == 0
    return folder / "run"


def test_it_drives_by_its_roadmap_and_says_so(model: Path) -> None:
    report = json.loads((model / "report.json").read_text())
    assert report["settings"]["pose_steps"] == 3
    assert report["planning"]["failures"] == []
    assert report["validation"]["pose_still_8_m"] < 1.0, "metres, without the heading"
    loaded = worldmodel.load(model / "model")
    assert isinstance(loaded, WorldModel)
    assert loaded.config.planning["way"] == "roadmap"
    assert loaded.roadmap is not None
    assert float(loaded.roadmap.lengths.max()) > 0.0
    assert float(loaded.predictor.kinematics.gap) < 1.0
    assert report["settings"]["time_steps"] == 3
    assert loaded.time_to_go is not None
    assert 0.01 < float(loaded.time_to_go.pace) < 0.1, (
        "metres a decision: a tenth of the action, which is half on average"
    )


@pytest.mark.parametrize(("way", "share"), [("straight", 0.0), ("roadmap", 0.0), ("straight", 0.5)])
def test_the_way_is_a_matter_of_two_settings(model: Path, tmp_path: Path, way: str, share: float) -> None:
    quick = ["episodes=1", "planner.num_samples=8", "planner.num_elites=2", "planner.num_iterations=1"]
    command = ["drive", "task=navigate", f"model={model / 'model'}", f"out={tmp_path / 'd'}", *quick]
    assert main([*command, f"planning.way={way}", f"planning.time_share={share}"]) == 0
    summary = json.loads((tmp_path / "d" / "summary.json").read_text())
    assert summary["failures"] == []
    assert summary["planner_settings"]["way"] == way
    assert summary["planner_settings"]["time_share"] == share
