"""Goals along logs: where the exploring behaviour gets in so many decisions, from a start of data collection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from env_worlds import draw, roll, same

from envs.errors import SceneError

SEED = 100_000


def next_log(world: Any, seed: int | None, decisions: int) -> tuple[Any, Any, Any]:
    """Start state of the first log of a seed, or the one after the last, and its end: the position and the picture."""
    world.reset(seed=seed, options={"explore": True})
    start, policy = world.get_state(), world.exploration_policy(world.np_random)
    for _ in range(decisions):
        world._advance(policy())
    return start, world.position(), world.render()


def test_the_goal_is_where_a_log_gets(world: Any) -> None:
    for seed in (SEED, SEED + 1):
        _, info = world.reset(seed=seed, options={"goal_after": 12})
        accepted, goal = world.get_state(), world._goal_position.copy()
        assert info["distance"] > world.success_radius
        assert not info["success"]
        start, position, picture = next_log(world, seed, 12)
        while not same(start, accepted):  # the log of a goal that could not be seen, or was reached already
            start, position, picture = next_log(world, None, 12)
        assert world.is_seen()
        assert same(goal, position)
        assert same(info["goal"], picture)


def test_it_follows_from_the_seed(world: Any) -> None:
    options, actions = {"goal_after": 12}, draw(world, 3, seed=0)
    first = world.reset(seed=SEED, options=options), roll(world, actions)
    world.reset(seed=SEED + 1, options=options)
    assert same((world.reset(seed=SEED, options=options), roll(world, actions)), first)
    assert not same(world.reset(seed=SEED + 1, options=options)[1]["goal"], first[0][1]["goal"])


def test_a_goal_that_nothing_leads_to_is_said_so(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.goal_env.LOGS", 2)
    monkeypatch.setattr(type(world), "exploration_policy", lambda self, rng: lambda: np.zeros(self.action_space.shape))
    with pytest.raises(SceneError, match="expected a goal 1 decisions into one of 2 logs"):
        world.reset(seed=SEED, options={"goal_after": 1})
