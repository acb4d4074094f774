"""Push: bring the cube to where the goal image shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm.controller import WORKSPACE_HIGH, WORKSPACE_LOW
from envs.arm.exploration import CLEAR, Push, meddle, roam
from envs.arm.jaco import JacoEnv
from envs.arm.scene import CUBE_HALF, add_cube
from envs.errors import PhysicsDiverged
from envs.exploration import Mixture, OrnsteinUhlenbeck
from envs.goal_env import Policy

Array = NDArray[Any]

CUBE_LOW, CUBE_HIGH = np.array([-0.14, 0.05]), np.array([0.14, 0.21])  # [m] where starts and goals lie
NEAREST, FARTHEST = 0.06, 0.20  # [m] from the cube's start to its goal
APPROACH = 0.10  # weight of the hand's distance to the cube in the oracle's cost: without it a far hand sees no slope


class JacoPush(JacoEnv):
    """Success: the cube's centre within 0.04 m of its goal. Budget: 30 decisions.

    The goal is the final state of a straight scripted push from the start state, in the same scene.
    """

    task_name = "jaco_push"
    budget = 30
    success_radius = 0.04

    def _objects(self) -> tuple[str, ...]:
        return ("cube",)

    def _add_objects(self, scene: mujoco.MjSpec) -> None:
        add_cube(scene)

    def cube(self) -> Array:
        """Cube centre [3] [m]."""
        return self.object_position("cube")

    def privileged(self) -> Array:
        return self.cube().astype(np.float32)

    def _start(self, rng: np.random.Generator, low: Array, high: Array) -> None:
        self._physics.reset()
        where = rng.uniform(low, high)
        self._place_object("cube", np.append(where, CUBE_HALF), rng.uniform(-np.pi, np.pi))
        hand = rng.uniform(WORKSPACE_LOW + 0.01, WORKSPACE_HIGH - 0.01)
        if np.linalg.norm(hand[:2] - where) < 0.11:
            hand[2] = rng.uniform(CLEAR, WORKSPACE_HIGH[2] - 0.01)
        self._place_arm(hand)

    def _begin(self, explore: bool) -> None:
        rng = self.np_random
        look_seed = int(rng.integers(2**31))
        if explore:
            self._draw_look(look_seed)
            self._start(rng, CUBE_LOW - 0.03, CUBE_HIGH + 0.03)
            if rng.random() < 0.8:  # more of the log shows the hand near the cube, where the dynamics are hard
                near = self.cube() + np.array([*rng.uniform(-0.14, 0.14, 2), rng.uniform(CLEAR - CUBE_HALF, 0.18)])
                self._place_arm(np.clip(near, WORKSPACE_LOW, WORKSPACE_HIGH))
            self._forbid(None)
            return

        def attempt() -> Array | None:
            self._start(rng, CUBE_LOW, CUBE_HIGH)
            start, before = self.get_state(), self.cube()
            return start if self._scripted_push(rng) and self._is_goal(before) else None

        self._find_goal(look_seed, attempt, self.cube)

    def _scripted_push(self, rng: np.random.Generator) -> bool:
        heading, length = rng.uniform(-np.pi, np.pi), rng.uniform(NEAREST, FARTHEST + 0.04)
        push = Push(rng, self.pinch, self.cube, noise=0.0, heading=heading, length=length)
        try:
            for _ in range(self.budget):
                self._simulate(push())
                if push.done:
                    return True
        except PhysicsDiverged:
            pass
        return False

    def _is_goal(self, before: Array) -> bool:
        cube = self.cube()
        moved = np.linalg.norm(cube - before)
        inside = (cube[:2] >= CUBE_LOW).all() and (cube[:2] <= CUBE_HIGH).all()
        settled = abs(cube[2] - CUBE_HALF) < 0.005 and self._is_settled("cube")
        plausible = NEAREST <= moved <= FARTHEST and inside and settled
        return bool(plausible and self.is_seen())

    def position(self) -> Array:
        return self.cube()

    def distance(self) -> float:
        return float(np.linalg.norm(self.cube() - self._goal_position))

    def _plan_cost(self, pinch: Array, state: Array) -> Array:
        address = self._physics.model.joint("cube").qposadr[0]
        cube = state[..., address : address + 3]
        to_goal = np.linalg.norm(cube - self._goal_position, axis=-1)
        return np.asarray(to_goal + APPROACH * np.linalg.norm(pinch - cube, axis=-1))

    def exploration_policy(self, rng: np.random.Generator) -> Policy:
        makers: list[Callable[[], Policy]] = [
            lambda: OrnsteinUhlenbeck(rng),
            lambda: roam(rng, self.pinch),
            lambda: meddle(rng, self.pinch, self.cube),
            lambda: Push(rng, self.pinch, self.cube),
        ]
        return Mixture(rng, makers, [0.1, 0.05, 0.35, 0.5])
