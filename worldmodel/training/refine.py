"""The last stage: an ensemble of dynamics on the finished tracks, which are so small that training is cheap.

Legend: N rows of the table, B windows per step, T frames of a window, Q place dim.
"""

from __future__ import annotations

import math
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
from worldmodel.errors import TrainingError
from worldmodel.model import WorldModel
from worldmodel.predictor import CompactPredictor
from worldmodel.rollout import rollout
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine

Array = NDArray[Any]

NOISE = 0.1  # [place units]
LINEAR = 0.3  # [place units] errors beyond it count linearly: a cube that flies off is not worth the whole network


def eventful(places: Tensor, starts: Array, length: int) -> Array:
    """Cumulative sampling shares [W] of windows in proportion to how far the object goes over them."""
    change = (places[starts + length - 1] - places[starts]).flatten(1).norm(dim=1).numpy()
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
) -> None:
    """Train every member in place on tracks [N,1,Q], each on its own draws; half of the windows are eventful ones.

    The first place of a window gets noise, as large as what the filter leaves of it when the model drives.

    Resumes from the newest checkpoint in `folder`. Raises TrainingError for a loss that is not finite.
    """
    starts = table.window_starts(window + 1, table.split()[0])
    shares = eventful(places, starts, window + 1)
    members = [cast(CompactPredictor, member) for member in model.members]
    model.members.to(device).train()
    optimizer = torch.optim.AdamW(model.members.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=1e-3)
    state = load_checkpoint(folder, {"members": model.members}, optimizer)
    first = 0 if state is None else int(state["step"])
    proprio, actions = torch.from_numpy(table.proprio), torch.from_numpy(table.actions)
    bar = tqdm(total=steps, initial=first, unit="step", desc="refine", mininterval=1.0)
    for step in range(first, steps):
        rng = step_rng(seed + 1, step)
        losses = []
        for member in members:
            half = batch_size // 2
            picked = np.searchsorted(shares, rng.random(half)).clip(0, len(starts) - 1)
            picked = np.concatenate([picked, rng.integers(0, len(starts), batch_size - half)])
            rows = torch.from_numpy(starts[picked][:, None] + np.arange(window + 1))
            batch = [places[rows].to(device), proprio[rows[:, 0]].to(device), actions[rows[:, :-1]].to(device)]
            noise = torch.from_numpy(rng.normal(size=batch[0][:, 0].shape).astype(np.float32)).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                path, _ = rollout(member, batch[0][:, 0] + NOISE * noise, batch[1], batch[2])
            losses.append(F.smooth_l1_loss(path.float(), batch[0][:, 1:], beta=LINEAR))
        loss = torch.stack(losses).sum()
        value = float(loss.detach()) / len(members)
        if not math.isfinite(value):
            raise TrainingError(f"expected a finite loss, got {value} at step {step}: lower learning_rate")
        set_learning_rate(optimizer, warmup_cosine(step, steps, learning_rate))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.members.parameters(), 1.0)
        optimizer.step()
        bar.update()
        if step % 50 == 0:
            report({"step": step, "refine": value})
            bar.set_postfix(loss=f"{value:.4f}")
        if (step + 1) % checkpoint_every == 0:
            save_checkpoint(folder, step + 1, {"members": model.members}, optimizer, {})
    bar.close()
    model.members.eval()
