"""Reach: bring the hand to where the goal image shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.arm.controller import WORKSPACE_HIGH, WORKSPACE_LOW
from envs.arm.exploration import roam
from envs.arm.jaco import JacoEnv
from envs.exploration import Mixture, OrnsteinUhlenbeck
from envs.goal_env import Policy

Array = NDArray[Any]

MARGIN = 0.01  # [m] starts and goals keep away from the walls of the workspace
APART = 0.10  # [m] a goal is at least this far from the start


class JacoReach(JacoEnv):
    """Success: the pinch site within 0.03 m of its goal position. Budget: 15 decisions."""

    task_name = "jaco_reach"
    budget = 15
    success_radius = 0.03

    def _begin(self, explore: bool) -> None:
        self._draw_look(int(self.np_random.integers(2**31)))
        self._physics.reset()
        rng, low, high = self.np_random, WORKSPACE_LOW + MARGIN, WORKSPACE_HIGH - MARGIN
        start = rng.uniform(low, high)
        self._goal_position = rng.uniform(low, high)
        while np.linalg.norm(self._goal_position - start) < APART:
            self._goal_position = rng.uniform(low, high)
        if not explore:
            self._place_arm(self._goal_position)
            self._goal = self.render_size(self.image_size)
            self._physics.reset()
        self._place_arm(start)
        self._forbid(None if explore else self._goal_position)

    def position(self) -> Array:
        return self.pinch()

    def distance(self) -> float:
        return float(np.linalg.norm(self.pinch() - self._goal_position))

    def _plan_cost(self, pinch: Array, state: Array) -> Array:
        return np.asarray(np.linalg.norm(pinch - self._goal_position, axis=-1))

    def exploration_policy(self, rng: np.random.Generator) -> Policy:
        return Mixture(rng, [lambda: OrnsteinUhlenbeck(rng), lambda: roam(rng, self.pinch)], [0.5, 0.5])
