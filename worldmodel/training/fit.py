"""The training loop of projector, dynamics and read-outs on cached features.

Legend: N rows of the table, B windows per step, T frames of a window, M encoder tokens, F their width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.decoder import FeatureTarget, SceneDecoder
from worldmodel.training.losses import Weights, model_losses, weighted
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine

Array = NDArray[Any]

REDUCED = 24  # principal components of a token that are reconstructed


@dataclass(frozen=True)
class TrainSettings:
    """steps: optimiser steps. batch_size: windows per step. window: transitions rolled out from the first frame."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    window: int = 6
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    checkpoint_every: int = 1000


def fit_statistics(model: WorldModel, table: Table, episodes: Array) -> None:
    """What is known in closed form: how actions move the proprioception, and its range."""
    rows = table.window_starts(2, episodes)
    proprio, actions = torch.from_numpy(table.proprio), torch.from_numpy(table.actions)
    for member in model.members:
        member = cast(CompactPredictor, member)
        member.kinematics.fit(proprio[rows], actions[rows], proprio[rows + 1])
        member.fourier.fit(proprio[rows])
    model.proprio_head.fit(proprio[rows])


def read_windows(table: Table, features: Array, rows: Array) -> tuple[Tensor, Tensor, Tensor]:
    """features float32 [B,T,M,F], actions [B,T,A], proprio [B,T,P] of the rows [B,T]."""
    picked = torch.from_numpy(features[rows.ravel()]).float()
    return (
        picked.reshape(*rows.shape, *features.shape[1:]),
        torch.from_numpy(table.actions[rows]),
        torch.from_numpy(table.proprio[rows]),
    )


def fit(
    model: WorldModel,
    table: Table,
    features: Array,
    settings: TrainSettings,
    weights: Weights,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train in place, resuming from the newest checkpoint in `folder`. Raises TrainingError for a non-finite loss."""
    starts = table.window_starts(settings.window + 1, table.split()[0])
    target, decoder = _reconstruction(model, features)
    shaper = _shaper(model)
    parts = {"shaper": shaper, "target": target, "decoder": decoder}
    parts |= {name: model.trainable()[name] for name in ("projector", "proprio_head", "inverse")}
    for module in parts.values():
        module.to(device).train()
    parameters = [parameter for module in parts.values() for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    state = load_checkpoint(folder, parts, optimizer)
    first = 0 if state is None else int(state["step"])
    bar = tqdm(total=settings.steps, initial=first, unit="step", desc="train", mininterval=1.0)
    for step in range(first, settings.steps):
        rng = step_rng(settings.seed, step)
        rows = starts[rng.integers(0, len(starts), settings.batch_size)][:, None] + np.arange(settings.window + 1)
        batch = [part.to(device) for part in read_windows(table, features, rows)]
        set_learning_rate(optimizer, warmup_cosine(step, settings.steps, settings.learning_rate))
        span = int(rng.integers(1, settings.window + 1))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            terms = model_losses(model, shaper, decoder, target, batch[0], batch[1], batch[2], span)
        loss = weighted(terms, weights)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"expected a finite loss, got {value} at step {step}: lower learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        optimizer.step()
        bar.update()
        if step % 50 == 0:
            report({"step": step, "loss": value, **{name: float(term.detach()) for name, term in terms.items()}})
            bar.set_postfix(loss=f"{value:.3f}")
        if (step + 1) % settings.checkpoint_every == 0:
            save_checkpoint(folder, step + 1, parts, optimizer, {})
    bar.close()
    for module in parts.values():
        module.eval()


def _shaper(model: WorldModel) -> CompactPredictor:
    """The training-only dynamics of scene and pose: what cannot be predicted has no place in the latents."""
    config = model.config
    shaper = CompactPredictor(
        config.scene_dim + config.pose_dim,
        config.action_dim,
        config.proprio_dim,
        hidden=config.predictor_hidden,
        blocks=config.predictor_blocks,
    )
    shaper.kinematics.load_state_dict(model.predictor.kinematics.state_dict())
    shaper.fourier.load_state_dict(model.predictor.fourier.state_dict())
    return shaper


def _reconstruction(model: WorldModel, features: Array) -> tuple[FeatureTarget, SceneDecoder]:
    """The training-only decoder of the frozen features, and what it decodes."""
    rows = np.sort(np.random.default_rng(0).choice(len(features), min(2000, len(features)), replace=False))
    target = FeatureTarget(features.shape[2], min(REDUCED, features.shape[2]))
    target.fit(torch.from_numpy(features[rows]).float())
    width = model.predictor.fourier.width
    return target, SceneDecoder(model.config.scene_dim, width, features.shape[1], target.basis.shape[1])
