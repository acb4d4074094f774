"""A world of one red dot on a grey field that keeps the environment contract; registered as tiny/Dot-v0 on import.

An action whose first component exceeds `explode_above` makes the simulation diverge. Two variables of the process act
on it from outside: DOT_DIE_AT, the reset seed at which it is killed; DOT_GATE, a pipe from which it must read a byte.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np

DIE_AT = "DOT_DIE_AT"
GATE = "DOT_GATE"


class DotEnv(gymnasium.Env[Any, Any]):
    """The dot moves by 0.1 of the field per unit of action; proprioception is its position and its last step."""

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array"],
        "render_fps": 5,
        "robot_type": "dot",
        "shadows": False,
    }
    task_name = "tiny_dot"
    budget = 5

    def __init__(
        self,
        size: int = 16,
        explode_above: float = 9.0,
        privileged: bool = True,
        refuse: str = "",
        tasks: tuple[str, ...] = (),
    ) -> None:
        if refuse:
            raise RuntimeError(refuse)
        if GATE in os.environ:
            with open(os.environ[GATE], "rb", buffering=0) as gate:
                gate.read(1)
        self.size, self.explode_above, self.privileged = size, explode_above, privileged
        self.log_tasks, self.about = tuple(tasks) or (self.task_name,), 0
        self.observation_space = gymnasium.spaces.Dict(
            {
                "pixels": gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8),
                "proprio": gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32),
            }
        )
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.position, self.step_taken, self.diverged = np.zeros(2), np.zeros(2), False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        assert options == {"explore": True}
        if str(seed) == os.environ.get(DIE_AT):
            os.kill(os.getpid(), signal.SIGKILL)
        self.position, self.step_taken = self.np_random.uniform(0.2, 0.8, 2), np.zeros(2)
        self.diverged, self.about = False, int(self.np_random.integers(len(self.log_tasks)))
        return self._observe()

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before = self.position
        self.position = np.clip(before + 0.1 * action, 0.05, 0.95)
        self.step_taken = self.position - before
        self.diverged = bool(action[0] > self.explode_above)
        observation, info = self._observe()
        return observation, 0.0, self.diverged, False, info

    def _observe(self) -> tuple[Any, dict[str, Any]]:
        pixels = np.full((self.size, self.size, 3), 40, dtype=np.uint8)
        y, x = np.mgrid[: self.size, : self.size] / self.size
        near = (x - self.position[0]) ** 2 + (y - self.position[1]) ** 2 < 0.02
        pixels[near] = [220, 40, 40]
        proprio = np.concatenate([self.position, self.step_taken]).astype(np.float32)
        info: dict[str, Any] = {"success": False, "diverged": self.diverged, "distance": 0.0}
        if len(self.log_tasks) > 1:
            info["task"] = self.log_tasks[self.about]
        if self.privileged:
            info["privileged"] = (10 * self.position).astype(np.float32)
        return {"pixels": pixels, "proprio": proprio}, info

    def exploration_policy(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        return lambda: rng.uniform(-1, 1, 2)


gymnasium.register("tiny/Dot-v0", entry_point=DotEnv, max_episode_steps=5)
