"""Scripted, noisy driving for data collection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.exploration import Reading
from envs.navigation.scene import HALF, RADIUS

Array = NDArray[Any]

DOOR = 0.17  # [m] |x| beyond which the robot, on its way to the other room, still has to find the doorway
MARGIN = 0.05  # [m] places keep this far from touching a wall


def draw_place(rng: np.random.Generator, right: bool) -> Array:
    """A place [2] [m] where the robot can stand, in the right or the left room."""
    near, far = DOOR + 0.01 + MARGIN, HALF - RADIUS - MARGIN
    side = 1.0 if right else -1.0
    return np.array([side * rng.uniform(near, far), rng.uniform(-far, far)])


def way_points(place: Array, goal: Array) -> tuple[Array, Array]:
    """Where to head for next on the shortest way from places [...,2] to `goal` [2], and how long that way is [...] [m].

    Through the doorway where the goal is in the other room.
    """
    side = np.where(goal[0] > 0.0, 1.0, -1.0)
    far, near = np.array([side * DOOR, 0.0]), np.array([-side * DOOR, 0.0])
    ahead = side * place[..., 0]
    straight = np.linalg.norm(place - goal, axis=-1)
    behind = np.linalg.norm(far - goal)
    inside = np.linalg.norm(place - far, axis=-1) + behind
    before = np.linalg.norm(place - near, axis=-1) + 2 * DOOR + behind
    there, within = ahead >= DOOR, np.abs(ahead) < DOOR
    length = np.where(there, straight, np.where(within, inside, before))
    heading = np.where(there[..., None], goal, np.where(within[..., None], far, near))
    return heading, length


class Drive:
    """Drives to one place after another, in either room, at random speeds, with noise; gives up after a while."""

    def __init__(self, rng: np.random.Generator, pose: Reading) -> None:
        self._rng, self._pose = rng, pose
        self._draw()

    def _draw(self) -> None:
        rng = self._rng
        x = self._pose()[0]
        self._goal = draw_place(rng, right=bool((x > 0.0) != (rng.random() < 0.5)))
        self._speed, self._noise = rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.4)
        self._bias = rng.normal() * 0.2  # [rad] it drives a little past what it heads for
        self._backwards = rng.random() < 0.15
        self._left = int(rng.integers(8, 40))

    def __call__(self) -> Array:
        x, y, cosine, sine = self._pose()
        self._left -= 1
        if np.hypot(*(self._goal - (x, y))) < 0.1 or self._left <= 0:
            self._draw()
        target, _ = way_points(np.array([x, y]), self._goal)
        if np.hypot(*(target - (x, y))) < 0.06:  # at one end of the doorway: on to the other
            target = target * np.array([-1.0, 1.0]) if target[0] * self._goal[0] < 0.0 else self._goal
        turned = np.arctan2(target[1] - y, target[0] - x) - np.arctan2(sine, cosine) + self._bias
        if self._backwards:
            turned += np.pi
        turned = (turned + np.pi) % (2 * np.pi) - np.pi
        forward = self._speed * max(0.0, np.cos(turned)) ** 3 * (-1.0 if self._backwards else 1.0)
        action = np.array([forward, np.clip(2.0 * turned, -self._speed, self._speed)])
        return np.clip(action + self._noise * self._rng.normal(size=2), -1.0, 1.0)
