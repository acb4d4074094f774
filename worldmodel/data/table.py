"""All episodes of all data sets as one flat table; frames are decoded once into a file.

Legend: N rows over all episodes, S image side [px], A action dim, P proprioception dim, Q privileged dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.rows import Rows
from worldmodel.errors import DataError

Array = NDArray[Any]

FILLED = 0.95  # actions that go at least so far both ways, and nowhere further than 1, fill [-1, 1]


@dataclass(frozen=True)
class Table:
    """frames uint8 [N,S,S,3], float32 actions [N,A], proprio [N,P], privileged [N,Q], episode int64 [N].

    Rows of an episode are consecutive; `actions[n]` leaves `frames[n]`. `privileged` is simulator truth for probes,
    NaN where a data set has none; nothing is trained on it, unless places=logged asks for labels. task int64 [N]: which
    of the data's tasks the row's episode is about; None where nobody asks.
    """

    frames: Rows
    actions: Array
    proprio: Array
    privileged: Array
    episode: Array
    task: Array | None = None

    def __len__(self) -> int:
        return len(self.episode)

    def split(self, held_out: float = 0.05) -> tuple[Array, Array]:
        """Training and validation episode numbers, disjoint: every k-th episode is held out, at least one.

        Raises DataError for fewer than two episodes.
        """
        episodes = np.unique(self.episode)
        if len(episodes) < 2:
            got = f"{len(episodes)}: record more"
            raise DataError(f"expected at least two episodes, one of them to be held out, got {got}")
        every = max(2, min(round(1 / held_out), len(episodes)))
        held = np.arange(len(episodes)) % every == every - 1
        return episodes[~held], episodes[held]

    def window_starts(self, length: int, episodes: Array) -> Array:
        """Rows from which `length` consecutive rows lie in one of the given episodes: int64 [W]."""
        last = np.arange(len(self)) + length - 1
        inside = last < len(self)
        starts = np.flatnonzero(inside)
        same = self.episode[starts] == self.episode[last[inside]]
        found: Array = starts[same & np.isin(self.episode[starts], episodes)]
        return found


def action_range(actions: Array, frame_skip: int = 1) -> list[list[float]] | None:
    """Lows and highs of actions [N,A], for ModelConfig.action_range; None where all of them fill [-1, 1].

    A range on both sides of zero is made symmetric: no action stays no action. The frame_skip actions that stand side
    by side share their range.
    """
    single = actions.reshape(-1, actions.shape[1] // frame_skip)
    low, high = single.min(axis=0), single.max(axis=0)
    reach = np.maximum(-low, high)
    reach = np.where((np.minimum(-low, high) >= FILLED) & (reach <= 1.0), 1.0, reach)
    both = (low < 0.0) & (high > 0.0)
    if bool((both & (reach == 1.0)).all()):
        return None
    found = np.stack([np.where(both, -reach, low), np.where(both, reach, high)])
    ranges: list[list[float]] = np.tile(found, frame_skip).astype(np.float64).tolist()
    return ranges
