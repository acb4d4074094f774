"""Inverse kinematics and servos: everywhere in the workspace, accurately, without flipping the wrist."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.arm.controller import (
    DOWN,
    STEP,
    SUBSTEPS,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    Controller,
    displace,
    ramp,
    rotation_error,
)
from envs.arm.scene import build_model

CORNERS = list(itertools.product(*zip(WORKSPACE_LOW, WORKSPACE_HIGH, strict=True)))


@pytest.fixture(scope="module")
def controller() -> Controller:
    return Controller(build_model())


@pytest.fixture(scope="module")
def reach() -> Any:
    made = gymnasium.make("worldmodel/JacoReach-v0")
    yield made.unwrapped
    made.close()


def check_pose(controller: Controller, joints: Any, position: Any) -> None:
    at, rotation = controller.pose(joints)
    assert np.linalg.norm(at - position) < 0.001
    assert np.linalg.norm(rotation_error(DOWN, rotation)) < 0.01
    assert np.trace(rotation @ DOWN.T) > 2.9  # the error alone does not tell down from up


@pytest.mark.parametrize("corner", CORNERS)
def test_every_corner_is_reached_hand_down(controller: Controller, corner: Any) -> None:
    check_pose(controller, controller.home(np.array(corner)), np.array(corner))


def test_every_place_is_reached_hand_down(controller: Controller) -> None:
    for position in np.random.default_rng(0).uniform(WORKSPACE_LOW, WORKSPACE_HIGH, (100, 3)):
        check_pose(controller, controller.home(position), position)


@pytest.mark.parametrize("size", [0.4, 1.0, 3.0])
def test_a_long_walk_follows_its_commands_and_never_flips_the_wrist(controller: Controller, size: float) -> None:
    """Action noise of 3 lands on the box's corners: the longest steps, often along the walls."""
    rng = np.random.default_rng(1)
    position = np.array([0.0, 0.12, 0.12])
    joints = controller.home(position)
    for _ in range(700):
        position = displace(position, size * rng.normal(size=3))
        target = controller.solve(position, joints)
        assert np.abs(target - joints).max() < 0.8
        check_pose(controller, target, position)
        joints = target


def test_where_a_walk_ends_does_not_depend_on_its_way(controller: Controller) -> None:
    """Joint angles are a function of the position, as far as anyone can see: no slow drift of the elbow."""
    rng = np.random.default_rng(2)
    position = np.array([0.0, 0.12, 0.12])
    home = controller.home(position)
    joints = home
    for _ in range(200):
        position = displace(position, rng.normal(size=3))
        joints = controller.solve(position, joints)
    for _ in range(8):
        position = displace(position, (np.array([0.0, 0.12, 0.12]) - position) / STEP)
        joints = controller.solve(position, joints)
    assert np.abs(joints - home).max() < 0.05


def test_the_arm_is_where_it_was_sent_after_every_decision(reach: Any) -> None:
    rng, errors = np.random.default_rng(3), []
    for seed in range(10):
        reach.reset(seed=seed)
        for _ in range(20):
            reach.step(np.clip(rng.normal(size=3), -1.0, 1.0))
            errors.append(np.linalg.norm(reach.pinch() - reach._position))
        for _ in range(3):
            reach.step(np.zeros(3))
        assert np.linalg.norm(reach.pinch() - reach._position) < 0.001
    assert np.median(errors) < 0.002
    assert np.mean(np.array(errors) < 0.005) >= 0.97  # the elbow overshoots in the outermost corners at full speed
    assert max(errors) < 0.03


@pytest.mark.parametrize("corner", CORNERS)
def test_pushing_against_the_walls_of_the_workspace_is_harmless(reach: Any, corner: Any) -> None:
    outward = np.sign(np.array(corner) - (WORKSPACE_LOW + WORKSPACE_HIGH) / 2)
    reach.reset(seed=0)
    for _ in range(12):
        _, _, terminated, _, _ = reach.step(outward)
        assert not terminated
    assert np.linalg.norm(reach.pinch() - corner) < 0.005


def test_an_action_moves_the_hand_by_its_share_of_the_step(reach: Any) -> None:
    for axis, action in itertools.product(range(3), (-1.0, -0.5, 0.5, 1.0)):
        reach.reset(seed=0)
        reach._place_arm(np.array([0.0, 0.13, 0.12]))
        before = reach.pinch()
        reach.step(action * np.eye(3)[axis])
        assert reach.pinch() - before == pytest.approx(action * STEP * np.eye(3)[axis], abs=0.005)


def test_displace_and_ramp() -> None:
    positions = np.random.default_rng(4).uniform(WORKSPACE_LOW, WORKSPACE_HIGH, (50, 3))
    actions = 3.0 * np.random.default_rng(5).normal(size=(50, 3))
    moved = displace(positions, actions)
    assert (moved >= WORKSPACE_LOW).all()
    assert (moved <= WORKSPACE_HIGH).all()
    assert np.abs(moved - positions).max() <= STEP + 1e-12
    assert displace(np.array([0.0, 0.1, 0.1]), np.array([0.5, -1.0, 9.0])) == pytest.approx([0.03, 0.04, 0.16])
    way = ramp(np.zeros(6), np.ones(6))
    assert way.shape == (SUBSTEPS, 6)
    assert (np.diff(way, axis=0) >= 0).all()
    assert (way[-8:] == 1.0).all()
    assert way[0].max() <= 1.0 / (0.8 * SUBSTEPS) + 1e-12
