"""Behaviours for data collection that know nothing of a task: random motion, and a mixture of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Reading = Callable[[], Array]
"""Tells where something is, as of now."""


class OrnsteinUhlenbeck:
    """Temporally correlated random motion (Uhlenbeck and Ornstein 1930): action [A] per call."""

    def __init__(self, rng: np.random.Generator, action_dim: int = 3) -> None:
        self._rng = rng
        self._state = rng.normal(size=action_dim) * 0.6
        self._pull, self._kick = rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.8)

    def __call__(self) -> Array:
        self._state += -self._pull * self._state + self._kick * self._rng.normal(size=self._state.shape)
        return np.clip(self._state, -1.0, 1.0)


class Mixture:
    """Switches between behaviours at random moments."""

    def __init__(
        self,
        rng: np.random.Generator,
        makers: list[Callable[[], Callable[[], Array]]],
        shares: list[float],
        patience: tuple[int, int] = (6, 30),
    ) -> None:
        """patience: least and most decisions of one behaviour."""
        self._rng, self._makers, self._shares, self._patience = rng, makers, shares, patience
        self._switch()

    def _switch(self) -> None:
        self._current = self._makers[int(self._rng.choice(len(self._makers), p=self._shares))]()
        self._left = int(self._rng.integers(*self._patience))

    def __call__(self) -> Array:
        if self._left <= 0:
            self._switch()
        self._left -= 1
        return self._current()
