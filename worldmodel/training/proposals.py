"""What the logs would do: sequences of logged actions on the way to a later picture of the same episode, imitated.

The planner begins its search there. Legend: worldmodel/types.py; n pairs of a present and a goal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.heads import Proposer
from worldmodel.training.distributed import averaged
from worldmodel.training.hindsight import hindsight
from worldmodel.training.learner import FitSettings, fit

Array = NDArray[Any]

AFTERWARDS = 0.1  # weight of standing still once the goal is reached, beside 1 of a decision on the way to it
BATCH = 256  # pairs per step


class _Imitation:
    """A proposer as the training loop sees it."""

    def __init__(self, proposer: Proposer, still: Array) -> None:
        """still: the action [A] that moves nothing."""
        self._proposer, self._still = proposer, still.astype(np.float32)

    def trainable(self) -> dict[str, nn.Module]:
        return {"proposer": self._proposer}

    def draw(
        self, table: Table, features: Rows, starts: Array, rng: np.random.Generator, count: int
    ) -> tuple[Tensor, ...]:
        """Features of n random rows and of later ones [n,M,F], proprio [n,P], the actions between [n,H,A], weights."""
        rows, goals = hindsight(table, starts, rng, count, None)
        seen, wanted = (torch.from_numpy(features[which]).float() for which in (rows, goals))
        steps = rows[:, None] + np.arange(self._proposer.steps)
        on_the_way = steps < goals[:, None]
        actions = np.where(on_the_way[..., None], table.actions[np.minimum(steps, goals[:, None])], self._still)
        weights = np.where(on_the_way, 1.0, AFTERWARDS).astype(np.float32)
        proprio = torch.from_numpy(table.proprio[rows])
        return seen, wanted, proprio, torch.from_numpy(actions), torch.from_numpy(weights)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Weighted mean squared error of the actions, over the batches of all processes."""
        seen, wanted, proprio, actions, weights = batch
        z = self._proposer.see(torch.stack([seen, wanted], dim=1))
        error = (self._proposer(z[:, 0], z[:, 1], proprio).float() - actions).square().mean(dim=-1)
        mean: Tensor = (weights * error).sum() / averaged(weights.sum())
        return mean


def fit_proposer(
    proposer: Proposer,
    table: Table,
    features: Rows,
    still: Array,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
    checkpoint_every: int = 1000,
) -> None:
    """Train in place on features [N,M,F]; still: the action [A] that moves nothing. Resumes from `folder`."""
    rows = table.window_starts(2, table.split()[0])
    proposer.fourier.fit(torch.from_numpy(table.proprio[rows]))
    settings = FitSettings(steps, BATCH, learning_rate, seed, 2, checkpoint_every=checkpoint_every)
    fit(_Imitation(proposer, still), table, features, settings, folder, device, report, "proposals")
    proposer.eval()
