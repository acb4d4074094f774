"""A shift changes pictures and nothing else: the same starts, goals and futures, in a look that follows from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import TASKS, draw, roll, same

from envs.errors import SceneError
from envs.visuals import SHIFTS
from worldmodel.cli_limits import LIMITS

SEED = 100_000


@pytest.fixture(scope="module", params=SHIFTS)
def shifted(request: pytest.FixtureRequest, env: Any) -> Iterator[Any]:
    """Every task in every shifted look."""
    made = gymnasium.make(env.spec.id, shift=request.param)
    yield made.unwrapped
    made.close()


def test_only_pictures_change(world: Any, shifted: Any) -> None:
    (plain, told), (seen, info) = world.reset(seed=SEED), shifted.reset(seed=SEED)
    assert same(world.get_state(), shifted.get_state())
    assert same(world._goal_position, shifted._goal_position)
    assert not same(plain["pixels"], seen["pixels"])
    assert not same(told["goal"], info["goal"])
    for one, other in zip(*(roll(each, draw(world, 4, 0)) for each in (world, shifted)), strict=True):
        assert same(one[0]["proprio"], other[0]["proprio"])
        assert not same(one[0]["pixels"], other[0]["pixels"])
        assert {k: v for k, v in one[4].items() if k not in ("goal", "privileged")} == {
            k: v for k, v in other[4].items() if k not in ("goal", "privileged")
        }
    assert same(world.get_state(), shifted.get_state())
    plans = draw(world, 6, 1).reshape(2, 3, -1)
    assert same(world.evaluate_plans(plans), shifted.evaluate_plans(plans))


def test_the_look_follows_from_the_seed_and_differs_between_seeds(shifted: Any) -> None:
    first = shifted.reset(seed=SEED)
    state, looks = shifted.get_state(), set()
    for seed in (SEED + 1, SEED + 2, SEED + 3):
        shifted.reset(seed=seed, options={"explore": True})
        shifted.set_state(state)
        looks.add(shifted.render().tobytes())
    assert len(looks) == 3
    assert same(shifted.reset(seed=SEED), first)


def test_start_and_goal_have_the_same_look(shifted: Any) -> None:
    """Most of the picture is the same in both: what moves is small."""
    observation, info = shifted.reset(seed=SEED)
    difference = np.abs(observation["pixels"].astype(int) - info["goal"].astype(int)).max(axis=-1)
    assert (difference <= 2).mean() > 0.75


def test_a_distractor_is_seen_apart_from_what_the_task_is_about(env: Any, world: Any) -> None:
    made: Any = gymnasium.make(env.spec.id, shift="distractor").unwrapped
    for seed in range(SEED, SEED + 4):
        made.reset(seed=seed, options={"explore": True})
        world.reset(seed=seed, options={"explore": True})
        places = np.argwhere((made.render() != world.render()).any(axis=-1))
        assert 10 < len(places) < 1000
        assert np.ptp(places, axis=0).max() < 32  # one thing, in one place
        # It stands at the side: the picture's middle is free of it.
        assert np.abs(places - 63.5).max(axis=-1).min() > 28
        assert made._physics.model.ngeom == world._physics.model.ngeom
    made.close()


def test_the_next_episode_is_without_the_last_ones_distractor(shifted: Any) -> None:
    for seed in (SEED, SEED + 1):
        shifted.reset(seed=seed, options={"explore": True})
        assert len(shifted._visuals.decorations) == (shifted._shift == "distractor")


def test_the_camera_is_where_project_says() -> None:
    made: Any = gymnasium.make("worldmodel/JacoPush-v0", shift="camera", image_size=512).unwrapped
    for seed in range(SEED, SEED + 3):
        made.reset(seed=seed, options={"explore": True})
        made._place_arm(np.array([-0.15, 0.0, 0.21]))
        made._place_object("cube", np.array([0.08, 0.15, 0.035]), 0.0)
        made._physics.forward()
        without = made._physics.model.geom("cube").rgba
        shown, alpha = made.render().astype(int), without[3]
        without[3] = 0.0
        mask = (shown != made.render()).any(axis=-1)
        without[3] = alpha
        found = np.argwhere(mask).mean(axis=0)[::-1] + 0.5
        assert np.linalg.norm(found - made.project(np.array([[0.08, 0.15, 0.035]]))[0]) < 6.0
    made.close()


def test_a_shift_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SceneError, match="expected shift to be one of lighting, camera, colour, distractor, got 'fog'"):
        gymnasium.make(next(iter(TASKS)), shift="fog")


def test_the_command_offers_what_there_is() -> None:
    assert LIMITS["shift"].choices == SHIFTS
