"""What anyone who holds one of the environments may rely on."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import MOVING, TASKS, draw, roll, same
from gymnasium.utils.env_checker import check_env

import envs
from envs.goal_env import GoalEnv

KEYS = {"success": bool, "goal": np.ndarray, "diverged": bool, "distance": float}


def test_gymnasium_finds_nothing_to_object_to(env: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_names_and_budgets_are_as_registered(env: Any, world: GoalEnv) -> None:
    budget = TASKS[env.spec.id][1]
    assert world.budget == env.spec.max_episode_steps == budget
    assert env.spec.id.startswith("worldmodel/")
    assert world.task_name == world.task_name.lower()
    assert 0.0 < world.success_radius < 0.2


def test_task_names_differ() -> None:
    made = [gymnasium.make(name) for name in TASKS]
    assert len({world.unwrapped.task_name for world in made}) == len(TASKS)  # type: ignore[attr-defined]


def test_an_episode_is_cut_at_the_budget_and_never_terminates(env: Any, world: GoalEnv) -> None:
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in draw(world, world.budget, seed=0)]
    assert ends == [(False, False)] * (world.budget - 1) + [(False, True)]


def test_spaces(env: Any, world: GoalEnv) -> None:
    observation, _ = env.reset(seed=0)
    pixels, proprio = world.observation_space["pixels"], world.observation_space["proprio"]  # type: ignore[index]
    assert pixels.shape == (128, 128, 3)
    assert (pixels.dtype, proprio.dtype, env.action_space.dtype) == (np.uint8, np.float32, np.float32)
    assert (env.action_space.low == -1.0).all()
    assert (env.action_space.high == 1.0).all()
    assert set(observation) == {"pixels", "proprio"}
    for step in roll(world, draw(world, 5, seed=1)):
        assert step[0] in world.observation_space
        assert type(step[1]) is float


def test_info_has_the_same_keys_after_reset_and_every_step(env: Any, world: GoalEnv) -> None:
    infos = [env.reset(seed=0)[1], *(step[4] for step in roll(world, draw(world, 3, seed=0)))]
    explored = [env.reset(seed=0, options={"explore": True})[1], *(step[4] for step in roll(world, draw(world, 2, 0)))]
    expected = set(KEYS) | ({"privileged"} if env.spec.id in MOVING else set())
    assert {info["task"] for info in explored} <= set(world.log_tasks)
    for info, further in [*((info, set()) for info in infos), *((info, {"task"}) for info in explored)]:
        assert set(info) == expected | further
        assert all(type(info[key]) is kind for key, kind in KEYS.items())
        assert info["goal"].shape == (128, 128, 3)
        assert info["goal"].dtype == np.uint8
        assert "privileged" not in info or info["privileged"].dtype == np.float32
        assert not info["diverged"]
    assert all(np.isfinite(info["distance"]) and info["goal"].any() for info in infos)
    assert all(np.isnan(info["distance"]) and not info["success"] and not info["goal"].any() for info in explored)


def test_the_reward_is_minus_the_distance(env: Any, world: GoalEnv) -> None:
    env.reset(seed=0)
    for action in draw(world, 3, seed=2):
        _, reward, _, _, info = world.step(action)
        assert reward == -info["distance"] == -world.distance()


def test_what_was_returned_is_nobody_elses(env: Any, world: GoalEnv) -> None:
    observation, info = env.reset(seed=4)
    returned = [(observation, info), *((step[0], step[4]) for step in roll(world, draw(world, 3, seed=4)))]
    arrays = [value for pair in returned for part in pair for value in part.values() if isinstance(value, np.ndarray)]
    arrays += [world.get_state(), world.get_state(), world.render(), world.render(), *world.__dict__.values()]
    arrays = [value for value in arrays if isinstance(value, np.ndarray)]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


def test_a_careless_user_changes_nothing(env: Any, world: GoalEnv) -> None:
    actions, outcomes = draw(world, 3, seed=5), []
    for careless in (False, True):
        observation, info = env.reset(seed=5)
        kept = [value.copy() for value in (*observation.values(), info["goal"])]
        for action in actions.copy():
            state = world.get_state()
            if careless:
                for value in (*observation.values(), info["goal"], state):
                    value[...] = 7
            observation, _, _, _, info = env.step(action)
            if careless:
                action[...] = 7
            kept += [value.copy() for value in (*observation.values(), info["goal"])]
        outcomes.append(kept)
    assert same(*outcomes)


def test_actions_are_clipped_to_the_box(world: GoalEnv) -> None:
    wild = 10.0 * draw(world, 3, seed=6)
    world.reset(seed=6)
    clipped = roll(world, np.clip(wild, -1.0, 1.0))
    world.reset(seed=6)
    assert same(roll(world, wild), clipped)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_no_number_is_refused_before_anything_moves(world: GoalEnv, value: float) -> None:
    world.reset(seed=0)
    before = world.get_state()
    action = np.zeros(world.action_space.shape, np.float32)
    action[-1] = value
    with pytest.raises(ValueError, match="expected a finite action") as caught:
        world.step(action)
    assert "\n" not in str(caught.value)
    assert same(world.get_state(), before)


@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: np.append(a, a), lambda a: a[None], lambda a: a[0]])
def test_an_action_of_another_shape_is_refused(world: GoalEnv, change: Any) -> None:
    world.reset(seed=0)
    before = world.get_state()
    with pytest.raises(ValueError, match="expected a finite action of shape"):
        world.step(change(np.zeros(world.action_space.shape, np.float32)))
    assert same(world.get_state(), before)


def test_a_step_before_the_first_reset_is_refused(env: Any) -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        gymnasium.make(env.spec.id).step(np.zeros(env.action_space.shape, np.float32))


@pytest.mark.parametrize("wrong", [{"image_size": 8}, {"image_size": 5000}, {"randomize_visuals": 2.0}])
def test_arguments_out_of_range_are_refused_in_one_line(env: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(envs.EnvError, match="expected") as caught:
        gymnasium.make(env.spec.id, **wrong)
    assert "\n" not in str(caught.value)
