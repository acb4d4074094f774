"""What the projector and the dynamics are trained on; no object labels anywhere.

Legend: B windows, T frames of a window, D scene width, P proprioception dim, A action dim, M encoder tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.heads import ProprioHead
from worldmodel.model import WorldModel
from worldmodel.predictor import CompactPredictor
from worldmodel.rollout import rollout
from worldmodel.training.decoder import FeatureTarget, SceneDecoder
from worldmodel.training.distributed import gathered


@dataclass(frozen=True)
class Weights:
    """One weight per term; see `model_losses`."""

    rollout: float = 1.0
    reconstruction: float = 1.0
    independence: float = 1.0
    covariance: float = 0.5
    pose_covariance: float = 0.1
    temporal: float = 1.0
    inverse: float = 0.3
    proprio: float = 0.5


def covariance_penalty(z: Tensor) -> Tensor:
    """Squares off the diagonal of the covariance of z [n,D], per dimension (VICReg, arXiv 2105.04906)."""
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)
    off = covariance - torch.diag(torch.diagonal(covariance))
    return off.square().sum() / z.shape[1]


def dependence(scene: Tensor, pose: Tensor) -> Tensor:
    """Squared covariance of scene [n,D] with standardised pose features [n,E], per scene dimension."""
    unit = (pose - pose.mean(dim=0)) / (pose.std(dim=0) + 1e-3)
    return ((scene - scene.mean(dim=0)).T @ unit / len(scene)).square().sum() / scene.shape[1]


def model_losses(
    model: WorldModel,
    shaper: CompactPredictor,
    head: ProprioHead,
    decoder: SceneDecoder,
    target: FeatureTarget,
    features: Tensor,
    actions: Tensor,
    proprio: Tensor,
    span: int,
) -> dict[str, Tensor]:
    """The terms for normalised features [B,T,M,F] of windows with actions [B,T,A] and proprio [B,T,P].

    rollout: squared error of every step of the shaper's rollout from the first frame, gradients on both sides.
    reconstruction: of the frozen features from scene latent and pose; it keeps the object in the latent.
    independence: correlation of the scene latent with the pose; it keeps the arm out of it.
    temporal: squared change from frame to frame, which gives distance a slope.
    inverse: the mean action between two frames `span` apart, from their latents.
    """
    z = model.projector(features).float()
    latent = F.pad(z, (model.config.read_dim, 0))  # places are learned afterwards
    horizon = z.shape[1] - 1
    path, _ = rollout(shaper, z[:, 0], proprio[:, 0], actions[:, :horizon])
    scene, pose = model.scene(latent)[..., 0, :], shaper.fourier(proprio)
    moved = actions[:, :horizon].unfold(1, span, 1).mean(dim=-1)
    posed = model.pose_part(latent)[..., 0, :]
    scenes, poses, standings = (gathered(part.flatten(0, 1)) for part in (scene, posed, pose))
    return {
        "rollout": (path.float() - z[:, 1:]).square().mean(),
        "reconstruction": (decoder(scene, pose).float() - target(features)).square().mean(),
        "independence": dependence(scenes, standings),
        "covariance": covariance_penalty(scenes),
        "pose_covariance": covariance_penalty(poses),
        "temporal": (scene[:, 1:] - scene[:, :-1]).square().mean(),
        "inverse": (model.inverse(z[:, :-span], z[:, span:]).float() - moved).square().mean(),
        "proprio": ((head(model.pose_part(latent)).float() - proprio) / head.std).square().mean(),
    }


def weighted(terms: dict[str, Tensor], weights: Weights) -> Tensor:
    """The sum that is minimised."""
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
