"""The pretraining loop: draw clips, hide tokens, infer, follow; checkpoints on the way.

Legend: N frames of the table, B clips per step, S image side [px].
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.table import Table
from worldmodel.encoders import normalise_pixels
from worldmodel.precision import mixed_precision
from worldmodel.pretrain.masks import block_masks
from worldmodel.pretrain.vjepa import VJEPA
from worldmodel.storage import atomic_file, written
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.descent import finite
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine

Array = NDArray[Any]


@dataclass(frozen=True)
class PretrainSettings:
    """steps: optimiser steps. still_share: share of the clips that are one frame doubled, as the planner sees them.
    hidden_share: share of the tokens to infer. momentum: of the target encoder, rising linearly to 1."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    weight_decay: float = 0.04
    hidden_share: float = 0.7
    still_share: float = 0.5
    momentum: float = 0.996
    clip_norm: float = 1.0
    checkpoint_every: int = 500


def draw_clips(table: Table, starts: Array, rng: np.random.Generator, count: int, still_share: float) -> Tensor:
    """uint8 [B,2,S,S,3]: two consecutive frames, or one frame twice."""
    rows = starts[rng.integers(0, len(starts), count)]
    following = np.where(rng.random(count) < still_share, rows, rows + 1)
    return torch.from_numpy(np.stack([table.frames[rows], table.frames[following]], axis=1))


def fit(
    learner: VJEPA,
    table: Table,
    settings: PretrainSettings,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train in place, resuming from the newest checkpoint in `folder`.

    Raises TrainingError for a loss or a gradient that is not finite.
    """
    config: Any = learner.model.config
    grid = int(config.crop_size) // int(config.patch_size)
    starts = table.window_starts(2, table.split()[0])
    learner.to(device)
    # Below about fifty tokens plain softmax attention beats the fused kernel on a CPU.
    learner.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    optimizer = torch.optim.AdamW(
        learner.model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    state = load_checkpoint(folder, {"learner": learner}, optimizer)
    first = 0 if state is None else int(state["step"])
    bar = tqdm(total=settings.steps, initial=first, unit="step", desc="pretrain", mininterval=1.0)
    for step in range(first, settings.steps):
        rng = step_rng(settings.seed, step)
        clips = draw_clips(table, starts, rng, settings.batch_size, settings.still_share)
        visible, hidden = block_masks(rng, settings.batch_size, grid, settings.hidden_share)
        pixels = normalise_pixels(clips.to(device), int(config.crop_size))
        set_learning_rate(optimizer, warmup_cosine(step, settings.steps, settings.learning_rate))
        with mixed_precision(device):
            loss = learner.loss(pixels, visible.to(device), hidden.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(learner.model.parameters(), settings.clip_norm)
        value = finite(loss, norm, step)
        optimizer.step()
        learner.follow(settings.momentum + (1.0 - settings.momentum) * step / settings.steps)
        bar.update()
        if step % 20 == 0:
            report({"step": step, "loss": value})
            bar.set_postfix(loss=f"{value:.3f}")
        if (step + 1) % settings.checkpoint_every == 0:
            save_checkpoint(folder, step + 1, {"learner": learner}, optimizer, {})
    bar.close()


class Metrics:
    """Appends one JSON line per report; on resume, lines from the checkpoint's step on are dropped.

    Raises OutputError for a disk that is full, read-only or gone; the lines of before then stay.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < first_step]
        with atomic_file(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def __call__(self, values: dict[str, float]) -> None:
        with written(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
