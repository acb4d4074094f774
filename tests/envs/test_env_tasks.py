"""What is particular to rearranging, placing and navigating."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import CUBES, episodes

from envs.arm.exploration import Carry
from envs.arm.jaco import FINGERS_CLOSED, FINGERS_OPEN
from envs.arm.push import CUBE_HALF, CUBE_HIGH, CUBE_LOW
from envs.arm.scene import CUP_HALF, PLATFORM_TOP
from envs.errors import SceneError
from envs.navigation.exploration import DOOR, way_points

REARRANGE, PLACE, NAVIGATE = (f"worldmodel/{name}-v0" for name in ("JacoRearrange", "JacoPlace", "Navigate"))


@pytest.fixture(scope="module")
def cubes() -> Iterator[Any]:
    made = gymnasium.make(REARRANGE)
    yield made.unwrapped
    made.close()


@pytest.fixture(scope="module")
def cup() -> Iterator[Any]:
    made = gymnasium.make(PLACE)
    yield made.unwrapped
    made.close()


@pytest.fixture(scope="module")
def robot() -> Iterator[Any]:
    made = gymnasium.make(NAVIGATE)
    yield made.unwrapped
    made.close()


def test_both_cubes_are_pushed_apart_from_each_other_on_the_table() -> None:
    for _, info, goal, _ in episodes(REARRANGE):
        start = info["privileged"].reshape(2, 3)
        moved = np.linalg.norm(goal - start, axis=1)
        assert (moved > 0.0599).all()
        assert (moved < 0.2001).all()
        assert info["distance"] == pytest.approx(moved.max(), abs=1e-6)
        for both in (start, goal):
            assert np.linalg.norm(both[0] - both[1]) > 0.1099
            assert np.abs(both[:, 2] - CUBE_HALF).max() < 0.005
            assert (both[:, :2] > CUBE_LOW - 1e-6).all()
            assert (both[:, :2] < CUBE_HIGH + 1e-6).all()


def test_one_cube_in_place_is_not_enough(cubes: Any) -> None:
    cubes.reset(seed=0)
    start = cubes.cubes()
    for index, name in enumerate(CUBES):
        cubes._place_object(name, cubes._goal_position[index], 0.0)
        cubes._place_object([*CUBES][1 - index], start[1 - index], 0.0)
        cubes._physics.forward()
        assert not cubes.success()
        assert cubes.distance() == pytest.approx(np.linalg.norm(start - cubes._goal_position, axis=1)[1 - index])


def test_two_cubes_never_look_alike() -> None:
    world: Any = gymnasium.make(REARRANGE, randomize_visuals=1.0).unwrapped
    colours = []
    for seed in range(30):
        world._draw_look(seed)
        colours.append([world._physics.model.geom(name).rgba[:3].copy() for name in CUBES])
    assert min(np.linalg.norm(one - other) for one, other in colours) >= 0.5
    assert np.std(colours, axis=0).min() > 0.1


def test_a_goal_of_place_is_on_the_other_of_platform_and_table() -> None:
    low, high = CUP_HALF, PLATFORM_TOP + CUP_HALF
    heights = [(info["privileged"][2], goal[2]) for _, info, goal, _ in episodes(PLACE)]
    assert all(sorted(pair) == pytest.approx([low, high], abs=0.003) for pair in heights)
    assert 5 <= sum(start > goal for start, goal in heights) <= 25


def test_friction_alone_carries_the_cup(cup: Any) -> None:
    """From the table onto the platform: it is lifted by the fingers, and falls when they open."""
    assert cup._physics.model.neq == 0  # nothing welds it
    for fall in (False, True):
        cup.reset(seed=0)
        cup._place_object("cup", np.array([-0.1, 0.13, CUP_HALF]), 0.0)
        carry = Carry(np.random.default_rng(0), cup.pinch, cup.cup, lambda: np.array([0.13, 0.13, 0.105]), sure=True)
        while carry.PHASES[carry._phase] != "carry":
            cup.step(carry())
        assert cup.cup()[2] > 0.15
        for _ in range(3):
            cup.step(np.array([0.0, 0.0, 0.0, -1.0 if fall else 1.0]))
        assert bool(cup.cup()[2] > 0.15) is not fall


def test_a_cup_that_lies_or_moves_is_not_placed(cup: Any) -> None:
    cup.reset(seed=0)
    cup._place_arm(np.array([0.02, 0.0, 0.21]))
    joint = cup._physics.data.joint("cup")
    for lean, speed, placed in [(0.0, 0.0, True), (15.0, 0.0, True), (25.0, 0.0, False), (0.0, 0.1, False)]:
        half = np.deg2rad(lean) / 2
        joint.qpos[:] = [*cup._goal_position, np.cos(half), np.sin(half), 0.0, 0.0]
        joint.qvel[:] = 0.0
        joint.qvel[0] = speed
        cup._physics.forward()
        assert cup.distance() < 0.001
        assert cup.success() is placed


def test_the_fourth_action_closes_the_fingers_and_proprioception_tells(cup: Any) -> None:
    cup.reset(seed=0)
    cup._place_arm(np.array([0.0, 0.0, 0.2]), FINGERS_OPEN)
    before, seen = cup.pinch(), [float(cup._proprio()[3])]
    for action in (1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0):
        seen.append(float(cup.step(np.array([0.0, 0.0, 0.0, action]))[0]["proprio"][3]))
    assert np.linalg.norm(cup.pinch() - before) < 0.003
    assert seen[0] == pytest.approx(0.0, abs=0.02)
    assert seen[4] == pytest.approx(1.0, abs=0.05)
    assert seen[-1] == pytest.approx(0.0, abs=0.05)
    assert cup._joints[-1] == FINGERS_OPEN < FINGERS_CLOSED


def test_half_of_the_goals_are_in_the_other_room() -> None:
    rooms = [observation["proprio"][0] * goal[0] < 0.0 for observation, _, goal, _ in episodes(NAVIGATE)]
    assert 9 <= sum(rooms) <= 21


def test_wheels_drive_and_turn_the_robot(robot: Any) -> None:
    robot.reset(seed=0)
    for action, way, turn in [((1.0, 0.0), 0.12, 0.0), ((-0.5, 0.0), -0.06, 0.0), ((0.0, 1.0), 0.0, 0.5)]:
        robot._place_robot(np.array([0.6, 0.0]), np.pi / 2)
        robot.step(np.array(action))  # gathers speed
        before = robot.pose()
        robot.step(np.array(action))
        after = robot.pose()
        assert (after[:2] - before[:2]) @ before[2:] == pytest.approx(way, abs=0.01)
        sine = before[2] * after[3] - before[3] * after[2]
        assert sine == pytest.approx(np.sin(turn), abs=0.03)


def test_walls_stop_the_robot_and_the_doorway_does_not(robot: Any) -> None:
    robot.reset(seed=0)
    for across, passes in [(0.0, True), (0.6, False)]:
        robot._place_robot(np.array([-0.5, across]), 0.0)
        assert not any(robot.step(np.array([1.0, 0.0]))[2] for _ in range(12))
        assert bool(robot.pose()[0] > 0.3) is passes


def test_the_way_leads_through_the_doorway() -> None:
    places = np.random.default_rng(0).uniform(-1.0, 1.0, (200, 2))
    goal = np.array([0.7, 0.8])
    heading, length = way_points(places, goal)
    assert (length >= np.linalg.norm(places - goal, axis=1) - 1e-9).all()
    here, there = places[:, 0] > DOOR, places[:, 0] < -DOOR
    assert (heading[here] == goal).all()
    assert (heading[there] == [-DOOR, 0.0]).all()
    assert way_points(np.array([-0.7, 0.8]), goal)[1] > 1.9  # 1.4 m through the wall


def test_navigating_has_nothing_to_keep_out_of() -> None:
    with pytest.raises(SceneError, match=r"expected no box to keep out of .* got keep_out 0\.1: leave it at 0$"):
        gymnasium.make(NAVIGATE, keep_out=0.1)
