"""Small read-outs: proprioception, inverse dynamics, and what the logs would do. Legend: worldmodel/types.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.predictor import Fourier, ResidualBlock
from worldmodel.projector import CompactProjector


class ProprioHead(nn.Module):
    """Proprioception from the pose part of a latent [m]: it keeps the arm in there. Used in training only."""

    mean: Tensor
    std: Tensor

    def __init__(self, latent_tokens: int, latent_dim: int, proprio_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(latent_tokens * latent_dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, proprio_dim),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(proprio_dim))
        self.register_buffer("std", torch.ones(proprio_dim))

    def fit(self, proprio: Tensor) -> None:
        """Take the statistics of proprio [n,P]."""
        self.mean.copy_(proprio.mean(dim=0))
        self.std.copy_(proprio.std(dim=0).clamp_min(1e-6))

    def forward(self, z: Tensor) -> Tensor:
        """[...,N,D] -> [...,P]."""
        out: Tensor = self.mlp(z.flatten(-2)) * self.std + self.mean
        return out


class InverseDynamics(nn.Module):
    """(z, z_goal) -> the first action towards it, in [-1, 1]: it keeps in the latent what actions control."""

    def __init__(self, latent_tokens: int, latent_dim: int, action_dim: int, hidden: int = 256) -> None:
        super().__init__()
        width = 2 * latent_tokens * latent_dim
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, action_dim)
        )

    def forward(self, z: Tensor, z_goal: Tensor) -> Tensor:
        """[...,N,D], [...,N,D] -> [...,A], unbounded; clip before use."""
        out: Tensor = self.mlp(torch.cat([z.flatten(-2), z_goal.flatten(-2)], dim=-1))
        return out


class Proposer(nn.Module):
    """What the logs did on the way from one picture to another: a sequence of actions, imitated.

    A projector of its own for both pictures, and a residual MLP over [seen, wanted, proprioception]. How it is learned:
    worldmodel/training/proposals.py. W: width of what it sees in a picture, `latent_dim`.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        proprio_dim: int,
        action_dim: int,
        steps: int,
        *,
        latent_dim: int = 64,
        token_width: int = 32,
        projector_hidden: int = 512,
        hidden: int = 256,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.projector = CompactProjector(tokens, width, latent_dim, token_width, projector_hidden, normalise=False)
        self.fourier = Fourier(proprio_dim)
        self.trunk = nn.Sequential(
            nn.Linear(2 * latent_dim + self.fourier.width, hidden),
            *(ResidualBlock(hidden) for _ in range(blocks)),
            nn.Linear(hidden, steps * action_dim),
        )

    def see(self, features: Tensor) -> Tensor:
        """Normalised features [B,T,M,F] -> [B,T,W]."""
        z: Tensor = self.projector(features)
        return z[:, :, 0]

    def forward(self, seen: Tensor, wanted: Tensor, proprio: Tensor) -> Tensor:
        """[B,W], [B,W], [B,P] -> `steps` actions [B,steps,A], unbounded; clip to [-1, 1] before use."""
        out: Tensor = self.trunk(torch.cat([seen, wanted, self.fourier(proprio)], dim=-1))
        return out.reshape(*out.shape[:-1], self.steps, -1)
