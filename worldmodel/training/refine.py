"""The last stage: an ensemble of dynamics on the finished tracks, which are so small that training is cheap.

Legend: N rows of the table, O objects, B windows per step, T frames of a window, Q place dim.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.table import Table
from worldmodel.model import WorldModel
from worldmodel.precision import mixed_precision
from worldmodel.predictor import CompactPredictor
from worldmodel.rollout import rollout
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.descent import Average, descend
from worldmodel.training.distributed import rank, share
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine

Array = NDArray[Any]

NOISE = 0.1  # [place units]
LINEAR = 0.3  # [place units] errors beyond it count linearly: a cube that flies off is not worth the whole network


def eventful(places: Tensor, starts: Array, length: int) -> Array:
    """Cumulative sampling shares [W * O] of windows in proportion to how far an object goes over them."""
    change = (places[starts + length - 1] - places[starts]).norm(dim=-1).flatten().numpy()
    change = np.minimum(change, np.quantile(change, 0.98)) + 1e-9
    total: Array = np.cumsum(change / change.sum())
    return total


def refine(
    model: WorldModel,
    table: Table,
    places: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    window: int,
    seed: int,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
    checkpoint_every: int = 1000,
    ema: float = 0.0,
) -> None:
    """Train every member in place on tracks [N,O,Q], each on its own draws; half of the windows are eventful ones.

    All objects move by the same laws, and none minds another: each of them is a window of its own.
    The first place of a window gets noise, as large as what the filter leaves of it when the model drives.
    ema: decay of the average of the weights that the members take in the end; 0 takes the last ones.
    Resumes from the newest checkpoint in `folder`. Raises TrainingError for a loss that is not finite.
    """
    starts = table.window_starts(window + 1, table.split()[0])
    shares = eventful(places, starts, window + 1)
    members = [cast(CompactPredictor, member) for member in model.members]
    model.members.to(device).train()
    parameters = list(model.members.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=1e-3)
    average = Average({"members": model.members}, ema)
    parts = {"members": model.members, **average.parts}
    state = load_checkpoint(folder, parts, optimizer)
    first = 0 if state is None else int(state["step"])
    bar = tqdm(total=steps, initial=first, unit="step", desc="refine", mininterval=1.0, disable=rank() > 0)
    for step in range(first, steps):
        rng, losses = step_rng(seed + 1, step), []
        for member in members:
            which, thing = np.divmod(_pick(rng, shares, len(shares), batch_size), places.shape[1])
            rows = starts[which][:, None] + np.arange(window + 1)
            noise = rng.normal(size=(batch_size, 1, places.shape[2])).astype(np.float32)
            losses.append(_member_loss(member, table, places, share(rows), share(thing), share(noise), device))
        set_learning_rate(optimizer, warmup_cosine(step, steps, learning_rate))
        value = descend(torch.stack(losses).sum(), optimizer, parameters, 1.0, step) / len(members)
        average.update()
        bar.update()
        if step % 50 == 0:
            report({"step": step, "refine": value})
            bar.set_postfix(loss=f"{value:.4f}")
        if (step + 1) % checkpoint_every == 0 and rank() == 0:
            save_checkpoint(folder, step + 1, parts, optimizer, {})
    bar.close()
    average.finish()
    model.members.eval()


def _pick(rng: np.random.Generator, shares: Array, windows: int, batch_size: int) -> Array:
    """Which of the windows [batch_size]: half of them by their shares."""
    half = batch_size // 2
    eventful_ones = np.searchsorted(shares, rng.random(half)).clip(0, windows - 1)
    return np.concatenate([eventful_ones, rng.integers(0, windows, batch_size - half)])


def _member_loss(
    member: CompactPredictor,
    table: Table,
    places: Tensor,
    rows: Array,
    things: Array,
    noise: Array,
    device: torch.device,
) -> Tensor:
    """Of one member's rollouts over the rows [B,T] of tracks [N,O,Q] of things [B], from places with noise [B,1,Q]."""
    wanted = places[torch.from_numpy(rows), torch.from_numpy(things)[:, None]].unsqueeze(2).to(device)
    proprio, actions = (
        torch.from_numpy(part).to(device) for part in (table.proprio[rows[:, 0]], table.actions[rows[:, :-1]])
    )
    with mixed_precision(device):
        path, _ = rollout(member, wanted[:, 0] + NOISE * torch.from_numpy(noise).to(device), proprio, actions)
    return F.smooth_l1_loss(path.float(), wanted[:, 1:], beta=LINEAR)
