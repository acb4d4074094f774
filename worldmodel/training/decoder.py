"""What forces the scene into the latent: it must, together with the pose, say what the encoder sees.

The pose is given, so the latent has no reason to repeat it; what is left is the scene the arm acts on. Used in
training only. Legend: M encoder tokens, F their width, R reduced width, D scene width, E width of the pose features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureTarget(nn.Module):
    """The leading principal components of the tokens, at equal variance: F -> R."""

    basis: Tensor

    def __init__(self, width: int, reduced: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.zeros(width, reduced))

    def fit(self, features: Tensor) -> None:
        """From normalised features [n,M,F]."""
        flat = features.flatten(0, 1).double()
        values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        reduced = self.basis.shape[1]
        kept = values.flip(0)[:reduced].clamp_min(1e-9)
        self.basis.copy_(vectors.flip(1)[:, :reduced] * kept.rsqrt())

    def forward(self, features: Tensor) -> Tensor:
        """[...,M,F] -> [...,M,R]."""
        return features @ self.basis


class SceneDecoder(nn.Module):
    """Scene latent [...,D] and pose features [...,E] -> reduced tokens [...,M,R]."""

    def __init__(self, scene_dim: int, pose_width: int, tokens: int, reduced: int, hidden: int = 512) -> None:
        super().__init__()
        self._shape = (tokens, reduced)
        self.mlp = nn.Sequential(
            nn.Linear(scene_dim + pose_width, hidden // 2),
            nn.GELU(),
            nn.Linear(hidden // 2, hidden),
            nn.GELU(),
            nn.Linear(hidden, tokens * reduced),
        )

    def forward(self, scene: Tensor, pose: Tensor) -> Tensor:
        out: Tensor = self.mlp(torch.cat([scene, pose], dim=-1)).unflatten(-1, self._shape)
        return out
