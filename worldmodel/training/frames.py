"""Fits of small networks to what single frames show: the object's place, and the hand's.

Legend: N rows of the table, M encoder tokens, F their width, Q place dim, B rows per step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.precision import mixed_precision
from worldmodel.projector import PoseReader
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.descent import finite
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine

Array = NDArray[Any]

Places = Literal["touched", "logged"]
"""How the tracker learns where objects are."""

NARROW = 0.2  # errors of a place beyond this many units weigh linearly
POSE_STAGE = 100  # far from the tracker's


@dataclass(frozen=True)
class TrackSettings:
    """steps: optimiser steps of each of the 2 + rounds fits. batch_size: frames per step.

    places: learned by touch, without labels, or from the objects' positions in the logs; then there are no rounds.
    """

    steps: int
    rounds: int
    learning_rate: float
    seed: int
    batch_size: int = 384
    places: Places = "touched"


def fit_part(
    part: nn.Module,
    draw: Callable[[np.random.Generator], Tensor],
    settings: TrackSettings,
    stage: int,
    name: str,
    report: Callable[[dict[str, float]], None],
    first: int = 0,
) -> torch.optim.Optimizer:
    """One fit, from a fresh optimiser. stage: tells the random numbers of a run's fits apart. first: step reported.

    Raises TrainingError for a loss or a gradient that is not finite.
    """
    optimizer = torch.optim.AdamW(part.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=1e-3)
    bar = tqdm(total=settings.steps, unit="step", desc=name, mininterval=1.0)
    for step in range(settings.steps):
        loss = draw(step_rng(settings.seed + 1000 * (stage + 1), step))
        set_learning_rate(optimizer, warmup_cosine(step, settings.steps, settings.learning_rate))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = finite(loss, torch.nn.utils.clip_grad_norm_(part.parameters(), 5.0), step)
        optimizer.step()
        bar.update()
        if step % 50 == 0:
            report({"step": first + step, "loss": value})
            bar.set_postfix(loss=f"{value:.4f}")
    bar.close()
    return optimizer


def read_rows(features: Rows, rows: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(features[rows.ravel()]).float().to(device).reshape(*rows.shape, *features.shape[1:])


def seen_in(part: nn.Module, features: Rows, rows: Array, device: torch.device) -> Tensor:
    """What a part of the tracker says of rows [B,T]: [B,T,Q] or [B,T,1], from products in bf16."""
    with mixed_precision(device):
        found: Tensor = part(read_rows(features, rows, device))[:, :, 0]
    return found.float()


@torch.no_grad()
def track(part: nn.Module, features: Rows, device: torch.device) -> Array:
    """The same of all rows: float32 [N,...]."""
    chunks = [np.arange(start, min(start + 512, len(features)))[:, None] for start in range(0, len(features), 512)]
    return np.concatenate([part(read_rows(features, rows, device))[:, 0, 0].float().cpu().numpy() for rows in chunks])


def frame_loss(
    part: nn.Module,
    features: Rows,
    wanted: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
    rows: Array,
    settings: TrackSettings,
    device: torch.device,
) -> Callable[[np.random.Generator], Tensor]:
    """What a part of the tracker says of single frames, against what is wanted of them [N,Q]."""

    def loss(rng: np.random.Generator) -> Tensor:
        picked = np.sort(rng.choice(rows, settings.batch_size))
        return criterion(seen_in(part, features, picked[:, None], device)[:, 0], wanted[torch.from_numpy(picked)])

    return loss


def place_criterion(places: Tensor, wanted: Tensor) -> Tensor:
    """Mean Huber loss of places [B,Q] in units of PLACE_UNIT."""
    return F.smooth_l1_loss(places, wanted, beta=NARROW)


def fit_pose(
    reader: PoseReader,
    table: Table,
    features: Rows,
    settings: TrackSettings,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train in place on features [N,M,F]: robots log where their hand is, so the label is free. Resumes when done."""
    reader.to(device).train()
    idle = torch.optim.AdamW(reader.parameters(), lr=0.0)
    if load_checkpoint(folder, {"reader": reader}, idle) is None:
        rows = table.window_starts(1, table.split()[0])
        reader.fit(torch.from_numpy(table.proprio[rows]))
        wanted = reader.units(torch.from_numpy(table.proprio)).to(device)
        loss = frame_loss(reader.body, features, wanted, place_criterion, rows, settings, device)
        optimizer = fit_part(reader.body, loss, settings, POSE_STAGE, "pose", report)
        save_checkpoint(folder, 1, {"reader": reader}, optimizer, {})
    reader.eval()
