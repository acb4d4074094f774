"""A small but real environment that honours the contract: a dot that moves in a 1 m square towards a goal.

`fault` breaks the episode of `fault_seed` after `fault_at` decisions, in the ways a simulated world breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

SIDE = 32  # [px]
STEP = 0.08  # [m]
FAULTS = ("", "nan_distance", "nan_proprio", "diverged", "raises", "raises_at_reset", "ends_early")


class TinyEnv(gymnasium.Env[dict[str, NDArray[Any]], NDArray[np.float32]]):
    task_name, budget, success_radius = "tiny", 12, 0.05
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, fault: str = "", fault_at: int = 3, fault_seed: int | None = None) -> None:
        assert fault in FAULTS
        self._fault, self._fault_at, self._fault_seed = fault, fault_at, fault_seed
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            pixels=box(0, 255, (SIDE, SIDE, 3), np.uint8), proprio=box(-2, 2, (3,), np.float32)
        )
        self.action_space = box(-1, 1, (3,), np.float32)
        self._pixels = np.zeros((SIDE, SIDE, 3), np.uint8)  # reused, as careless environments do
        self._proprio = np.zeros(3, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._seed, self._count = seed, 0
        if self._faulty("raises_at_reset"):
            raise RuntimeError("the world\nwould not start")
        self._position, self._goal = self.np_random.uniform(0.1, 0.9, (2, 3))
        self._position[2] = self._goal[2] = 0.0
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._count += 1
        if self._faulty("raises"):
            raise RuntimeError("the world broke")
        self._position = np.clip(self._position + STEP * np.asarray(action, np.float64) * (1, 1, 0), 0, 1)
        info = self._info()
        if self._faulty("nan_distance"):
            info["distance"] = float("nan")
        info["diverged"] = self._faulty("diverged")
        ended = info["diverged"] or self._faulty("ends_early")
        return self._observe(), -info["distance"], ended, False, info

    def get_state(self) -> NDArray[np.float64]:
        return np.append(self._position, self._count)

    def set_state(self, state: NDArray[np.float64]) -> None:
        self._position, self._count = state[:3].copy(), int(state[3])

    def project(self, points: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(points, np.float64)[:, :2] * SIDE

    def evaluate_plans(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        moves = STEP * np.clip(actions, -1, 1) * (1, 1, 0)
        positions = self._position[None].repeat(len(moves), 0)
        costs = np.empty(actions.shape[:2])
        for step in range(actions.shape[1]):
            positions = np.clip(positions + moves[:, step], 0, 1)
            costs[:, step] = np.linalg.norm(positions - self._goal, axis=-1)
        return costs

    def render_size(self, side: int) -> NDArray[np.uint8]:
        return self._paint(self._position, np.zeros((side, side, 3), np.uint8), (90, 170, 255))

    def _faulty(self, name: str) -> bool:
        due = name == "raises_at_reset" or self._count == self._fault_at
        return self._fault == name and due and self._fault_seed in (None, self._seed)

    def _observe(self) -> dict[str, NDArray[Any]]:
        self._pixels[:] = 0
        self._paint(self._position, self._pixels, (90, 170, 255))
        self._proprio[:] = np.nan if self._faulty("nan_proprio") else self._position
        return {"pixels": self._pixels, "proprio": self._proprio}

    def _info(self) -> dict[str, Any]:
        distance = float(np.linalg.norm(self._position - self._goal))
        goal = self._paint(self._goal, np.zeros((SIDE, SIDE, 3), np.uint8), (90, 170, 255))
        return {"success": distance < self.success_radius, "goal": goal, "diverged": False, "distance": distance}

    @staticmethod
    def _paint(position: NDArray[Any], canvas: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
        side, reach = len(canvas), max(1, len(canvas) // 16)
        column, row = (position[:2] * (side - 1)).astype(int)
        canvas[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach] = colour
        return canvas


def maker(**options: Any) -> Callable[[], gymnasium.Env[Any, Any]]:
    """A factory as `evaluate` wants it, with the time limit of a registered environment."""
    return lambda: gymnasium.wrappers.TimeLimit(TinyEnv(**options), max_episode_steps=TinyEnv.budget)


class HomingAgent:
    """Walks to the goal dot it sees; so it solves the task from the pictures alone."""

    def __init__(self) -> None:
        from worldmodel.types import Decision

        self.decision = Decision()
        self.seen: list[dict[str, NDArray[Any]]] = []

    def reset(self, goals: NDArray[np.uint8], seeds: Any) -> None:
        self._goals = np.stack([_dot(goal) for goal in goals])

    def act(self, observations: Any) -> NDArray[np.float32]:
        import torch

        from worldmodel.types import Decision

        self.seen.append(dict(observations))
        away = self._goals - np.stack([_dot(picture) for picture in observations["pixels"]])
        here = observations["proprio"].astype(np.float64)
        steps = np.linspace(0, 1, 6)[1:, None]
        path = np.stack([start + np.pad(move, (0, 1)) * steps for start, move in zip(here, away, strict=True)])
        self.decision = Decision(energy=torch.from_numpy((away**2).sum(-1)), path=torch.from_numpy(path))
        return np.clip(np.pad(away, ((0, 0), (0, 1))) / STEP, -1, 1).astype(np.float32)


def _dot(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Where the dot is, (x, y) in [m]."""
    rows, columns = np.nonzero(picture.any(-1))
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / SIDE
