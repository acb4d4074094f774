"""`evaluate_plans` is the truth: the cost that stepping through the world would have given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from env_worlds import PLACE, draw, roll, same

from envs.goal_env import GoalEnv

DIVERGING = 1e9  # [rad/s] finite and less than MuJoCo calls bad, so that the world falls apart one time step later

# [m] what a task adds to the distance at most: the other cube, the grasp, the way through the doorway.
NUDGE = {"jaco_rearrange": 0.4, "jaco_place": 1.0, "navigate": 2.4}


def plans(world: GoalEnv, count: int, horizon: int, seed: int) -> Any:
    return draw(world, count * horizon, seed).reshape(count, horizon, -1)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_agrees_with_stepping(jaco: Any, seed: int) -> None:
    jaco.reset(seed=seed)
    policy = jaco.exploration_policy(np.random.default_rng(seed))
    for _ in range(seed * 8):
        jaco.step(policy())
    candidates, state = plans(jaco, 4, 5, seed), jaco.get_state()
    cost = jaco.evaluate_plans(candidates)
    for row, actions in zip(cost, candidates, strict=True):
        jaco.set_state(state)
        for expected, action in zip(row, actions, strict=True):
            jaco.step(action)
            positions = jaco._physics.data.qpos
            assert jaco._plan_cost(jaco.pinch(), positions) == pytest.approx(expected, abs=0.001)


def test_its_cost_is_at_least_the_distance_and_falls_towards_the_goal(world: GoalEnv) -> None:
    world.reset(seed=2)
    action = draw(world, 1, seed=2)
    cost = world.evaluate_plans(action[None])[0, 0]
    distance = world.step(action[0])[4]["distance"]
    assert distance - 0.001 <= cost <= distance + NUDGE.get(world.task_name, 0.1)
    PLACE[world.task_name](world, 0.0)
    assert world.evaluate_plans(np.zeros_like(action[None]))[0, 0] < cost


def test_shapes(world: GoalEnv) -> None:
    world.reset(seed=0)
    for count, horizon in [(1, 1), (1, 4), (3, 2)]:
        cost = world.evaluate_plans(plans(world, count, horizon, seed=0))
        assert cost.shape == (count, horizon)
        assert cost.dtype == np.float64
        assert np.isfinite(cost).all()


def test_it_leaves_the_world_as_it_was(world: GoalEnv) -> None:
    world.reset(seed=4)
    roll(world, draw(world, 3, seed=4))
    before, picture = world.get_state(), world.render()
    expected = roll(world, draw(world, 3, seed=5))
    world.set_state(before)
    candidates = plans(world, 4, 3, seed=4)
    kept = candidates.copy()
    world.evaluate_plans(candidates)
    assert same(candidates, kept)
    assert same(world.get_state(), before)
    assert same(world.render(), picture)
    assert same(roll(world, draw(world, 3, seed=5)), expected)


def test_each_candidate_is_judged_by_itself(world: GoalEnv) -> None:
    world.reset(seed=6)
    candidates = plans(world, 6, 4, seed=6)
    cost = world.evaluate_plans(candidates)
    assert same(world.evaluate_plans(candidates[::-1]), cost[::-1].copy())
    assert same(world.evaluate_plans(candidates[2:3]), cost[2:3].copy())
    assert same(world.evaluate_plans(10.0 * np.sign(candidates)), world.evaluate_plans(np.sign(candidates)))


def test_a_plan_that_breaks_the_physics_costs_infinity(
    jaco: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it is
    jaco.reset(seed=0)
    jaco._physics.data.qvel[0] = DIVERGING
    cost = jaco.evaluate_plans(plans(jaco, 2, 4, seed=0))
    assert not np.isfinite(cost[:, -1]).any()
    assert not np.isnan(cost).any()
    jaco.reset(seed=0)
    assert np.isfinite(jaco.evaluate_plans(plans(jaco, 2, 4, seed=0))).all()
