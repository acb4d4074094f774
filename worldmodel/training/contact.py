"""Fits the contact head: from the scene now to the end effector's place when the scene next changes.

Legend: N rows of the table, D scene width, P proprioception dim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data.table import Table
from worldmodel.heads import ContactHead
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine

Array = NDArray[Any]

RARE = 0.97  # quantile of the scene's change that counts as an event; below it lie the arm's own shadows and noise
EARLIEST, LATEST = 3, 15  # decisions before the event: late enough to matter, early enough that the hand is elsewhere


def next_events(table: Table, scene: Tensor) -> Array:
    """For each row the next row of its episode in which the scene changes, -1 where there is none: int64 [N]."""
    inside = np.append(table.episode[1:] == table.episode[:-1], False)
    change = np.zeros(len(table))
    change[:-1] = (scene[1:] - scene[:-1]).flatten(1).square().sum(dim=1).numpy()
    event = inside & (change > np.quantile(change[inside], RARE))
    following = np.full(len(table), -1)
    upcoming = -1
    for row in range(len(table) - 1, -1, -1):
        if not inside[row]:
            upcoming = -1
        if event[row]:
            upcoming = row
        following[row] = upcoming
    return following


def fit_contact(head: ContactHead, table: Table, scene: Tensor, *, steps: int, seed: int) -> int:
    """Train in place on scene latents [N,1,D]; returns how many pairs there were, 0 leaves the head as it is."""
    following = next_events(table, scene)
    gap = following - np.arange(len(table))
    wanted = (following >= 0) & (gap >= EARLIEST) & (gap <= LATEST) & np.isin(table.episode, table.split()[0])
    rows = np.flatnonzero(wanted)
    if len(rows) == 0:
        return 0
    proprio = torch.from_numpy(table.proprio)
    place = 0.5 * (proprio[following[rows]] + proprio[following[rows] + 1])
    head.mean.copy_(place.mean(dim=0))
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.0, weight_decay=1e-2)
    for step in range(steps):
        picked = step_rng(seed + 2, step).integers(0, len(rows), 512)
        loss = F.smooth_l1_loss(head(scene[rows[picked]]), place[picked], beta=0.03)
        set_learning_rate(optimizer, warmup_cosine(step, steps, 2e-3))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    head.eval()
    return len(rows)
