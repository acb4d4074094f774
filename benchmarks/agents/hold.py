"""The arm that stands still: what success costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldmodel.types import Decision, Observations


class HoldAgent:
    """Zero actions of `action_dim` numbers."""

    def __init__(self, action_dim: int) -> None:
        self._action_dim = action_dim
        self.decision = Decision()

    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Nothing to prepare."""

    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A], all zero."""
        return np.zeros((len(observations["proprio"]), self._action_dim), dtype=np.float32)
