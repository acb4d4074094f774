"""The behaviours that fill the log: inside the box, repeatable, and worth recording."""

from __future__ import annotations

from typing import Any

import numpy as np
from env_worlds import same

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


def test_actions_stay_in_the_box_and_move_the_arm(world: GoalEnv) -> None:
    for seed in range(5):
        actions, hands, _ = explore(world, seed, world.budget)
        assert actions.shape[1:] == world.action_space.shape
        assert np.isfinite(actions).all()
        assert np.abs(actions).max() <= 1.0
        assert actions.std() > 0.1
        assert np.ptp(hands, axis=0).max() > 0.05
        space = world.observation_space["proprio"]  # type: ignore[index]
        assert all(hand in space for hand in hands)


def test_the_generator_alone_fixes_the_behaviour(world: GoalEnv) -> None:
    first, second, third = (explore(world, seed, 12) for seed in (3, 3, 4))
    assert same(first, second)
    assert not same(first[0], third[0])


def test_the_log_covers_the_workspace(jaco: Any) -> None:
    hands = np.concatenate([explore(jaco, seed, jaco.budget)[1] for seed in range(12)])
    assert (np.ptp(hands, axis=0) > [0.3, 0.2, 0.12]).all()


def test_objects_are_moved_in_a_fair_share_of_the_episodes_and_stay_on_the_table(moving: Any) -> None:
    moved = []
    for seed in range(16):
        _, _, objects = explore(moving, seed, moving.budget)
        moved.append(np.linalg.norm(objects[-1] - objects[0]) > 0.01)
        assert min(position[2] for position in objects) > 0.0
    assert np.mean(moved) > 0.5
