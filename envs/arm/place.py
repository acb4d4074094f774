"""Place: pick a cup up and put it where the goal image shows it, from a platform to the table or the other way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm.controller import WORKSPACE_HIGH, WORKSPACE_LOW
from envs.arm.exploration import GRASP, LIFTED, OVER, Carry, fumble, meddle, roam
from envs.arm.jaco import FINGERS_CLOSED, FINGERS_OPEN, JacoEnv
from envs.arm.scene import CUP_HALF, PLATFORM, PLATFORM_HALF, PLATFORM_TOP, add_cup, balance_fingers
from envs.errors import PhysicsDiverged
from envs.exploration import Mixture, OrnsteinUhlenbeck
from envs.goal_env import Policy

Array = NDArray[Any]

TABLE_LOW, TABLE_HIGH = np.array([-0.16, 0.05]), np.array([-0.03, 0.21])  # [m] where the cup stands on the table
TILT = np.deg2rad(20.0)  # a cup that leans further is not upright
REST = 0.05  # [m/s] and, times ten, [rad/s]; a faster cup is not at rest
# The oracle's cost: the way of the cup, and so much of the way of the hand, of the grip [m] and of a tilt [m/rad].
APPROACH, GRIPPED, UPRIGHT = 0.5, 0.3, 0.1
NEAR = 0.03  # [m] of the hand from the cup, from where the fingers should rather close
HOLDING, EMPTY = 0.7, 0.8  # [rad] angles of fingers around a cup, and of fingers that have missed it
CLEAR = 0.02  # [m] height at which the cup is to pass over the platform
APART = 0.10  # [m] the hand starts at least this far from where the cup goes
WHOLE = (25, 45)  # decisions of one behaviour in a log: a cup is carried in about 30


class JacoPlace(JacoEnv):
    """Success: the cup within 0.05 m of its goal, upright within 20 degrees, and at rest. Budget: 40 decisions.

    The goal is the final state of a scripted pick and place from the start state, in the same scene.
    """

    task_name = "jaco_place"
    budget = 40
    success_radius = 0.05
    grips = True

    def _objects(self) -> tuple[str, ...]:
        return ("cup",)

    def _add_objects(self, scene: mujoco.MjSpec) -> None:
        add_cup(scene)
        balance_fingers(scene)

    def cup(self) -> Array:
        """Middle of the cup [3] [m]."""
        return self.object_position("cup")

    def privileged(self) -> Array:
        return self.cup().astype(np.float32)

    def _draw_place(self, rng: np.random.Generator, on_platform: bool) -> Array:
        """Where the middle of the cup may be, [3] [m]."""
        if on_platform:
            return np.array([*(PLATFORM + rng.uniform(-0.02, 0.02, 2)), PLATFORM_TOP + CUP_HALF])
        return np.array([*rng.uniform(TABLE_LOW, TABLE_HIGH), CUP_HALF])

    def _start(self, rng: np.random.Generator, cup: Array, goal: Array) -> None:
        """The cup at `cup`, the hand anywhere but at `goal`, both [3] [m]."""
        self._physics.reset()
        self._place_object("cup", cup, rng.uniform(-np.pi, np.pi))
        hand = goal
        while np.linalg.norm(hand - goal) < APART:
            hand = rng.uniform(WORKSPACE_LOW + 0.01, WORKSPACE_HIGH - 0.01)
            near_platform = (np.abs(hand[:2] - PLATFORM) < PLATFORM_HALF + 0.10).all()
            if near_platform or np.linalg.norm(hand[:2] - cup[:2]) < 0.15:
                hand[2] = rng.uniform(LIFTED, WORKSPACE_HIGH[2] - 0.005)
        self._place_arm(hand, rng.uniform(FINGERS_OPEN, FINGERS_CLOSED))

    def _begin(self, explore: bool) -> None:
        rng = self.np_random
        look_seed = int(rng.integers(2**31))
        if explore:
            self._draw_look(look_seed)
            on_platform = bool(rng.random() < 0.5)
            cup = self._draw_place(rng, on_platform)
            self._start(rng, cup, self._draw_place(rng, not on_platform))
            if rng.random() < 0.5:  # more of the log shows the open hand around the cup, where the dynamics are hard
                around = cup - GRASP + np.array([*rng.normal(size=2) * 0.006, rng.uniform(-0.01, OVER)])
                self._place_arm(np.clip(around, WORKSPACE_LOW, WORKSPACE_HIGH), FINGERS_OPEN)
            self._forbid(None)
            return

        def attempt() -> Array | None:
            on_platform = bool(rng.random() < 0.5)
            cup, goal = self._draw_place(rng, on_platform), self._draw_place(rng, not on_platform)
            self._start(rng, cup, goal)
            start = self.get_state()
            return start if self._scripted_place(rng, goal) and self._is_goal(goal) else None

        self._find_goal(look_seed, attempt, self.cup)

    def _scripted_place(self, rng: np.random.Generator, goal: Array) -> bool:
        carry = Carry(rng, self.pinch, self.cup, lambda: goal, sure=True)
        with contextlib.suppress(PhysicsDiverged):
            for _ in range(self.budget):
                self._simulate(carry())
                if carry.done:
                    return True
        return False

    def _is_goal(self, goal: Array) -> bool:
        stands = np.linalg.norm(self.cup() - goal) < 0.02 and self._is_settled("cup")
        return bool(stands and self.is_seen())

    def position(self) -> Array:
        return self.cup()

    def distance(self) -> float:
        return float(np.linalg.norm(self.cup() - self._goal_position))

    def success(self) -> bool:
        speed = self._physics.data.joint("cup").qvel * ([1.0] * 3 + [0.1] * 3)
        upright = self._physics.data.body("cup").xmat[8] >= np.cos(TILT)
        return bool(super().success() and upright and np.linalg.norm(speed) <= REST)

    def _plan_cost(self, pinch: Array, state: Array) -> Array:
        address = self._physics.model.joint("cup").qposadr[0]
        cup, (x, y) = state[..., address : address + 3], np.moveaxis(state[..., address + 4 : address + 6], -1, 0)
        tilt = np.arccos(np.clip(1.0 - 2.0 * (x**2 + y**2), -1.0, 1.0))
        over_platform = np.maximum(PLATFORM_TOP + CUP_HALF, self._goal_position[2]) + CLEAR
        way = way_over(cup, self._goal_position, over_platform)
        hand = way_over(pinch + GRASP, cup, cup[..., 2] + OVER)
        around = np.clip(1.5 - hand / NEAR, 0.0, 1.0)
        fingers = state[..., self._fingers].mean(axis=-1)
        closed = np.interp(fingers, [FINGERS_OPEN, HOLDING], [0.0, 1.0])
        holding = np.interp(fingers, [FINGERS_OPEN, HOLDING, EMPTY, FINGERS_CLOSED], [0.0, 1.0, 1.0, 0.0])
        grip = 1.0 + 0.3 * closed - 1.3 * around * holding  # far from the cup the fingers open, around it they close
        return np.asarray(way + APPROACH * hand + GRIPPED * grip + UPRIGHT * tilt)

    def exploration_policy(self, rng: np.random.Generator) -> Policy:
        def place() -> Array:
            return self._draw_place(rng, bool(rng.random() < 0.5))

        makers: list[Callable[[], Policy]] = [
            lambda: OrnsteinUhlenbeck(rng, 4),
            lambda: fumble(rng, roam(rng, self.pinch)),
            lambda: fumble(rng, meddle(rng, self.pinch, self.cup)),
            lambda: Carry(rng, self.pinch, self.cup, place),
        ]
        return Mixture(rng, makers, [0.1, 0.05, 0.15, 0.7], WHOLE)


def way_over(start: Array, end: Array, height: Array | float) -> Array:
    """Length [...] [m] of the way from `start` to `end`, [...,3], that is at `height` until it is nearly over `end`."""
    aside = np.linalg.norm(start[..., :2] - end[..., :2], axis=-1)
    low = end[..., 2]
    keep = low + (height - low) * np.clip((aside - 0.01) / 0.04, 0.0, 1.0)
    return np.asarray(aside + np.abs(start[..., 2] - keep) + np.abs(keep - low))
