"""Starts, goals and success."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import CLASSES, JACO, PLACE, centre, draw, episodes, red, roll, same

from envs.arm.controller import WORKSPACE_HIGH, WORKSPACE_LOW
from envs.arm.push import CUBE_HALF, CUBE_HIGH, CUBE_LOW
from envs.goal_env import GoalEnv

MOVING_STARTS = {"dmc_reacher"}  # its starts are taken from the middle of a log


@pytest.fixture(scope="module")
def starts(env: Any) -> list[tuple[Any, ...]]:
    return episodes(env.spec.id)


def test_the_goal_is_not_reached_at_the_start(world: GoalEnv, starts: list[Any]) -> None:
    assert not any(info["success"] for _, info, _, _ in starts)
    assert min(info["distance"] for _, info, _, _ in starts) > world.success_radius


def test_a_world_that_is_left_alone_stays_as_it_is(world: GoalEnv, starts: list[Any]) -> None:
    if world.task_name in MOVING_STARTS:
        return
    world.reset(seed=0)
    for observation, info, _, state in starts[:10]:
        world.set_state(state)
        for _ in range(3):
            after, _, _, _, told = world.step(np.zeros(world.action_space.shape, np.float32))
        assert np.abs(after["proprio"] - observation["proprio"]).max() < 0.002
        if "privileged" in info:
            assert np.abs(told["privileged"] - info["privileged"]).max() < 0.001


@pytest.mark.parametrize(("share", "reached"), [(0.0, True), (0.9, True), (1.1, False)])
def test_success_is_being_within_the_radius_of_the_goal(world: GoalEnv, share: float, reached: bool) -> None:
    for seed in range(3):
        world.reset(seed=seed)
        PLACE[world.task_name](world, share * world.success_radius)
        state = world.get_state()
        roll(world, draw(world, 2, seed))
        world.set_state(state)
        assert world.distance() == pytest.approx(share * world.success_radius, abs=0.001)
        info = world.step(np.zeros(world.action_space.shape, np.float32))[4]
        assert info["success"] is reached
        assert info["distance"] == pytest.approx(share * world.success_radius, abs=0.002)


def test_success_always_agrees_with_distance_and_radius(world: GoalEnv) -> None:
    seen, more_is_asked = set(), type(world).success is not GoalEnv.success
    for seed in range(3):
        world.reset(seed=seed)
        PLACE[world.task_name](world, 0.5 * world.success_radius)
        policy = world.exploration_policy(np.random.default_rng(seed))
        for action in [np.zeros(world.action_space.shape), *(policy() for _ in range(12))]:
            info = world.step(action)[4]
            near = bool(info["distance"] <= world.success_radius)
            assert info["success"] is near or (more_is_asked and near)
            seen.add(info["success"])
    assert True in seen


def test_every_task_says_how_its_goal_is_shown() -> None:
    assert {task.task_name for task in CLASSES.values()} == set(PLACE)


@pytest.mark.parametrize("name", JACO)
def test_starts_and_goals_lie_in_the_workspace(name: str) -> None:
    for observation, _, goal, _ in episodes(name):
        for point in (observation["proprio"][:3], goal):
            assert (point >= WORKSPACE_LOW - 0.001).all()
            assert (point <= WORKSPACE_HIGH + 0.001).all()


def test_the_goal_image_of_reach_is_the_picture_of_its_goal() -> None:
    env = gymnasium.make("worldmodel/JacoReach-v0")
    for seed in range(5):
        _, info = env.reset(seed=seed)
        PLACE["jaco_reach"](env.unwrapped, 0.0)
        assert same(env.render(), info["goal"])
    env.close()
    assert min(info["distance"] for _, info, _, _ in episodes("worldmodel/JacoReach-v0")) >= 0.1


def test_the_goal_of_push_is_a_push_away_on_the_table() -> None:
    world: Any = gymnasium.make("worldmodel/JacoPush-v0").unwrapped
    world.reset(seed=0, options={"explore": True})
    starts, shown = episodes("worldmodel/JacoPush-v0"), 0
    for _, info, goal, _ in starts:
        cube = info["privileged"]
        assert 0.06 <= np.linalg.norm(goal - cube) <= 0.20
        for point in (cube, goal):
            assert abs(point[2] - CUBE_HALF) < 0.005
            assert (point[:2] >= CUBE_LOW - 1e-6).all()
            assert (point[:2] <= CUBE_HIGH + 1e-6).all()
        mask = red(info["goal"])
        if mask.sum() > 180:  # hidden by the hand no more than a little
            shown += 1
            assert np.linalg.norm(centre(mask) - world.project(goal[None])[0]) < 3.0
    assert shown >= len(starts) / 3
    world.close()
