"""Autoregressive rollout: what the latents become under candidate actions. Legend: worldmodel/types.py."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.predictor import CompactPredictor


def rollout(predictor: CompactPredictor, z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Latents [...,H,N,D] and poses [...,H,P] after each of the actions [...,H,A] from z [...,N,D], proprio [...,P].

    z and proprio broadcast against the leading dimensions of the actions: B episodes against B x K candidates.
    """
    lead, horizon = actions.shape[:-2], actions.shape[-2]
    z = z.expand(*lead, *z.shape[-2:]).reshape(-1, 1, *z.shape[-2:])
    proprio = proprio.expand(*lead, proprio.shape[-1]).reshape(-1, 1, proprio.shape[-1])
    flat = actions.reshape(-1, horizon, actions.shape[-1])
    latents, poses = [], []
    for step in range(horizon):
        action = flat[:, step : step + 1]
        z = predictor(z, action, proprio)
        proprio = predictor.kinematics(proprio, action)
        latents.append(z)
        poses.append(proprio)
    path = torch.cat(latents, dim=1).reshape(*lead, horizon, *z.shape[-2:])
    return path, torch.cat(poses, dim=1).reshape(*lead, horizon, proprio.shape[-1])
