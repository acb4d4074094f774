"""Policies that do not search: features of the present and of the goal picture in, an action out.

Legend: worldmodel/types.py. N rows of the table, n pairs of a present and a goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.encoders import FrozenEncoder
from worldmodel.heads import Proposer
from worldmodel.model import WorldModel
from worldmodel.projector import FeatureNorm
from worldmodel.training.features import cached_features
from worldmodel.training.hindsight import hindsight
from worldmodel.units import ActionUnits

Array = NDArray[Any]


@dataclass(frozen=True)
class PolicyConfig(ActionUnits):
    """Everything that decides the shapes, and what is imitated.

    target: "action", the logged one (goal-conditioned behaviour cloning), or "displacement", the sum of the logged
    actions up to the goal, clipped to the box (inverse dynamics over several decisions).
    span: decisions to the farthest goal in training; None: as far as the episode goes.
    pool: side of the squares of encoder tokens that are averaged into one before anything else.
    action_range: see ActionUnits. frame_skip: how many actions of the data, side by side, are one of action_dim.
    """

    action_dim: int
    proprio_dim: int
    target: str
    span: int | None = None
    latent_dim: int = 64
    token_width: int = 32
    projector_hidden: int = 512
    hidden: int = 256
    blocks: int = 3
    pool: int = 1
    action_range: Sequence[Sequence[float]] | None = None
    frame_skip: int = 1


class GoalPolicy(nn.Module):
    """A frozen encoder, and a proposer of one action."""

    def __init__(self, encoder: FrozenEncoder, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder = encoder.pooled(config.pool)
        self.norm = FeatureNorm(encoder.tokens, encoder.width)
        self.proposer = Proposer(
            encoder.tokens,
            encoder.width,
            config.proprio_dim,
            config.action_dim,
            1,
            latent_dim=config.latent_dim,
            token_width=config.token_width,
            projector_hidden=config.projector_hidden,
            hidden=config.hidden,
            blocks=config.blocks,
        )

    def trainable(self) -> dict[str, nn.Module]:
        """The parts that are trained; the encoder stays frozen."""
        parts = {"projector": self.proposer.projector, "fourier": self.proposer.fourier, "trunk": self.proposer.trunk}
        return {"norm": self.norm, **parts}

    def features(self, table: Table, folder: Path, data_sha256: str, device: torch.device) -> Rows:
        """The very features the planner is trained on, float16 [N,M,F]: a file in `folder`."""
        source = cast(WorldModel, self)  # which has the two parts that are asked for, encoder and norm
        return cached_features(source, table, folder, self.encoder.sha256(), data_sha256, device)

    def fit_statistics(self, table: Table, episodes: Array) -> None:
        """Take the range of the proprioception."""
        self.proposer.fourier.fit(torch.from_numpy(table.proprio[table.window_starts(2, episodes)]))

    def draw(
        self, table: Table, features: Rows, starts: Array, rng: np.random.Generator, count: int
    ) -> tuple[Tensor, ...]:
        """n random pairs from the rows `starts`: features and hindsight goals [n,M,F], proprio [n,P], target [n,A]."""
        rows, goals = hindsight(table, starts, rng, count, self.config.span)
        parts = [torch.from_numpy(features[which]).float() for which in (rows, goals)]
        moved = table.actions[rows] if self.config.target == "action" else displacements(table.actions, rows, goals)
        return parts[0], parts[1], torch.from_numpy(table.proprio[rows]), torch.from_numpy(moved)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Mean squared error of the actions, for what `draw` gives."""
        now, goal, proprio, target = batch
        z = self.proposer.see(torch.stack([now, goal], dim=1))
        return (self.act(z[:, 0], z[:, 1], proprio).float() - target).square().mean()

    def act(self, z: Tensor, z_goal: Tensor, proprio: Tensor) -> Tensor:
        """[B,D], [B,D], [B,P] -> [B,A], unbounded; clip to [-1, 1] and `config.denormalise` before use."""
        actions: Tensor = self.proposer(z, z_goal, proprio)
        return actions[:, 0]

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B,S,S,3] -> [B,D]."""
        return self.proposer.see(self.norm(self.encoder(frames[:, None])))[:, 0]

    @torch.no_grad()
    def validate(self, table: Table, features: Rows, episodes: Array) -> dict[str, Any]:
        """Squared error of the action on held-out pairs, and that of the mean target, which a policy has to beat."""
        starts = table.window_starts(2, episodes)
        batch = self.draw(table, features, starts, np.random.default_rng(0), min(4096, 4 * len(starts)))
        parts = [self.loss([part[i : i + 256] for part in batch]) for i in range(0, len(batch[0]), 256)]
        target = batch[3]
        mean = float((target - target.mean(dim=0)).square().mean())
        return {"action_error": float(torch.stack(parts).mean()), "action_error_of_the_mean": mean}


def displacements(actions: Array, rows: Array, goals: Array) -> Array:
    """Sums of actions [N,A] from each row up to its goal, clipped to [-1, 1]: float32 [n,A].

    With a frame skip, each of the actions of a decision is summed by itself.
    """
    sums = [actions[row:goal].sum(axis=0) for row, goal in zip(rows, goals, strict=True)]
    clipped: Array = np.clip(np.stack(sums), -1.0, 1.0).astype(np.float32)
    return clipped
