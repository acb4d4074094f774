"""Scripted, noisy behaviours: what a person's logs would hold, and how the goals of pushing are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.arm.controller import STEP, WORKSPACE_HIGH, WORKSPACE_LOW

Array = NDArray[Any]
Reading = Callable[[], Array]

CLEAR = 0.14  # [m] pinch height that passes over a cube
CONTACT = 0.035  # [m] pinch height that pushes it
NEAR = 0.12  # [m] along x and y from the object's centre to where the hand meddles with it
STANDOFF = 0.09  # [m] from the cube's centre to where a push begins


class OrnsteinUhlenbeck:
    """Temporally correlated random motion (Uhlenbeck and Ornstein 1930): action [A] per call."""

    def __init__(self, rng: np.random.Generator, action_dim: int = 3) -> None:
        self._rng = rng
        self._state = rng.normal(size=action_dim) * 0.6
        self._pull, self._kick = rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.8)

    def __call__(self) -> Array:
        self._state += -self._pull * self._state + self._kick * self._rng.normal(size=self._state.shape)
        return np.clip(self._state, -1.0, 1.0)


class Visit:
    """Goes to one place after another, at random speeds, with noise, and leaves each after a while."""

    def __init__(
        self,
        rng: np.random.Generator,
        pinch: Reading,
        place: Reading,
        *,
        slowest: float = 0.4,
        noisiest: float = 0.3,
        patience: tuple[int, int] = (4, 12),
    ) -> None:
        self._rng, self._pinch, self._place = rng, pinch, place
        self._slowest, self._noisiest, self._patience = slowest, noisiest, patience
        self._draw()

    def _draw(self) -> None:
        self._target = self._place()
        self._speed, self._noise = self._rng.uniform(self._slowest, 1.0), self._rng.uniform(0.0, self._noisiest)
        self._left = int(self._rng.integers(*self._patience))

    def __call__(self) -> Array:
        away = self._target - self._pinch()
        self._left -= 1
        if np.abs(away).max() < 0.01 or self._left <= 0:
            self._draw()
        action = np.clip(away / STEP, -self._speed, self._speed) + self._noise * self._rng.normal(size=3)
        clipped: Array = np.clip(action, -1.0, 1.0)
        return clipped


def roam(rng: np.random.Generator, pinch: Reading) -> Visit:
    """Visits places all over the workspace."""
    return Visit(rng, pinch, lambda: rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH))


def meddle(rng: np.random.Generator, pinch: Reading, object_position: Reading) -> Visit:
    """Goes to and fro between places close to the object, at any height: beside it, onto it, against it."""

    def close() -> Array:
        away = np.array([*rng.uniform(-NEAR, NEAR, 2), rng.uniform(-0.005, 0.09)])
        place: Array = np.clip(object_position() + away, WORKSPACE_LOW, WORKSPACE_HIGH)
        return place

    return Visit(rng, pinch, close, slowest=0.3, noisiest=0.4, patience=(1, 7))


class Push:
    """One push after another: over the object, down behind it, straight on, sometimes stopping or changing its mind."""

    def __init__(
        self,
        rng: np.random.Generator,
        pinch: Reading,
        object_position: Reading,
        *,
        noise: float | None = None,
        heading: float | None = None,
        length: float | None = None,
    ) -> None:
        self._rng, self._pinch, self._object = rng, pinch, object_position
        self._noise, self._heading, self._length = noise, heading, length
        self.done = False
        self._draw()

    def _draw(self) -> None:
        rng = self._rng
        self._phase = "over"
        where = self._object()[:2]
        if self._heading is not None:
            angle = self._heading
        elif rng.random() < 0.8:  # towards the middle of the workspace, so that objects stay within reach
            middle = np.array([0.0, 0.12]) + rng.normal(size=2) * 0.08
            angle = float(np.arctan2(*(middle - where)[::-1]))
        else:
            angle = rng.uniform(-np.pi, np.pi)
        self._direction = np.array([np.cos(angle), np.sin(angle)])
        self._miss = np.zeros(2) if self._heading is not None else rng.normal(size=2) * 0.012
        length = self._length if self._length is not None else rng.uniform(0.03, 0.18)
        self._end = where + self._direction * (length - 0.04)
        self._speed = 1.0 if self._heading is not None else rng.uniform(0.4, 1.0)
        self._jitter = self._noise if self._noise is not None else float(rng.choice([0.0, 0.1, 0.25]))
        self._left = 30

    def _go_on(self) -> None:
        """Push again from where the hand is, in about the same direction: more contact, less travelling."""
        turn = self._rng.normal() * 0.6
        cosine, sine = np.cos(turn), np.sin(turn)
        self._direction = np.array([[cosine, -sine], [sine, cosine]]) @ self._direction
        self._end = self._pinch()[:2] + self._direction * self._rng.uniform(0.02, 0.10)
        self._miss = np.zeros(2)
        self._left = 12

    def _target(self) -> Array:
        where, pinch = self._object()[:2], self._pinch()
        behind = where - self._direction * STANDOFF + self._miss
        if self._phase == "over":
            height = CLEAR if np.linalg.norm(pinch[:2] - behind) > 0.02 else CONTACT
            if np.linalg.norm(pinch[:2] - where) < 0.10 and pinch[2] < CLEAR - 0.04 and height == CLEAR:
                return np.array([*pinch[:2], CLEAR])  # rise first: the way there leads through the object
            if height == CLEAR or pinch[2] > CONTACT + 0.015:
                return np.array([*behind, height])
            self._phase = "push"
        return np.array([*(self._end + self._miss), CONTACT])

    def __call__(self) -> Array:
        target = self._target()
        away = target - self._pinch()
        self._left -= 1
        finished = self._phase == "push" and np.abs(target - self._pinch()).max() < 0.008
        if finished or self._left <= 0 or (self._heading is None and self._rng.random() < 0.02):
            self.done = True
            if finished and self._heading is None and self._rng.random() < 0.6:
                self._go_on()
            else:
                self._draw()
        action = np.clip(away / STEP, -self._speed, self._speed) + self._jitter * self._rng.normal(size=3)
        return np.clip(action, -1.0, 1.0)


class Mixture:
    """Switches between behaviours at random moments."""

    def __init__(
        self, rng: np.random.Generator, makers: list[Callable[[], Callable[[], Array]]], shares: list[float]
    ) -> None:
        self._rng, self._makers, self._shares = rng, makers, shares
        self._switch()

    def _switch(self) -> None:
        self._current = self._makers[int(self._rng.choice(len(self._makers), p=self._shares))]()
        self._left = int(self._rng.integers(6, 30))

    def __call__(self) -> Array:
        if self._left <= 0:
            self._switch()
        self._left -= 1
        return self._current()
