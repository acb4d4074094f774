"""How far predicted latents are from the goal's, and how a horizon of such distances becomes one cost.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
    """What the goal image says: latent z [B,N,D], and read from it the pose and the object's place [B,P] [m]."""

    z: Tensor
    proprio: Tensor
    place: Tensor


@dataclass(frozen=True)
class GoalEnergy:
    """A weighted sum of four distances from the goal, in metres but for the first; weights per metre.

    latent: between the scene latents, exact near the goal and saturated far from it. place: between the object's places
    as the contact head reads them, a slope from far. approach: from the end effector to that place, without which a far
    hand sees no slope. proprio: from the end effector to its place in the goal image.
    scene_dim: leading latent dimensions that are compared; the rest is the pose.
    running_weight: weight of every step but the last, whose weight is 1; 0 looks at the last step only.
    pessimism: standard deviations over the ensemble added to its mean cost, so that a plan which only one member
    believes in is not chosen.
    """

    scene_dim: int
    locate: Callable[[Tensor], Tensor]
    distance: Distance = "l2"
    running_weight: float = 0.3
    latent_weight: float = 0.2
    place_weight: float = 1.0
    approach_weight: float = 0.1
    proprio_weight: float = 0.15
    pessimism: float = 1.0

    def step(self, z: Tensor, proprio: Tensor, goal: Goal) -> Tensor:
        """Energy [...] of latents [...,N,D] and proprioception [...,P]; the goal broadcasts."""
        energy: Tensor = self.proprio_weight * (proprio - goal.proprio).norm(dim=-1)
        if self.latent_weight:
            scene, wanted = z[..., : self.scene_dim], goal.z[..., : self.scene_dim]
            energy = energy + self.latent_weight * latent_distance(self.distance, scene, wanted)
        if self.place_weight or self.approach_weight:
            place = self.locate(z)
            energy = energy + self.place_weight * (place - goal.place).norm(dim=-1)
            energy = energy + self.approach_weight * (proprio - place).norm(dim=-1)
        return energy

    def __call__(self, path: Tensor, poses: Tensor, goal: Goal) -> Tensor:
        """Cost [B,K] of rollouts [E,B,K,H,N,D] and poses [B,K,H,P] towards the goals of B episodes."""
        wide = Goal(goal.z[:, None, None], goal.proprio[:, None, None], goal.place[:, None, None])
        energy = self.step(path, poses, wide)
        weights = energy.new_full((energy.shape[-1],), self.running_weight)
        weights[-1] = 1.0
        cost: Tensor = energy @ weights
        pessimistic: Tensor = cost.mean(dim=0) + self.pessimism * cost.std(dim=0, correction=0)
        return pessimistic
