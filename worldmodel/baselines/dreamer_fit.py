"""The training loop of DreamerV3 on logs: draw sequences, hand them to sheeprl; checkpoints on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from worldmodel.baselines.dreamer_policy import DreamerBaseline
from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.errors import TrainingError
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.learner import FitSettings
from worldmodel.training.schedule import step_rng


def fit_dreamer(
    model: DreamerBaseline,
    table: Table,
    features: Rows,
    settings: FitSettings,
    folder: Path,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train in place, resuming from the newest checkpoint in `folder`. Raises TrainingError for a non-finite loss.

    sheeprl draws from torch's global generator, which is seeded for every step and left as it was.
    """
    starts = table.window_starts(settings.window, table.split()[0])
    parts, optimizer = model.trainable(), model.dreamer.optimizer(settings.learning_rate, settings.warmup)
    model.dreamer.train()
    state = load_checkpoint(folder, parts, optimizer)
    first = 0 if state is None else int(state["step"])
    for group in optimizer.param_groups:
        group["step"] = first  # LaProp counts there, not in the state that a checkpoint holds
    device = model.dreamer.device
    with (
        torch.random.fork_rng(devices=[] if device.type == "cpu" else [device.index or 0], device_type=device.type),
        tqdm(total=settings.steps, initial=first, unit="step", desc="dreamerv3", mininterval=1.0) as bar,
    ):
        for step in range(first, settings.steps):
            rng = step_rng(settings.seed, step)
            batch = model.draw(table, features, starts, rng, settings.batch_size)
            torch.manual_seed(int(rng.integers(2**62)))
            losses: dict[str, float] | None = {} if step % 50 == 0 else None
            model.dreamer.update(batch, optimizer, losses)
            bar.update()
            if losses is not None:
                require_finite(losses, step)
                report({"step": step, **losses})
                bar.set_postfix(loss=f"{losses['world_model_loss']:.3f}")
            if (step + 1) % settings.checkpoint_every == 0:
                save_checkpoint(folder, step + 1, parts, optimizer, {})
    model.dreamer.eval()


def require_finite(losses: dict[str, float], step: int) -> None:
    """Raise TrainingError for a loss that is NaN or infinite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingError(f"expected a finite {name} at step {step}, got {value}: lower learning_rate")
