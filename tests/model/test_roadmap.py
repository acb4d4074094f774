"""The roadmap's ways go round walls, and end at the goal itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny_model import tiny_model

from worldmodel.encoders import VJEPAEncoder
from worldmodel.energy import straight
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.roadmap import FAR, Roadmap, spread_out


def walks(count: int = 300, length: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Random walks of a robot of radius 0.12 in the square of side 2, with a wall at x = 0 but for |y| < 0.25.

    Places [n,2], episode [n].
    """
    rng, rows, episode = np.random.default_rng(0), [], []
    for index in range(count):
        at = np.array([rng.choice([-1, 1]) * rng.uniform(0.15, 0.95), rng.uniform(-0.95, 0.95)])
        aim = rng.uniform(-np.pi, np.pi)
        for _ in range(length):
            aim += 0.5 * rng.normal()
            then = at + 0.08 * np.array([np.cos(aim), np.sin(aim)])
            inside = abs(then[0]) < 0.12 and abs(then[1]) > 0.25
            at, aim = (at, aim + 2.0) if inside or np.abs(then).max() > 1.0 else (then, aim)
            rows.append(at)
            episode.append(index)
    return np.array(rows, np.float32), np.array(episode, np.int64)


@pytest.fixture(scope="module")
def roadmap() -> Roadmap:
    found = Roadmap(250, 2)
    found.fit(*walks())
    return found


def test_a_way_through_the_doorway_is_as_long_as_it_is(roadmap: Roadmap) -> None:
    place, goal = torch.tensor([-0.3, 0.8]), torch.tensor([0.3, 0.8])
    true = 2.0 * float(np.hypot(0.3 - 0.12, 0.8 - 0.25)) + 0.24  # to the doorway, through it and back
    assert true < float(roadmap(place, goal)) < 1.25 * true


def test_in_the_open_it_is_hardly_longer_than_the_straight_way(roadmap: Roadmap) -> None:
    rng = np.random.default_rng(1)
    ends = torch.from_numpy(rng.uniform([-0.9, -0.9], [-0.2, 0.9], (2, 200, 2)).astype(np.float32))
    direct, way = (ends[0] - ends[1]).norm(dim=-1), roadmap(ends[0], ends[1])
    assert bool((way >= direct - 1e-5).all())
    assert float((way / direct.clamp_min(0.1)).median()) < 1.15
    assert torch.equal(roadmap(ends[0], ends[0]), torch.zeros(200))


def test_descending_it_leads_to_the_goal_in_the_other_room(roadmap: Roadmap) -> None:
    angles = torch.arange(16) * (2.0 * np.pi / 16)
    moves = 0.08 * torch.stack([angles.cos(), angles.sin()], dim=-1)
    at, goal = torch.tensor([-0.7, 0.8]), torch.tensor([0.6, -0.5])
    for _ in range(60):
        at = at + moves[roadmap(at + moves, goal).argmin()]
    assert float((at - goal).norm()) < 0.1


def test_rooms_that_no_log_connects_are_far_apart() -> None:
    places, episode = walks()
    kept = (places[:, 0] < -0.1) | (places[:, 0] > 0.1)
    apart = episode * 2 + (places[:, 0] > 0.0)
    roadmap = Roadmap(200, 2)
    roadmap.fit(places[kept], apart[kept])
    assert float(roadmap(torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 0.0]))) >= FAR
    assert bool(torch.isfinite(roadmap.lengths).all()), "a bundle holds finite numbers only"


def test_places_are_covered_evenly() -> None:
    places = np.random.default_rng(0).uniform(-1.0, 1.0, (5000, 2)).astype(np.float32)
    picked, nearest, gap = spread_out(places, 100)
    distances = np.linalg.norm(places[:, None] - places[picked], axis=2)
    np.testing.assert_array_equal(nearest, distances.argmin(axis=1))
    assert gap == pytest.approx(float(distances.min(axis=1).max()))
    assert gap < 0.25, "a square grid of 100 would leave 0.14"


def test_it_broadcasts_as_the_energy_calls_it(roadmap: Roadmap) -> None:
    rng = torch.Generator().manual_seed(0)
    poses, goals = torch.rand(2, 5, 3, 2, generator=rng), -torch.rand(2, 2, generator=rng)
    together = roadmap(poses, goals[:, None, None])
    assert together.shape == (2, 5, 3)
    torch.testing.assert_close(together[1, 4], roadmap(poses[1, 4], goals[1].expand(3, 2)))


def test_a_model_without_one_says_so_and_its_bundle_is_as_before() -> None:
    model = tiny_model()
    assert not [name for name in model.state_dict() if "roadmap" in name or "residual" in name]
    with pytest.raises(ConfigError, match="train with roadmap_nodes"):
        model.agent(way="roadmap")


def test_the_rest_of_the_pose_is_no_part_of_the_goal() -> None:
    plain = tiny_model()
    config = dataclasses.replace(plain.config, proprio_dim=4, position_dim=2, roadmap_nodes=5)
    assert isinstance(plain.encoder, VJEPAEncoder)
    model = WorldModel(plain.encoder, config)
    pose, goal = torch.tensor([3.0, 4.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, -1.0, 0.0])
    assert float(model.ways("straight").robot(pose, goal)) == pytest.approx(5.0)
    assert float(plain.ways("straight").robot(pose[:3], goal[:3])) == float(straight(pose[:3], goal[:3]))
    assert "roadmap.nodes" in model.state_dict()
