"""The registered tasks, and what tests do to their worlds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

import envs
from envs.arm.jaco import JacoEnv
from envs.arm.rearrange import CUBES
from envs.goal_env import GoalEnv

TASKS = dict(envs.TASKS)
CLASSES: dict[str, Any] = {name: load_env_creator(entry) for name, (entry, _) in TASKS.items()}
MOVING = [name for name, task in CLASSES.items() if task.privileged is not GoalEnv.privileged]
JACO = [name for name, task in CLASSES.items() if issubclass(task, JacoEnv)]


@functools.cache
def episodes(name: str) -> list[tuple[Any, ...]]:
    """(observation, info, goal position, state) at the start of seeds 0, 1, ... of a task, drawn once for all tests."""
    env = gymnasium.make(name)
    world: Any = env.unwrapped
    starts = [(*env.reset(seed=seed), world._goal_position.copy(), world.get_state()) for seed in range(24)]
    env.close()
    return starts


def draw(world: GoalEnv, count: int, seed: int) -> Any:
    """Actions [count, A] in the box."""
    low, high = world.action_space.low, world.action_space.high
    return np.random.default_rng(seed).uniform(low, high, (count, len(low))).astype(np.float32)


def roll(world: GoalEnv, actions: Any) -> list[Any]:
    """What each step returns."""
    return [world.step(action) for action in actions]


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit, NaN equal to NaN, through dicts, lists and tuples."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    return bool(np.array_equal(first, second, equal_nan=isinstance(first, float)))


def _hand_to(world: Any, offset: float) -> None:
    inward = np.sign(0.1 - world._goal_position[1])  # so that the place lies in the workspace, as the goal does
    world._place_arm(world._goal_position + np.array([0.0, inward * offset, 0.0]))


def _cube_to(world: Any, offset: float) -> None:
    # The cube is put on a goal that lies on the table; the hand, wherever it was, is taken out of its way.
    world._place_arm(np.array([0.0, 0.0, 0.21]))
    world._place_object("cube", world._goal_position + np.array([0.0, offset, 0.0]), 0.0)
    world._physics.forward()


def _cubes_to(world: Any, offset: float) -> None:
    world._place_arm(np.array([0.0, 0.0, 0.21]))
    for name, goal, away in zip(CUBES, world._goal_position, (0.0, offset), strict=True):
        world._place_object(name, goal + np.array([0.0, away, 0.0]), 0.0)
    world._physics.forward()


def _cup_to(world: Any, offset: float) -> None:
    world._place_arm(np.array([0.02, 0.0, 0.21]))
    world._place_object("cup", world._goal_position + np.array([0.0, offset, 0.0]), 0.0)
    world._physics.forward()


def _robot_to(world: Any, offset: float) -> None:
    inward = np.sign(-world._goal_position[1])
    world._place_robot(world._goal_position + np.array([0.0, inward * offset]), 0.0)


def _links_to(world: Any, offset: float) -> None:
    inward = -np.sign(world._goal_position[1])  # the wrist has limits, which push back
    world._place_arm(world._goal_position + np.array([0.0, inward * offset / 0.12]))


PLACE: dict[str, Callable[[Any, float], None]] = {
    "jaco_reach": _hand_to,
    "jaco_push": _cube_to,
    "jaco_rearrange": _cubes_to,
    "jaco_place": _cup_to,
    "navigate": _robot_to,
    "dmc_reacher": _links_to,
}
"""By task: bring the world, at rest, to `offset` [m] from the goal. A task without an entry fails its tests."""


def repaint(world: Any, geoms: list[int]) -> Any:
    """bool [S,S]: the pixels that show any of these geoms."""
    colours = world._physics.model.geom_rgba
    kept, pictures = colours[geoms].copy(), []
    for value in (0.0, 1.0):
        colours[geoms, :3] = value
        pictures.append(world.render())
    colours[geoms] = kept
    return (pictures[0] != pictures[1]).any(axis=-1)


def centre(mask: Any) -> Any:
    """Mean pixel coordinates (x right, y down) of a mask; a pixel's centre lies half a pixel from its corner."""
    return np.argwhere(mask).mean(axis=0)[::-1] + 0.5


def red(picture: Any) -> Any:
    """bool [S,S]: the pixels in which red is more than twice green and blue: the cube's."""
    values = picture.astype(int)
    return (values[..., 0] > 90) & (values[..., 0] > 2 * values[..., 1:].max(axis=-1))


def geoms(world: Any, prefix: str) -> list[int]:
    model = world._physics.model
    return [index for index in range(model.ngeom) if model.geom(index).name.startswith(prefix)]
