"""One training loop for baselines and proposals: draw, lose, step; checkpoints on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.precision import mixed_precision
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.descent import descend
from worldmodel.training.distributed import rank, size
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine

Array = NDArray[Any]


class Learner(Protocol):
    """What the loop asks of what it trains."""

    def trainable(self) -> Mapping[str, nn.Module]:
        """Its parts, whose parameters are trained and whose buffers are kept."""
        ...

    def draw(
        self, table: Table, features: Rows, starts: Array, rng: np.random.Generator, count: int
    ) -> tuple[Tensor, ...]:
        """A batch of `count` samples that begin at rows out of `starts`."""
        ...

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """What is minimised for such a batch, a scalar."""
        ...


@dataclass(frozen=True)
class FitSettings:
    """steps: optimiser steps. batch_size: samples per step. window: rows that a sample needs from its first on.

    warmup: steps in which DreamerV3's learning rate rises; that of the others follows from `steps`.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    window: int
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    checkpoint_every: int = 1000
    warmup: int = 1000


def fit(
    learner: Learner,
    table: Table,
    features: Rows,
    settings: FitSettings,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
    name: str = "baseline",
) -> None:
    """Train in place, resuming from the newest checkpoint in `folder`. Raises TrainingError for a non-finite loss.

    Of several processes each takes its share of every batch. name: on the progress bar.
    """
    starts = table.window_starts(settings.window, table.split()[0])
    parts = learner.trainable()
    for module in parts.values():
        module.to(device).train()
    parameters = [parameter for module in parts.values() for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    state = load_checkpoint(folder, parts, optimizer)
    first = 0 if state is None else int(state["step"])
    bar = tqdm(total=settings.steps, initial=first, unit="step", desc=name, mininterval=1.0, disable=rank() > 0)
    for step in range(first, settings.steps):
        batch = learner.draw(table, features, starts, step_rng(settings.seed, step), settings.batch_size)
        set_learning_rate(optimizer, warmup_cosine(step, settings.steps, settings.learning_rate))
        with mixed_precision(device):
            loss = learner.loss([part[rank() :: size()].to(device) for part in batch])
        value = descend(loss, optimizer, parameters, settings.clip_norm, step)
        bar.update()
        if step % 50 == 0:
            report({"step": step, "loss": value})
            bar.set_postfix(loss=f"{value:.4f}")
        if (step + 1) % settings.checkpoint_every == 0 and rank() == 0:
            save_checkpoint(folder, step + 1, parts, optimizer, {})
    bar.close()
    for module in parts.values():
        module.to("cpu").eval()
