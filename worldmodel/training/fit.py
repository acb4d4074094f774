"""The training loop of projector, dynamics and read-outs on cached features.

Legend: N rows of the table, B windows per step, T frames of a window, M encoder tokens, F their width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.heads import ProprioHead
from worldmodel.model import WorldModel
from worldmodel.precision import mixed_precision
from worldmodel.predictor import CompactPredictor
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.decoder import FeatureTarget, SceneDecoder
from worldmodel.training.descent import Average, descend
from worldmodel.training.distributed import averaged, from_first, over_whole_batches, rank, share
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
    """What is known in closed form: how actions move the proprioception, its range, and the ways the logs went."""
    rows = table.window_starts(2, episodes)
    proprio, actions = torch.from_numpy(table.proprio), torch.from_numpy(table.actions)
    for member in model.members:
        member = cast(CompactPredictor, member)
        member.kinematics.fit(proprio[rows], actions[rows], proprio[rows + 1])
        member.fourier.fit(proprio[rows])
    if model.roadmap is not None:
        known = table.window_starts(1, episodes)
        model.roadmap.fit(model.position(proprio[known]).numpy(), table.episode[known])
        for member in model.members:
            cast(CompactPredictor, member).kinematics.fence(model.roadmap.nodes, model.roadmap.reach / 2.0)


def read_windows(table: Table, features: Rows, rows: Array) -> tuple[Tensor, Tensor, Tensor]:
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
    features: Rows,
    settings: TrainSettings,
    weights: Weights,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
    ema: float = 0.0,
) -> None:
    """Train in place, resuming from the newest checkpoint in `folder`. Raises TrainingError for a non-finite loss.

    ema: decay of the average of the weights that the parts take in the end; 0 takes the last ones.
    """
    starts = table.window_starts(settings.window + 1, table.split()[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        target, decoder = reconstruction(model, features)
        shaper, head = new_shaper(model), new_head(model, table)
    parts = {"shaper": shaper, "target": target, "decoder": decoder, "proprio_head": head}
    parts |= {name: model.trainable()[name] for name in ("projector", "inverse")}
    for module in parts.values():
        module.to(device).train()
    for module in parts.values():  # what only training needs begins at random
        from_first(module.state_dict().values(), device)
    parameters = [parameter for module in parts.values() for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    average = Average(parts, ema)
    state = load_checkpoint(folder, {**parts, **average.parts}, optimizer)
    first = 0 if state is None else int(state["step"])
    with (
        over_whole_batches(model.projector.norm),
        tqdm(
            total=settings.steps, initial=first, unit="step", desc="train", mininterval=1.0, disable=rank() > 0
        ) as bar,
    ):
        for step in range(first, settings.steps):
            rng = step_rng(settings.seed, step)
            rows = starts[rng.integers(0, len(starts), settings.batch_size)][:, None] + np.arange(settings.window + 1)
            batch = [part.to(device) for part in read_windows(table, features, share(rows))]
            set_learning_rate(optimizer, warmup_cosine(step, settings.steps, settings.learning_rate))
            span = int(rng.integers(1, settings.window + 1))
            with mixed_precision(device):
                terms = model_losses(model, shaper, head, decoder, target, batch[0], batch[1], batch[2], span)
            value = descend(weighted(terms, weights), optimizer, parameters, settings.clip_norm, step)
            average.update()
            bar.update()
            if step % 50 == 0:
                each = averaged(torch.stack([*terms.values()]).detach()).tolist()
                report({"step": step, "loss": value, **dict(zip(terms, each, strict=True))})
                bar.set_postfix(loss=f"{value:.3f}")
            if (step + 1) % settings.checkpoint_every == 0 and rank() == 0:
                save_checkpoint(folder, step + 1, {**parts, **average.parts}, optimizer, {})
    average.finish()
    for module in parts.values():
        module.eval()


def new_shaper(model: WorldModel) -> CompactPredictor:
    """The training-only dynamics of scene and pose: what cannot be predicted has no place in the latents."""
    config = model.config
    shaper = CompactPredictor(
        config.scene_dim + config.pose_dim,
        config.action_dim,
        config.proprio_dim,
        hidden=config.predictor_hidden,
        blocks=config.predictor_blocks,
        kinematics=config.kinematics(),
    )
    shaper.kinematics.load_state_dict(model.predictor.kinematics.state_dict())
    shaper.fourier.load_state_dict(model.predictor.fourier.state_dict())
    return shaper


def new_head(model: WorldModel, table: Table) -> ProprioHead:
    """The training-only reader of the hand from the pose part of the latents, which keeps the arm in there."""
    head = ProprioHead(1, model.config.pose_dim, model.config.proprio_dim)
    head.fit(torch.from_numpy(table.proprio[table.window_starts(2, table.split()[0])]))
    return head


def reconstruction(model: WorldModel, features: Rows) -> tuple[FeatureTarget, SceneDecoder]:
    """The training-only decoder of the frozen features, and what it decodes."""
    rows = np.sort(np.random.default_rng(0).choice(len(features), min(2000, len(features)), replace=False))
    target = FeatureTarget(features.shape[2], min(REDUCED, features.shape[2]))
    target.fit(torch.from_numpy(features[rows]).float())
    width = model.predictor.fourier.width
    return target, SceneDecoder(model.config.scene_dim, width, features.shape[1], target.basis.shape[1])
