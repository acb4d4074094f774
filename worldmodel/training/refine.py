"""The second stage: an ensemble of dynamics on the finished, frozen latents, which are so small that training is cheap.

Legend: N rows of the table, B windows per step, T frames of a window, D latent width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
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


def eventful(model: WorldModel, z: Tensor, starts: Array, length: int) -> Array:
    """Cumulative sampling shares [W] of windows in proportion to how much the scene changes over them."""
    scene = model.scene(z).flatten(1)
    change = (scene[starts + length - 1] - scene[starts]).square().sum(dim=1).numpy()
    change = np.minimum(change, np.quantile(change, 0.98))
    total: Array = np.cumsum(change / change.sum())
    return total


def refine(
    model: WorldModel,
    table: Table,
    z: Tensor,
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
    """Train every member in place on latents z [N,1,D], each on its own draws; half of the windows are eventful ones.

    Resumes from the newest checkpoint in `folder`. Raises TrainingError for a loss that is not finite.
    """
    starts = table.window_starts(window + 1, table.split()[0])
    shares = eventful(model, z, starts, window + 1)
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
            batch = [z[rows].to(device), proprio[rows[:, 0]].to(device), actions[rows[:, :-1]].to(device)]
            with torch.autocast(device.type, dtype=torch.bfloat16):
                path, _ = rollout(member, batch[0][:, 0], batch[1], batch[2])
            losses.append((path.float() - batch[0][:, 1:]).square().mean())
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
