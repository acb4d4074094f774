"""The behaviours that fill the log: inside the box, repeatable, and worth recording."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import JACO, MOVING, same

from envs.goal_env import GoalEnv


def explore(world: GoalEnv, seed: int, decisions: int) -> tuple[Any, Any, list[Any]]:
    """Actions [T,A], hand positions [T+1,P] and the object's positions (or none) of an exploratory episode."""
    observation, info = world.reset(seed=seed, options={"explore": True})
    policy = world.exploration_policy(np.random.default_rng(seed))
    actions, hands, objects = [], [observation["proprio"]], [info.get("privileged")]
    for _ in range(decisions):
        actions.append(np.asarray(policy()))
        observation, _, terminated, _, info = world.step(actions[-1])
        assert not terminated
        hands.append(observation["proprio"])
        objects.append(info.get("privileged"))
    return np.stack(actions), np.stack(hands), objects


@functools.cache
def log(name: str) -> list[tuple[Any, Any, list[Any]]]:
    """A few exploratory episodes of a task, run once for all tests."""
    env: Any = gymnasium.make(name)
    episodes = [explore(env.unwrapped, seed, env.unwrapped.budget) for seed in range(14)]
    env.close()
    return episodes


def test_actions_stay_in_the_box_and_move_the_arm(env: Any, world: GoalEnv) -> None:
    for actions, hands, _ in log(env.spec.id):
        assert actions.shape[1:] == world.action_space.shape
        assert np.isfinite(actions).all()
        assert np.abs(actions).max() <= 1.0
        assert actions.std() > 0.1
        assert np.ptp(hands, axis=0).max() > 0.05
        space = world.observation_space["proprio"]  # type: ignore[index]
        assert all(hand in space for hand in hands)


def test_the_generator_alone_fixes_the_behaviour(env: Any, world: GoalEnv) -> None:
    again = explore(world, 3, 12)
    first, other = log(env.spec.id)[3], log(env.spec.id)[4]
    assert same(again, tuple(part[: len(copy)] for part, copy in zip(first, again, strict=True)))
    assert not same(again[0], other[0][:12])


@pytest.mark.parametrize("name", JACO)
def test_the_log_covers_the_workspace(name: str) -> None:
    hands = np.concatenate([hands[:, :3] for _, hands, _ in log(name)])
    assert (np.ptp(hands, axis=0) > [0.3, 0.2, 0.12]).all()


def test_a_log_of_two_cubes_is_about_the_one_that_it_names() -> None:
    world: Any = gymnasium.make("worldmodel/JacoRearrange-v0").unwrapped
    moved: dict[str, list[Any]] = {task: [] for task in world.log_tasks}
    for seed in range(14):
        _, info = world.reset(seed=seed, options={"explore": True})
        task, before, policy = info["task"], world.cubes(), world.exploration_policy(np.random.default_rng(seed))
        for _ in range(30):
            assert world.step(policy())[4]["task"] == task
        moved[task].append(np.linalg.norm(world.cubes() - before, axis=1))
    world.close()
    red, blue = (np.stack(moved[f"jaco_rearrange cube_{colour}"]).mean(axis=0) for colour in ("red", "blue"))
    assert red[0] > 3 * red[1]
    assert blue[1] > 3 * blue[0]


@pytest.mark.parametrize("name", MOVING)
def test_objects_are_moved_in_a_fair_share_of_the_episodes_and_stay_on_the_table(name: str) -> None:
    paths = [np.stack(objects) for _, _, objects in log(name)]
    assert np.mean([np.linalg.norm(path[-1] - path[0]) > 0.01 for path in paths]) > 0.5
    assert min(path[:, 2].min() for path in paths) > 0.0
