"""Small read-outs trained with the latents: proprioception and inverse dynamics. Legend: worldmodel/types.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
