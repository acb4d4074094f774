"""The time to go, learned from logs alone: what the best of them need, also where no single one went all the way.

Legend: worldmodel/types.py; n rows of the table, O things, C coordinates of a place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.table import Table
from worldmodel.errors import TrainingError
from worldmodel.time_to_go import USUAL, TimeToGo
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.frames import TrackSettings, fit_part
from worldmodel.training.hindsight import hindsight

STAGE = 300  # far from the other fits
BATCH = 512
OPTIMISM = 0.9  # expectile: how much more a time weighs that was undercut than one that was not
FOLLOW = 0.05  # by which the network that targets are read from follows in a step
ARRIVED = 0.5  # [paces] from its goal, a thing has arrived
LONGEST = 100.0  # [decisions]


def pace_of(places: Tensor, starts: np.ndarray) -> float:
    """How far a decision moves what it moves [m], from places [n,O,C]: the mean step, weighed by the step itself.

    Raises TrainingError where nothing moves.
    """
    steps = (places[starts + 1] - places[starts]).norm(dim=-1).flatten()
    steps = steps.clamp(max=float(np.quantile(steps.numpy(), 0.98)))  # what falls off the table does not count
    if not bool(steps.any()):
        raise TrainingError("expected logs in which what is timed moves, got none: leave out predictor.time_to_go")
    return float(steps.square().sum() / steps.sum())


def fit_time_to_go(
    head: TimeToGo,
    table: Table,
    places: Tensor,
    settings: TrackSettings,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train in place on places of things [N,O,C] [m], as they were tracked. Resumes when done; ends on the CPU.

    By expectile regression towards one decision plus the time from the next row (Kostrikov et al. 2021, arXiv
    2110.06169, with states alone as in Xu et al. 2022, arXiv 2210.08323). Half of the goals are later places of the
    same episode, which bound the time by what they took (Andrychowicz et al. 2017, arXiv 1707.01495), half are places
    of any episode.
    """
    rows = table.window_starts(2, table.split()[0])
    settings = replace(settings, batch_size=BATCH)
    head.fit(torch.from_numpy(table.proprio[rows]), places[rows].flatten(0, 1), pace_of(places, rows))
    head.to(device).train()
    slow = copy.deepcopy(head).requires_grad_(False)
    proprio, places = torch.from_numpy(table.proprio).to(device), places.to(device)
    near = ARRIVED * float(head.pace)

    def loss(rng: np.random.Generator) -> Tensor:
        with torch.no_grad():
            for ours, theirs in zip(slow.parameters(), head.parameters(), strict=True):
                ours.lerp_(theirs, FOLLOW)
        now, later = hindsight(table, rows, rng, BATCH, None)
        took = (later - now).astype(np.float32)
        anywhere = rng.random(BATCH) < 0.5
        later[anywhere], took[anywhere] = rows[rng.integers(0, len(rows), int(anywhere.sum()))], LONGEST
        thing = rng.integers(0, places.shape[1], BATCH)
        here, onwards, goal = places[now, thing], places[now + 1, thing], places[later, thing]
        with torch.no_grad():
            further = torch.where(_within(onwards, goal, near), 0.0, slow.decisions(proprio[now + 1], onwards, goal))
            bound = torch.from_numpy(took).to(device)
            wanted = torch.where(_within(here, goal, near), 0.0, torch.minimum(1.0 + further, bound))
        error = (head.decisions(proprio[now], here, goal) - wanted) / USUAL
        mean: Tensor = (torch.where(error > 0.0, OPTIMISM, 1.0 - OPTIMISM) * error.square()).mean()
        return mean

    idle = torch.optim.AdamW(head.parameters(), lr=0.0)
    if load_checkpoint(folder, {"time_to_go": head}, idle) is None:
        optimizer = fit_part(head, loss, settings, STAGE, "time", report)
        save_checkpoint(folder, 1, {"time_to_go": head}, optimizer, {})
    head.to("cpu").eval()


def _within(place: Tensor, goal: Tensor, near: float) -> Tensor:
    """bool [...]: places [...,C] are at their goals [...,C]."""
    near_by: Tensor = (place - goal).norm(dim=-1) < near
    return near_by
