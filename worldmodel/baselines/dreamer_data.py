"""Logs without rewards -> sequences with goals and rewards, by hindsight; and what DreamerV3 sees of a picture.

Legend: worldmodel/types.py. N rows of the table, n sequences of L steps, time first as sheeprl takes it: [L,n].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data.table import Table

Array = NDArray[Any]


@dataclass(frozen=True)
class Sequences:
    """rows and goals: int64 [L,n] into the table. first: bool [L,n], a new goal is pursued from here on.

    reached: bool [L,n], the row is its goal.
    """

    rows: Array
    goals: Array
    first: Array

    @property
    def reached(self) -> Array:
        """bool [L,n]."""
        found: Array = self.rows == self.goals
        return found


def later_rows(table: Table, rows: Array, rng: np.random.Generator, span: int | None) -> Array:
    """For each row [n] a later one of its episode, at most `span` decisions away; the last row is its own goal.

    Every distance that the episode allows is equally likely (Andrychowicz et al. 2017, arXiv 1707.01495).
    """
    last = np.searchsorted(table.episode, table.episode[rows], side="right") - 1
    left = last - rows if span is None else np.minimum(last - rows, span)
    goals: Array = rows + rng.integers(np.minimum(left, 1), left + 1)
    return goals


def hindsight_sequences(
    table: Table, starts: Array, rng: np.random.Generator, count: int, length: int, span: int | None, absorbing: bool
) -> Sequences:
    """n sequences of L consecutive rows from random `starts`, and the goals pursued in them.

    absorbing: reaching the goal ends the pursuit, and with the next row another begins; otherwise a sequence has one
    goal, also after it was passed.
    """
    rows = starts[rng.integers(0, len(starts), count)] + np.arange(length)[:, None]
    goals, first = np.empty_like(rows), np.zeros(rows.shape, bool)
    goals[0], first[0] = later_rows(table, rows[0], rng, span), True
    for step in range(1, length):
        goals[step] = goals[step - 1]
        if absorbing:
            first[step] = rows[step] > goals[step]
            goals[step][first[step]] = later_rows(table, rows[step][first[step]], rng, span)
    return Sequences(rows, goals, first)


def labels(found: Sequences, absorbing: bool, rewards: Tensor | None = None) -> dict[str, Tensor]:
    """What sheeprl wants beside observations and actions, float32 [L,n,1].

    absorbing: a reached goal is rewarded with 1 and terminates. rewards: [L,n] instead, and nothing terminates; without
    either there is neither. A step's reward is that of arriving in it.
    """
    done = torch.from_numpy(found.reached & absorbing).float()
    first = torch.from_numpy(found.first).float()
    named = {"rewards": done if rewards is None else rewards, "terminated": done}
    named |= {"truncated": torch.zeros_like(done), "is_first": first}
    return {name: value[..., None] for name, value in named.items()}


def distance_reward(now: Tensor, goal: Tensor) -> Tensor:
    """Minus the root mean square difference of embeddings [...,E]: [...]; 0 at the goal."""
    return -(now - goal).square().mean(dim=-1).sqrt()


def pooled(features: Tensor, pool: int) -> Tensor:
    """A square grid of tokens [...,M,F], averaged over squares of side `pool`, side by side: [...,M / pool^2 * F]."""
    side = math.isqrt(features.shape[-2])
    grid = features.reshape(-1, side // pool, pool, side // pool, pool, features.shape[-1])
    return grid.mean(dim=(2, 4)).reshape(*features.shape[:-2], -1)


def small_pictures(frames: Tensor, side: int) -> Tensor:
    """uint8 [n,S,S,3] -> uint8 [n,3,s,s], each pixel a mean over its area."""
    return F.adaptive_avg_pool2d(frames.movedim(-1, 1).float(), (side, side)).round().to(torch.uint8)
