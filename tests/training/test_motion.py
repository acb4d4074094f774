"""How a wheeled robot moves is learned from its logs, alike in all members, and no step leads where no log went."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tiny_model import tiny_model

from worldmodel.data.table import Table
from worldmodel.encoders import VJEPAEncoder
from worldmodel.model import WorldModel
from worldmodel.predictor import CompactPredictor, Kinematics
from worldmodel.training.fit import fit_statistics
from worldmodel.training.frames import TrackSettings
from worldmodel.training.motion import fit_motion

CPU, WINDOW = torch.device("cpu"), 5
WALL = 1.0  # [m] the robot cannot get further from the middle, in x or y


def driven(episodes: int = 120, length: int = 20) -> Table:
    """Logs of a robot on two wheels: x, y [m], cosine and sine of its heading."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (episodes, length, 2)).astype(np.float32)
    place, heading = rng.uniform(-0.9, 0.9, (episodes, 2)), rng.uniform(-np.pi, np.pi, episodes)
    poses = []
    for step in range(length):
        ahead = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        poses.append(np.concatenate([place, ahead], axis=1))
        place = np.clip(place + 0.12 * actions[:, step, :1] * ahead, -WALL, WALL)
        heading = heading + 0.5 * actions[:, step, 1]
    count = episodes * length
    proprio = np.stack(poses, axis=1).reshape(count, 4).astype(np.float32)
    nothing = np.zeros((count, 1, 1, 3), np.uint8)
    truth = np.full((count, 3), np.nan, np.float32)
    return Table(nothing, actions.reshape(count, 2), proprio, truth, np.repeat(np.arange(episodes), length))


@pytest.fixture(scope="module")
def table() -> Table:
    return driven()


def wheeled(motion_hidden: int) -> WorldModel:
    plain = tiny_model()
    assert isinstance(plain.encoder, VJEPAEncoder)
    config = dataclasses.replace(
        plain.config, action_dim=2, proprio_dim=4, position_dim=2, motion_hidden=motion_hidden, roadmap_nodes=60
    )
    return WorldModel(plain.encoder, config)


def fitted(table: Table, folder: Path, steps: int, motion_hidden: int = 32) -> WorldModel:
    torch.manual_seed(0)
    model = wheeled(motion_hidden)
    fit_statistics(model, table, table.split()[0])
    if motion_hidden:
        fit_motion(model, table, TrackSettings(steps, 0, 3e-3, 0, 128), WINDOW, folder, CPU, lambda _: None)
    return model


@torch.no_grad()
def error(model: WorldModel, table: Table) -> float:
    """Mean distance [m] from the truth after rollouts on held-out episodes."""
    rows = table.window_starts(WINDOW + 1, table.split()[1])[:, None] + np.arange(WINDOW + 1)
    proprio, actions = torch.from_numpy(table.proprio[rows]), torch.from_numpy(table.actions[rows])
    _, poses = model.rollout(torch.zeros(len(rows), 1, 2), proprio[:, 0], actions[:, None, :WINDOW])
    return float(model.position(poses[:, 0, -1] - proprio[:, -1]).norm(dim=-1).mean())


def test_it_learns_that_wheels_roll_where_they_point(table: Table, tmp_path: Path) -> None:
    linear, learned = fitted(table, tmp_path, 0, motion_hidden=0), fitted(table, tmp_path, 300)
    assert error(learned, table) < 0.3 * error(linear, table)
    kinematics = [cast(CompactPredictor, member).kinematics for member in learned.members]
    assert len(kinematics) > 1
    for name, value in kinematics[0].state_dict().items():
        assert torch.equal(value, kinematics[1].state_dict()[name])


def test_it_resumes_when_done_and_stays_frozen(table: Table, tmp_path: Path) -> None:
    first = fitted(table, tmp_path, 3)
    again = fitted(table, tmp_path, 300)
    assert error(again, table) == error(first, table), "the finished fit is taken as it is"
    residual = again.predictor.kinematics.residual
    assert residual is not None
    assert not any(weight.requires_grad for weight in residual.parameters())


def test_an_untrained_residual_changes_nothing(table: Table, tmp_path: Path) -> None:
    with_one, without = wheeled(16), wheeled(0)
    for model in (with_one, without):
        fit_statistics(model, table, table.split()[0])
    assert error(with_one, table) == error(without, table)


def test_the_fence_holds_the_logged_places(table: Table) -> None:
    model = wheeled(0)
    fit_statistics(model, table, table.split()[0])
    kinematics = model.predictor.kinematics
    assert model.roadmap is not None
    assert torch.equal(kinematics.known, model.roadmap.nodes)
    at = torch.from_numpy(table.proprio)
    assert float((at[:, None, :2] - kinematics.known).norm(dim=-1).amin(dim=1).max()) <= float(kinematics.gap) + 0.05


def fenced() -> Kinematics:
    """A robot that goes as it is told, and was only ever on the x axis, from 0 to 1 and from 2 to 3 m."""
    kinematics = Kinematics(3, 2, places=40, position_dim=2)
    kinematics.gain.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    along = torch.cat([torch.linspace(0.0, 1.0, 20), torch.linspace(2.0, 3.0, 20)])
    kinematics.fence(torch.stack([along, torch.zeros(40)], dim=1), torch.tensor(0.1))
    return kinematics


@pytest.mark.parametrize(
    ("start", "step", "end"),
    [
        ((0.5, 0.0), (0.3, 0.05), (0.8, 0.05)),  # among the places
        ((0.9, 0.0), (0.3, 0.0), (0.9, 0.0)),  # off their end
        ((0.5, 0.0), (0.0, 0.2), (0.5, 0.0)),  # to their side
        ((0.9, 0.0), (1.3, 0.0), (2.2, 0.0)),  # over a gap that one step takes
        ((1.3, 0.0), (-0.1, 0.0), (1.2, 0.0)),  # from where no log was, back
        ((1.3, 0.0), (0.1, 0.0), (1.3, 0.0)),  # and further off
    ],
)
def test_a_stopped_robot_stays_and_still_turns(
    start: tuple[float, float], step: tuple[float, float], end: tuple[float, float]
) -> None:
    pose, action = torch.tensor([[*start, 7.0]]), torch.tensor([step])
    turned = 7.0 + sum(step)
    torch.testing.assert_close(fenced()(pose, action), torch.tensor([[*end, turned]]))


def test_a_fence_survives_autocast() -> None:
    """Rounded to bf16, a place is off by centimetres."""
    start = torch.tensor([[0.9, 0.0, 0.0]])
    steps = torch.tensor([[0.195, 0.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(fenced()(start, steps)[0, 0]) == pytest.approx(1.095, abs=2e-3)
