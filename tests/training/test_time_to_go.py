"""The time to go is learned from logs that wander: around walls, and over ways that no single log went."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from scipy.stats import spearmanr
from tiny_model import tiny_model

from worldmodel.bundle import load, save
from worldmodel.data.table import Table
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import ConfigError, TrainingError
from worldmodel.model import WorldModel
from worldmodel.time_to_go import TimeToGo
from worldmodel.training.frames import TrackSettings
from worldmodel.training.time_to_go import fit_time_to_go, pace_of

CPU, SIDE, CELL = torch.device("cpu"), 7, 0.1  # cells a side, metres a cell
MOVES = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])


def goes_through(here: np.ndarray, there: np.ndarray) -> bool:
    """A wall parts the columns 3 and 4, except in the bottom row."""
    inside = bool(((there >= 0) & (there < SIDE)).all())
    return inside and not ({int(here[0]), int(there[0])} == {3, 4} and here[1] > 0)


def true_steps() -> np.ndarray:
    """The least decisions between any two cells [S*S,S*S], by search in the graph."""
    cells = np.array(list(product(range(SIDE), repeat=2)))
    links = [(a, b) for a, b in product(range(len(cells)), repeat=2) if abs(cells[a] - cells[b]).sum() == 1]
    open_ones = np.array([(a, b) for a, b in links if goes_through(cells[a], cells[b])]).T
    graph = coo_array((np.ones(open_ones.shape[1]), tuple(open_ones)), shape=(len(cells),) * 2)
    return np.asarray(shortest_path(graph))


def wandered(episodes: int = 300, length: int = 15) -> Table:
    """Logs of something that goes on as it went, mostly, and is stopped by walls; it is its own robot."""
    rng, poses = np.random.default_rng(0), []
    for _ in range(episodes):
        here, move = rng.integers(0, SIDE, 2), MOVES[rng.integers(4)]
        for _ in range(length):
            poses.append(here)
            move = MOVES[rng.integers(4)] if rng.random() < 0.3 else move
            here = here + move if goes_through(here, here + move) else here
    proprio = CELL * np.array(poses, np.float32)
    count = len(proprio)
    nothing, truth = np.zeros((count, 1, 1, 3), np.uint8), np.full((count, 3), np.nan, np.float32)
    return Table(nothing, np.zeros((count, 2), np.float32), proprio, truth, np.repeat(np.arange(episodes), length))


@pytest.fixture(scope="module")
def table() -> Table:
    return wandered()


def fitted(table: Table, folder: Path, steps: int) -> TimeToGo:
    torch.manual_seed(0)
    head, places = TimeToGo(2, 2, hidden=64), torch.from_numpy(table.proprio)[:, None]
    fit_time_to_go(head, table, places, TrackSettings(steps, 0, 3e-3, 0), folder, CPU, lambda _: None)
    return head


def test_it_says_what_a_search_in_the_true_graph_says(table: Table, tmp_path: Path) -> None:
    head, truth = fitted(table, tmp_path, 1000), true_steps()
    cells = CELL * torch.tensor(list(product(range(SIDE), repeat=2)), dtype=torch.float32)
    with torch.no_grad():
        told = head.decisions(cells[:, None], cells[:, None], cells).numpy()
    straight = torch.cdist(cells, cells).numpy()
    assert spearmanr(told.ravel(), truth.ravel())[0] > 0.97
    assert spearmanr(straight.ravel(), truth.ravel())[0] < 0.8
    detour = truth * CELL > 2.0 * straight.clip(CELL)
    assert detour.sum() > 50
    assert spearmanr(told[detour], truth[detour])[0] > 0.85
    assert spearmanr(straight[detour], truth[detour])[0] < 0.6
    assert 0.8 < np.median(told[detour] / truth[detour]) < 1.8, "the best of logs that wander, not the best there is"
    assert truth.max() > 15, "further than a log is long: such ways are put together from several"
    assert told[truth > 14].mean() > 12
    torch.testing.assert_close(head(cells, cells, cells[:1]), head.pace * head.decisions(cells, cells, cells[:1]))


def test_it_resumes_when_done(table: Table, tmp_path: Path) -> None:
    first, again = fitted(table, tmp_path, 2), fitted(table, tmp_path, 50)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_pace_is_that_of_what_moves() -> None:
    at = torch.tensor([0.0, 0.0, 0.0, 0.04, 0.08, 0.08, 0.08, 0.12])
    places = torch.stack([at, torch.zeros(8)], dim=1)[:, None]
    assert pace_of(places, np.arange(7)) == pytest.approx(0.04)
    with pytest.raises(TrainingError, match=r"expected logs in which what is timed moves, .*predictor\.time_to_go"):
        pace_of(torch.ones(8, 2, 3), np.arange(7))


def timed(things: str | None) -> WorldModel:
    plain = tiny_model()
    assert isinstance(plain.encoder, VJEPAEncoder)
    torch.manual_seed(1)
    return WorldModel(plain.encoder, dataclasses.replace(plain.config, time_to_go=things, position_dim=2), "timed")


@torch.no_grad()
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_time_in_a_way(share: float) -> None:
    rng = torch.Generator().manual_seed(0)
    poses, others = torch.rand(4, 3, generator=rng), torch.rand(4, 3, generator=rng)
    robot, objects = timed("robot"), timed("objects")
    metres, time = (poses - others)[:, :2].norm(dim=-1), robot.time_to_go
    assert time is not None
    told = time(poses, poses[:, :2], others[:, :2])
    torch.testing.assert_close(robot.ways("straight", share).robot(poses, others), (1 - share) * metres + share * told)
    torch.testing.assert_close(
        objects.ways("straight", share).robot(poses, others), metres, msg="the objects are timed"
    )
    time = objects.time_to_go
    assert time is not None
    place, goal = poses[:, None, :2] + 0.1, others[:, None, :2]
    told = time(poses[:, None], place, goal)
    wanted = (1 - share) * (place - goal).norm(dim=-1) + share * told
    torch.testing.assert_close(objects.ways("straight", share).objects(poses[:, None], place, goal), wanted)


def test_candidates_cost_what_the_time_to_go_says() -> None:
    model = timed("objects").eval()
    seen = {"pixels": np.full((1, 32, 32, 3), 90, np.uint8), "proprio": np.full((1, 3), 0.1, np.float32)}
    goals = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    candidates = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    costs = []
    for share in (0.0, 0.5, 1.0):
        agent = model.agent(time_share=share, settled_below=0.0, settled_within=0.0, pessimism=0.0)
        agent.reset(goals, [0])
        costs.append(agent.cost(seen)(candidates))
    assert not torch.allclose(costs[0], costs[2])
    torch.testing.assert_close(costs[1], (costs[0] + costs[2]) / 2)


def test_a_bundle_keeps_it_and_a_model_without_one_says_so(tmp_path: Path) -> None:
    model = timed("robot")
    save(model, tmp_path / "timed", "card")
    found = load(tmp_path / "timed")
    assert isinstance(found, WorldModel)
    assert found.time_to_go is not None
    assert model.time_to_go is not None
    for name, value in model.time_to_go.state_dict().items():
        assert torch.equal(value, found.time_to_go.state_dict()[name])
    assert not [name for name in tiny_model().state_dict() if "time" in name]
    with pytest.raises(ConfigError, match=r"expected time_share=0 .* got 0\.5: .*predictor\.time_to_go"):
        tiny_model().agent(time_share=0.5)
