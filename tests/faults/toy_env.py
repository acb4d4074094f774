"""The dot's world for the campaign, registered as faults/Toy-v0 on import: 32 px, three numbers of truth, bad days."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from dot_env import DotEnv  # lies in tests/data


class ToyEnv(DotEnv):
    """`dark`: the renderer has died and gives black pictures. `frozen`: it gives the same picture again and again."""

    def __init__(self, dark: bool = False, frozen: bool = False) -> None:
        super().__init__(size=32)
        self.dark, self.frozen = dark, frozen
        self._first: np.ndarray | None = None

    def _observe(self) -> tuple[Any, dict[str, Any]]:
        observation, info = super()._observe()
        info["privileged"] = np.append(self.position, 0.0).astype(np.float32)
        if self.dark:
            observation["pixels"][:] = 0
        if self.frozen:
            self._first = observation["pixels"] if self._first is None else self._first
            observation["pixels"] = self._first.copy()
        return observation, info


gymnasium.register("faults/Toy-v0", entry_point=ToyEnv, max_episode_steps=5)
