"""A seed fixes start and goal and nothing else; a saved state fixes pixels and future to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import PLACE, draw, episodes, roll, same

from envs.goal_env import GoalEnv


@pytest.fixture(scope="module")
def other(env: Any) -> Iterator[Any]:
    """A second environment of the same id."""
    made = gymnasium.make(env.spec.id)
    yield made.unwrapped
    made.close()


@pytest.fixture(scope="module")
def colourful(env: Any) -> Iterator[Any]:
    """The same task with a new look in every episode."""
    made = gymnasium.make(env.spec.id, randomize_visuals=1.0)
    yield made.unwrapped
    made.close()


def test_the_same_seed_gives_the_same_episode_whatever_went_before(world: GoalEnv, other: GoalEnv) -> None:
    actions = draw(world, 6, seed=0)
    world.reset(seed=99)
    roll(world, actions[::-1])  # another episode first, in one of the two
    assert same(world.reset(seed=3), other.reset(seed=3))
    assert same(roll(world, actions), roll(other, actions))
    assert same(world.get_state(), other.get_state())


def test_so_does_an_exploratory_start(world: GoalEnv, other: GoalEnv) -> None:
    starts = [one.reset(seed=3, options={"explore": True}) for one in (world, other)]
    assert same(*starts)
    assert same(roll(world, draw(world, 3, seed=0)), roll(other, draw(world, 3, seed=0)))


def test_episodes_after_a_seed_differ_and_follow_from_it(world: GoalEnv, other: GoalEnv) -> None:
    first, second = ([one.reset(seed=3), one.reset(), one.reset()] for one in (world, other))
    assert same(first, second)
    assert len({observation["pixels"].tobytes() for observation, _ in first}) == 3


def test_different_seeds_give_different_starts_and_goals(env: Any) -> None:
    observations, infos, goals, _ = zip(*episodes(env.spec.id), strict=True)
    assert len({observation["pixels"].tobytes() for observation in observations}) == len(observations)
    assert len({info["goal"].tobytes() for info in infos}) == len(infos)
    assert np.stack([observation["proprio"] for observation in observations]).std(axis=0).min() > 0.02
    assert np.stack(goals)[..., :2].std(axis=0).min() > 0.02
    assert np.std([info["distance"] for info in infos]) > 0.02
    if "privileged" in infos[0]:
        assert np.stack([info["privileged"] for info in infos]).std(axis=0)[:2].min() > 0.02


def test_exploratory_starts_differ_too(world: GoalEnv) -> None:
    starts = [world.reset(seed=seed, options={"explore": True})[0] for seed in range(60)]
    assert len({observation["pixels"].tobytes() for observation in starts}) == 60
    assert np.stack([observation["proprio"] for observation in starts]).std(axis=0).min() > 0.02


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_looks_never_change_what_a_seed_fixes(world: GoalEnv, colourful: GoalEnv, seed: int) -> None:
    (plain, info), (bright, seen) = world.reset(seed=seed), colourful.reset(seed=seed)
    assert same(world.get_state(), colourful.get_state())
    assert info["distance"] == seen["distance"]
    assert not same(plain["pixels"], bright["pixels"])
    assert not same(info["goal"], seen["goal"])
    for one, two in zip(*(roll(each, draw(world, 4, seed)) for each in (world, colourful)), strict=True):
        assert same(one[0]["proprio"], two[0]["proprio"])
        assert one[4]["distance"] == two[4]["distance"]  # at several places: the goal is the same


def test_looks_are_drawn_anew_in_every_episode(colourful: GoalEnv) -> None:
    colourful.reset(seed=0)
    state, pictures = colourful.get_state(), set()
    for seed in range(4):
        colourful.reset(seed=seed, options={"explore": True})
        colourful.set_state(state)
        pictures.add(colourful.render().tobytes())
    assert len(pictures) == 4


def test_a_share_of_the_episodes_keeps_the_standard_look(env: Any, world: GoalEnv) -> None:
    some = gymnasium.make(env.spec.id, randomize_visuals=0.5)
    explore = {"explore": True}
    plain = [
        same(some.reset(seed=seed, options=explore)[0], world.reset(seed=seed, options=explore)[0])
        for seed in range(24)
    ]
    some.close()
    assert 4 <= sum(plain) <= 20


@pytest.mark.parametrize("steps", [0, 5])
def test_a_saved_state_gives_back_pixels_and_future(world: GoalEnv, other: GoalEnv, steps: int) -> None:
    observation, _ = world.reset(seed=7)
    for before in roll(world, draw(world, steps, seed=7)):
        observation = before[0]
    state, future = world.get_state(), draw(world, 6, seed=8)
    expected = roll(world, future)
    other.reset(seed=7)
    for again in (world, other):
        again.set_state(state)
        assert same(again.get_state(), state)
        assert same(again.render(), observation["pixels"])
        assert same(roll(again, future), expected)


def test_a_saved_state_in_contact_gives_back_the_future(world: GoalEnv, other: GoalEnv) -> None:
    """Solvers start from their last solution: a state without it goes on a little differently once things touch."""
    world.reset(seed=11)
    policy = world.exploration_policy(np.random.default_rng(0))
    states, actions, outcomes = [], [], []
    for _ in range(world.budget):
        states.append(world.get_state())
        actions.append(policy())
        outcomes.append(world.step(actions[-1]))
    other.reset(seed=11)
    for index in range(0, world.budget, 5):
        other.set_state(states[index])
        assert same(roll(other, actions[index : index + 5]), outcomes[index : index + 5])


def test_a_state_far_away_is_reached_by_setting_it(world: GoalEnv) -> None:
    """Save, end the episode, start another, restore: nothing of the other episode is left."""
    world.reset(seed=0)
    PLACE[world.task_name](world, 0.0)
    state, picture = world.get_state(), world.render()
    world.reset(seed=1)
    roll(world, draw(world, 3, seed=1))
    world.set_state(state)
    assert same(world.render(), picture)
    assert same(world.get_state(), state)
