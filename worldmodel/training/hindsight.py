"""Goals in hindsight: whatever an episode came to later, it was on the way to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.table import Table

Array = NDArray[Any]


def hindsight(
    table: Table, starts: Array, rng: np.random.Generator, count: int, span: int | None
) -> tuple[Array, Array]:
    """n rows drawn from `starts` and, for each, a later row of its episode at most `span` decisions away: int64 [n].

    Every distance that the episode allows is equally likely (Andrychowicz et al. 2017, arXiv 1707.01495; Ghosh et al.
    2021, arXiv 1912.06088).
    """
    rows = starts[rng.integers(0, len(starts), count)]
    last = np.searchsorted(table.episode, table.episode[rows], side="right") - 1
    left = last - rows if span is None else np.minimum(last - rows, span)
    goals: Array = rows + rng.integers(1, left + 1)
    return rows, goals
