"""What the projector and the dynamics are trained on; no object labels anywhere.

Legend: B windows, T frames of a window, H = T - 1 transitions, N latent tokens, D latent width, A action dim, P proprioception dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.heads import InverseDynamics, ProprioHead
from worldmodel.predictor import CompactPredictor
from worldmodel.rollout import rollout


@dataclass(frozen=True)
class Weights:
    """One weight per term."""

    rollout: float = 1.0
    covariance: float = 0.2
    variance: float = 0.2
    temporal: float = 1.0
    inverse: float = 1.0
    proprio: float = 0.5


def covariance_penalty(z: Tensor) -> Tensor:
    """Mean square off the diagonal of the covariance of z [n,D] (Bardes et al. 2022, arXiv 2105.04906): spreads the information."""
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)
    off = covariance - torch.diag(torch.diagonal(covariance))
    return off.square().sum() / z.shape[1]


def variance_hinge(z: Tensor) -> Tensor:
    """Mean shortfall of the standard deviation of z [n,D] below 1."""
    return torch.relu(1.0 - (z.var(dim=0) + 1e-4).sqrt()).mean()


def model_losses(
    predictor: CompactPredictor,
    proprio_head: ProprioHead,
    inverse: InverseDynamics,
    z: Tensor,
    actions: Tensor,
    proprio: Tensor,
    span: int,
) -> dict[str, Tensor]:
    """The terms for latents z [B,T,N,D] of windows with actions [B,T,A] and proprio [B,T,P].

    rollout: squared error of every step of a rollout from the first frame, gradients on both sides.
    temporal: squared change from frame to frame, which gives distance a slope.
    inverse: the mean action between two frames `span` apart, from their latents.
    """
    horizon = z.shape[1] - 1
    path, _ = rollout(predictor, z[:, 0], proprio[:, 0], actions[:, :horizon])
    flat = z.flatten(0, 1).flatten(1)
    moved = actions[:, :horizon].unfold(1, span, 1).mean(dim=-1)
    return {
        "rollout": (path - z[:, 1:]).square().mean(),
        "covariance": covariance_penalty(flat),
        "variance": variance_hinge(flat),
        "temporal": (z[:, 1:] - z[:, :-1]).square().mean(),
        "inverse": (inverse(z[:, :-span], z[:, span:]) - moved).square().mean(),
        "proprio": ((proprio_head(z) - proprio) / proprio_head.std).square().mean(),
    }


def weighted(terms: dict[str, Tensor], weights: Weights) -> Tensor:
    """The sum that is minimised."""
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
