"""When only the arm has to move: scenes that look alike, and objects that are in their places from the start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_model import tiny_model

from worldmodel.agent import PlanningAgent
from worldmodel.energy import Goal
from worldmodel.settled import settled

FAR, NEAR = 1e-9, 1e9  # between any two pictures, no scene is nearer than the one, and every scene than the other


def frames(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)


def looked(agent: PlanningAgent, *pictures: int) -> list[bool]:
    """Whether the scene counts as settled, picture after picture, on the way to picture 0."""
    agent.reset(frames(1), [1])
    found = []
    for picture in pictures:
        agent.act({"pixels": frames(1, picture), "proprio": np.full((1, 3), 0.1, np.float32)})
        assert agent._goal is not None
        found.append(bool(agent._goal.settled))
    return found


@pytest.mark.parametrize(
    ("below", "within", "settled"),
    [
        (NEAR, 1e-6, True),  # alike
        (FAR, 1e-6, False),  # unlike, and something is elsewhere
        (FAR, 10.0, True),  # unlike, but the object is in its place: nothing to move, or not there at all
        (0.0, 10.0, False),  # this model compares no scenes
    ],
)
def test_a_scene_is_settled_from_the_start_or_is_not(below: float, within: float, settled: bool) -> None:
    agent = tiny_model().agent(rest=True, settled_below=below, settled_within=within)
    assert looked(agent, 1, 2) == [settled, settled]


@torch.no_grad()
@pytest.mark.parametrize(("unit", "alike"), [(1e-6, True), (1e6, False)])
def test_scenes_that_look_alike_are_not_settled_if_an_object_has_surely_moved(unit: float, alike: bool) -> None:
    """How far the tracker's places are apart, against what it says of its own error."""
    model = tiny_model()
    last = model.tracker.body.mlp[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.mul_(unit)
    z = model.encode(torch.from_numpy(np.concatenate([frames(1), frames(1, 1)]))[:, None])[:, 0]
    nothing = torch.zeros(1, dtype=torch.bool)
    goal = Goal(z[1:], model.decode_proprio(z[1:]), model.locate(model.place(z[1:])), nothing, nothing[:, None])
    assert settled(model, z[:1], goal, "l2", NEAR, reach=0.0).tolist() == [alike]
