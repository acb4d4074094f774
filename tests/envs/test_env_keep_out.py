"""A box between start and goal that the hand must keep out of: announced, invisible, and watched at every time step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import JACO
from gymnasium.utils.env_checker import check_env

from envs.arm.controller import STEP
from envs.errors import SceneError

SIDE = 0.08
THIN = np.array([0.02, 0.02, 0.008])


@pytest.fixture(scope="module", params=JACO)
def guarded(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = gymnasium.make(request.param, keep_out=SIDE)
    yield made.unwrapped
    made.close()


def goal_of(world: Any) -> Any:
    return world._goal_position.reshape(-1, 3)[0]


def move(world: Any, displacement: Any) -> dict[str, Any]:
    """`info` after a decision with this displacement; whatever else there is to move stays as it is."""
    action = np.zeros(world.action_space.shape)
    action[:3] = displacement
    info: dict[str, Any] = world.step(action)[4]
    return info


def test_the_box_lies_between_start_and_goal_and_clear_of_both(guarded: Any) -> None:
    for seed in range(8):
        observation, info = guarded.reset(seed=seed)
        low, high = observation["keep_out"][0].astype(np.float64)
        middle = (guarded.pinch() + goal_of(guarded)) / 2
        np.testing.assert_allclose((low + high) / 2, middle, atol=1e-6)
        assert (high - low <= SIDE + 1e-6).all()
        for place in (guarded.pinch(), goal_of(guarded)):
            assert np.maximum(low - place, place - high).max() > 0.024
        assert info["trespass"] is False


def test_walking_straight_to_the_goal_is_a_trespass_and_standing_still_is_not(guarded: Any) -> None:
    seed = next(s for s in range(50) if np.ptp(guarded.reset(seed=s)[0]["keep_out"][0], axis=0).min() > 0.06)
    guarded.reset(seed=seed)
    assert not any(move(guarded, 0.0)["trespass"] for _ in range(3))
    seen = []
    for _ in range(12):
        away = goal_of(guarded) - guarded.pinch()
        seen.append(move(guarded, np.clip(away / STEP, -1, 1) / max(1.0, np.abs(away / STEP).max()))["trespass"])
    assert any(seen)


def test_a_box_crossed_between_two_decisions_is_noticed(guarded: Any) -> None:
    guarded.reset(seed=0)
    before = guarded.pinch()
    upward = np.array([0.0, 0.0, 1.0 if before[2] < 0.12 else -1.0])
    middle = before + 0.5 * STEP * upward
    guarded._forbidden = np.stack([middle - THIN, middle + THIN])[None]
    info = move(guarded, upward)
    ends = [before, guarded.pinch()]
    assert not any(np.abs(end - middle)[2] < 0.008 for end in ends)
    assert info["trespass"] is True


def test_the_box_changes_neither_pictures_nor_episodes(guarded: Any) -> None:
    plain: Any = gymnasium.make(guarded.spec.id).unwrapped
    for world in (plain, guarded):
        world.seen = [world.reset(seed=3)]
        world.seen.append(world.step(np.resize([0.5, -0.5, 0.2], world.action_space.shape)))
    for one, other in zip(plain.seen, guarded.seen, strict=True):
        assert "keep_out" not in one[0]
        assert "trespass" not in one[-1]
        np.testing.assert_array_equal(one[0]["pixels"], other[0]["pixels"])
        np.testing.assert_array_equal(one[0]["proprio"], other[0]["proprio"])
    plain.close()


def test_gymnasium_accepts_it_and_explorers_have_no_box(guarded: Any) -> None:
    check_env(guarded, skip_render_check=True)
    guarded.reset(seed=1)
    assert np.ptp(guarded.reset(seed=2, options={"explore": True})[0]["keep_out"][0], axis=0).max() == 0.0
    assert move(guarded, 1.0)["trespass"] is False


def test_a_box_of_impossible_size_is_refused() -> None:
    with pytest.raises(SceneError, match="expected keep_out"):
        gymnasium.make(JACO[0], keep_out=-0.1)
