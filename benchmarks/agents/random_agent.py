"""Uniform random actions: the floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldmodel.types import Decision, Observations


class RandomAgent:
    """Uniform actions of `action_dim` numbers; every episode draws from its own generator of (`seed`, episode seed).

    So an episode's actions do not depend on which episodes run beside it.
    """

    def __init__(self, action_dim: int, seed: int = 0) -> None:
        self._action_dim, self._seed = action_dim, seed
        self._generators: list[np.random.Generator] = []
        self.decision = Decision()

    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Seed one generator per episode."""
        self._generators = [np.random.default_rng([self._seed, seed]) for seed in seeds]

    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A] in [-1, 1]."""
        draws = [generator.uniform(-1, 1, self._action_dim) for generator in self._generators]
        return np.stack(draws).astype(np.float32)
