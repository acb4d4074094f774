"""How far predicted latents are from the goal's, and how a horizon of such distances becomes one cost.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["l1", "l2", "cosine"]


def latent_distance(kind: Distance, z: Tensor, z_goal: Tensor) -> Tensor:
    """[...,N,D], [...,N,D] -> [...]: mean absolute, mean squared, or one minus cosine over the flattened tokens."""
    difference = z - z_goal
    if kind == "l1":
        return difference.abs().mean(dim=(-2, -1))
    if kind == "l2":
        return difference.square().mean(dim=(-2, -1))
    return 1.0 - F.cosine_similarity(z.flatten(-2), z_goal.expand_as(z).flatten(-2), dim=-1)


@dataclass(frozen=True)
class Goal:
    """What the goal image says: z [B,N,D], and the proprioception decoded from it [B,P] [m]."""

    z: Tensor
    proprio: Tensor


@dataclass(frozen=True)
class GoalEnergy:
    """Latent distance plus `proprio_weight` [1/m] times the distance of the planned from the goal's proprioception.

    running_weight: weight of every step but the last, whose weight is 1 (summing over the horizon beats the last step
    alone, arXiv 2506.09985 and eb_jepa); 0 looks at the last step only.
    """

    distance: Distance = "l2"
    running_weight: float = 0.3
    proprio_weight: float = 1.0

    def step(self, z: Tensor, proprio: Tensor, goal: Goal) -> Tensor:
        """Energy [...] of latents [...,N,D] and proprioception [...,P]; the goal broadcasts."""
        latent = latent_distance(self.distance, z, goal.z)
        return latent + self.proprio_weight * (proprio - goal.proprio).norm(dim=-1)

    def __call__(self, path: Tensor, poses: Tensor, goal: Goal) -> Tensor:
        """Cost [B,K] of rollouts [B,K,H,N,D] and poses [B,K,H,P] towards the goals of B episodes."""
        wide = Goal(goal.z[:, None, None], goal.proprio[:, None, None])
        energy = self.step(path, poses, wide)
        weights = torch.full_like(energy[0, 0], self.running_weight)
        weights[-1] = 1.0
        return energy @ weights
