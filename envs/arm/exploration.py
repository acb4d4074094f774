"""Scripted, noisy behaviours: what a person's logs would hold, and how the goals of pushing are made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.arm.controller import STEP, WORKSPACE_HIGH, WORKSPACE_LOW
from envs.exploration import OrnsteinUhlenbeck, Reading
from envs.goal_env import Policy

Array = NDArray[Any]

CLEAR = 0.14  # [m] pinch height that passes over a cube
CONTACT = 0.035  # [m] pinch height that pushes it
NEAR = 0.12  # [m] along x and y from the object's centre to where the hand meddles with it
LIFTED = 0.19  # [m] pinch height at which a cup is carried
GRASP = np.array([0.0, 0.015, 0.0])  # [m] from the pinch site to the middle between the fingers
OVER = 0.09  # [m] height of the open hand over the middle of a cup that it comes down on
STANDOFF = 0.09  # [m] from the cube's centre to where a push begins


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


def fumble(rng: np.random.Generator, motion: Policy) -> Policy:
    """A motion of the hand during which the fingers open and close at random."""
    fingers = OrnsteinUhlenbeck(rng, 1)
    return lambda: np.append(motion(), fingers())


class Carry:
    """Picks the object up and puts it down elsewhere; unless it is `sure`, it may miss, or let go on the way."""

    PHASES = ("over", "down", "close", "lift", "carry", "lower", "open", "rise")

    def __init__(
        self, rng: np.random.Generator, pinch: Reading, object_position: Reading, place: Reading, *, sure: bool = False
    ) -> None:
        """`place`: draws where the middle of the object goes, [3] [m]."""
        self._rng, self._pinch, self._object, self._place, self._sure = rng, pinch, object_position, place, sure
        self.done = False
        self._draw()

    def _draw(self) -> None:
        rng = self._rng
        self._phase, self._left = 0, 10
        self._goal = self._place()
        wrong = np.zeros(3) if self._sure else rng.normal(size=3) * (0.009, 0.009, 0.006)
        self._grasp = wrong - GRASP  # from the object's middle to the pinch site
        self._speed = 1.0 if self._sure else rng.uniform(0.5, 1.0)
        self._noise = 0.0 if self._sure else float(rng.choice([0.0, 0.08, 0.2]))
        self._lets_go = not self._sure and rng.random() < 0.15

    def _target(self, phase: str) -> Array:
        """Where the pinch site goes, [3] [m]."""
        pinch: Array = self._pinch()
        over_goal: Array = self._goal + self._grasp
        if phase in ("over", "down"):
            above: Array = self._object() + self._grasp + np.array([0.0, 0.0, OVER if phase == "over" else 0.0])
            return above
        if phase in ("lift", "rise"):
            return np.array([*pinch[:2], LIFTED])
        if phase == "carry":
            return np.array([*over_goal[:2], LIFTED])
        return over_goal if phase == "lower" else pinch

    def __call__(self) -> Array:
        phase = self.PHASES[self._phase]
        target = np.clip(self._target(phase), WORKSPACE_LOW, WORKSPACE_HIGH)
        away = target - self._pinch()
        self._left -= 1
        opened = self._left < 8  # coming from anywhere, the fingers need three decisions to open
        arrived = phase not in ("close", "open") and np.abs(away).max() < 0.01 and (opened or phase != "over")
        if arrived or self._left <= 0:
            self._phase, self._left = self._phase + 1, 3 if phase in ("down", "lower") else 8
            if self._phase == len(self.PHASES):
                self.done = True
                self._draw()
        closing = phase in ("close", "lift", "carry", "lower") and not (self._lets_go and phase == "carry")
        action = np.append(np.clip(away / STEP, -self._speed, self._speed), 1.0 if closing else -1.0)
        return np.clip(action + self._noise * self._rng.normal(size=4), -1.0, 1.0)
