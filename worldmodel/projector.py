"""Trainable maps from frozen features to planning latents.

A frozen encoder's patch tokens saturate after one move of the arm: no slope for a planner to descend. A small projector
trained together with the dynamics gives the latents that slope. Legend: worldmodel/types.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureNorm(nn.Module):
    """Subtracts each position's mean over the data and divides by one global scale: what is left is content."""

    mean: Tensor
    scale: Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tokens, width))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, features: Tensor) -> None:
        """Take the statistics of features [n,M,F]."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_((features - self.mean).square().mean().sqrt().clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """[...,M,F] -> [...,M,F]."""
        return (features - self.mean) / self.scale


class CompactProjector(nn.Module):
    """All tokens of a frame -> one latent: a narrow linear map per token, then an MLP, then batch norm without affine.

    The batch norm keeps every latent dimension at unit variance, so that the latents cannot shrink.
    """

    def __init__(self, tokens: int, width: int, latent_dim: int, token_width: int = 32, hidden: int = 512) -> None:
        super().__init__()
        self.latent_tokens, self.latent_dim = 1, latent_dim
        self.reduce = nn.Linear(width, token_width)
        self.place = nn.Parameter(torch.zeros(tokens, token_width))
        self.mlp = nn.Sequential(
            nn.Linear(tokens * token_width, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, latent_dim),
        )
        self.norm = nn.BatchNorm1d(latent_dim, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B,T,M,F] -> [B,T,1,D]."""
        batch, time = features.shape[:2]
        tokens = F.gelu(self.reduce(features) + self.place)
        z: Tensor = self.norm(self.mlp(tokens.flatten(2)).flatten(0, 1))
        return z.reshape(batch, time, 1, self.latent_dim)


class IdentityProjector(nn.Module):
    """The V-JEPA 2-AC form: the latents are the layer-normalised features themselves."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.latent_tokens, self.latent_dim = tokens, width

    def forward(self, features: Tensor) -> Tensor:
        """[B,T,M,F] -> [B,T,N,D] with N = M, D = F."""
        return F.layer_norm(features, features.shape[-1:])
