"""What the camera shows: the right things, where `project` says, with nothing but the scene in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_worlds import JACO, centre, episodes, geoms, red, repaint, same

from envs.goal_env import GoalEnv


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["standard", "random"])
def push(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = gymnasium.make("worldmodel/JacoPush-v0", randomize_visuals=request.param)
    yield made.unwrapped
    made.close()


@pytest.fixture(scope="module", params=JACO)
def fine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every task of the arm, in a large picture."""
    made = gymnasium.make(request.param, image_size=512)
    yield made.unwrapped
    made.close()


def test_a_pictures_size_is_the_callers_choice(env: Any, world: GoalEnv) -> None:
    small = env.reset(seed=0)[0]["pixels"]
    for side in (64, 256):
        assert world.render_size(side).shape == (side, side, 3)
    halved = world.render_size(256).reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 3.0  # the same view
    assert same(world.render_size(128), small)  # not disturbed by the others
    tiny = gymnasium.make(env.spec.id, image_size=64)
    observation, info = tiny.reset(seed=0)
    assert observation["pixels"].shape == info["goal"].shape == (64, 64, 3)
    assert same(observation["pixels"], world.render_size(64))
    tiny.close()


def test_the_same_world_gives_the_same_picture(world: GoalEnv) -> None:
    world.reset(seed=0)
    picture = world.render()
    assert all(same(world.render(), picture) for _ in range(5))


def test_light_and_dark_are_in_every_picture(jaco: Any) -> None:
    for seed in range(10):
        picture = jaco.reset(seed=seed, options={"explore": True})[0]["pixels"]
        assert (picture.max(axis=-1) < 60).sum() > 200  # the arm's black links
        assert (picture.min(axis=-1) > 150).mean() > 0.3  # the table
        assert picture.std() > 20.0


def test_the_arm_stands_behind_the_table_and_hangs_into_the_picture(fine: Any) -> None:
    for seed in range(3):
        fine.reset(seed=seed, options={"explore": True})
        rows, columns = np.nonzero(repaint(fine, geoms(fine, "hand/")))
        hand = fine.project(fine.pinch()[None])[0]
        assert rows.min() > 0
        assert rows.max() - 40 <= hand[1] <= rows.max() + 4  # the fingers point down: nothing of the hand is lower
        assert columns.min() <= hand[0] <= columns.max()
        base, edge = fine.project(np.array([[0.0, -0.34, 0.0], [0.0, 0.28, 0.0]]))
        assert base[1] < edge[1]  # what is nearer to the camera is lower in the picture


def test_the_cube_is_where_project_says(push: Any) -> None:
    cube, checked = geoms(push, "cube"), 0
    for seed in range(12):
        push.reset(seed=seed, options={"explore": True})
        push._place_arm(np.array([0.0, -0.01, 0.21]))  # away, so that nothing hides the cube
        mask = repaint(push, cube)
        if mask.sum() > 150:
            checked += 1
            assert np.linalg.norm(centre(mask) - push.project(push.cube()[None])[0]) < 3.0
    assert checked >= 10


def test_project_takes_many_points_and_keeps_their_order(world: GoalEnv) -> None:
    world.reset(seed=0)
    points = np.random.default_rng(0).uniform([-0.2, 0.0, 0.0], [0.2, 0.25, 0.2], (7, 3))
    pixels = world.project(points)
    assert pixels.shape == (7, 2)
    for point, pixel in zip(points, pixels, strict=True):
        assert world.project(point[None])[0] == pytest.approx(pixel, abs=1e-9)
    assert (pixels > 0).all()
    assert (pixels < 128).all()


def test_the_workspace_is_in_the_picture(jaco: Any) -> None:
    jaco.reset(seed=0, options={"explore": True})
    space = jaco.observation_space["proprio"]
    corners = np.array(np.meshgrid(*zip(space.low[:3] + 0.1, space.high[:3] - 0.1, strict=True))).reshape(3, -1).T
    pixels = jaco.project(corners)
    assert (pixels > 0).all()
    assert (pixels < 128).all()


def test_the_cube_can_be_seen_at_the_start() -> None:
    seen = [red(observation["pixels"]).sum() >= 20 for observation, _, _, _ in episodes("worldmodel/JacoPush-v0")]
    env = gymnasium.make("worldmodel/JacoPush-v0")
    seen += [red(env.reset(seed=seed, options={"explore": True})[0]["pixels"]).sum() >= 20 for seed in range(60)]
    env.close()
    assert np.mean(seen) > 0.95


def test_a_closed_environment_opens_its_camera_again(env: Any, world: GoalEnv) -> None:
    picture = env.reset(seed=0)[0]["pixels"]
    world.close()
    world.close()
    assert same(env.reset(seed=0)[0]["pixels"], picture)
