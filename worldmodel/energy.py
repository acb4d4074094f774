"""How far predicted latents are from the goal's, and how a horizon of such distances becomes one cost.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """What the goal image says: latent z [B,N,D], and read from it the pose and the object's place [B,P] [m].

    settled: bool [B], the scene is already as in the goal image, as far as its latent can tell.
    """

    z: Tensor
    proprio: Tensor
    place: Tensor
    settled: Tensor


@dataclass(frozen=True)
class GoalEnergy:
    """A weighted sum of distances from the goal; while the scene is settled only the first and the last, at weight 1.

    latent: between the scene latents, exact near the goal and saturated far from it. place: [m] between the object's
    places as the contact head reads them, a slope from far. approach: [m] from the end effector to that place, without
    which a far hand sees no slope. proprio: [m] from the end effector to its place in the goal image.
    settled_below: the scene counts as settled below this mean squared difference of its latents.
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
    settled_below: float = 0.6

    def settled(self, z: Tensor, z_goal: Tensor) -> Tensor:
        """Which of B episodes have their scene as in the goal image: latents [B,N,D] twice -> bool [B]."""
        gap: Tensor = latent_distance("l2", z[..., : self.scene_dim], z_goal[..., : self.scene_dim])
        return gap < self.settled_below

    def step(self, z: Tensor, proprio: Tensor, goal: Goal) -> Tensor:
        """Energy [...] of latents [...,N,D] and proprioception [...,P]; the goal broadcasts."""
        scene, wanted = z[..., : self.scene_dim], goal.z[..., : self.scene_dim]
        latent = latent_distance(self.distance, scene, wanted)
        pose = (proprio - goal.proprio).norm(dim=-1)
        place = self.locate(z)
        far = self.latent_weight * latent + self.proprio_weight * pose
        far = far + self.place_weight * (place - goal.place).norm(dim=-1)
        far = far + self.approach_weight * (proprio - place).norm(dim=-1)
        return torch.where(goal.settled, latent + pose, far)

    def __call__(self, path: Tensor, poses: Tensor, goal: Goal) -> Tensor:
        """Cost [B,K] of rollouts [E,B,K,H,N,D] and poses [B,K,H,P] towards the goals of B episodes."""
        wide = Goal(*(part[:, None, None] for part in (goal.z, goal.proprio, goal.place, goal.settled)))
        energy = self.step(path, poses, wide)
        weights = energy.new_full((energy.shape[-1],), self.running_weight)
        weights[-1] = 1.0
        cost: Tensor = energy @ weights
        pessimistic: Tensor = cost.mean(dim=0) + self.pessimism * cost.std(dim=0, correction=0)
        return pessimistic
