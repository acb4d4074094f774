"""How far predicted latents are from the goal's, and how a horizon of such distances becomes one cost.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["l1", "l2", "cosine"]
Way = Literal["straight", "roadmap"]


def latent_distance(kind: Distance, z: Tensor, z_goal: Tensor) -> Tensor:
    """[...,N,D], [...,N,D] -> [...]: mean absolute, mean squared, or one minus cosine over the flattened tokens."""
    difference = z - z_goal
    if kind == "l1":
        return difference.abs().mean(dim=(-2, -1))
    if kind == "l2":
        return difference.square().mean(dim=(-2, -1))
    return 1.0 - F.cosine_similarity(z.flatten(-2), z_goal.expand_as(z).flatten(-2), dim=-1)


def step_weights(steps: int, running: float, discount: float, device: torch.device) -> Tensor:
    """What each of the steps counts [H]: the last 1, the others `running`, each `discount` times the one before."""
    weights = torch.full((steps,), running, device=device)
    weights[-1] = 1.0
    return weights * discount ** torch.arange(steps, device=device)


def straight(place: Tensor, goal: Tensor) -> Tensor:
    """The straight way from places [...,P] to others [...,P]: [...] [m]."""
    length: Tensor = (place - goal).norm(dim=-1)
    return length


@dataclass(frozen=True)
class Goal:
    """What the goal image says: latent z [B,N,D], and read from it the pose and the object's place [B,P] [m].

    settled: bool [B], the scene was as in the goal image from the start, as far as its latent can tell.
    arrived: bool [B], the object is in its place.
    """

    z: Tensor
    proprio: Tensor
    place: Tensor
    settled: Tensor
    arrived: Tensor


@dataclass(frozen=True)
class GoalEnergy:
    """A weighted sum of distances [m] from the goal.

    place: between the object's places. approach: from the end effector to the object, without which a far hand sees no
    slope; not while there is nothing to move. proprio: from the end effector to its place in the goal image; weight 1
    in a settled scene, and arrived_weight while the object is in its place, which the hand might drag it out of.
    locate: takes places [...,N,Q] to the robot's coordinates [...,P] [m]. way: how far two poses [...,P] are
    apart [...] [m].
    running_weight: weight of every step but the last, whose weight is 1; 0 looks at the last step only, 1 sums.
    discount: by which a step counts less than the one before it.
    pessimism: standard deviations over the ensemble added to its mean cost, so that a plan which only one member
    believes in is not chosen.
    """

    locate: Callable[[Tensor], Tensor]
    running_weight: float = 0.3
    discount: float = 1.0
    place_weight: float = 1.0
    approach_weight: float = 0.2
    proprio_weight: float = 0.0
    arrived_weight: float = 0.1
    pessimism: float = 2.0
    way: Callable[[Tensor, Tensor], Tensor] = straight

    def step(self, places: Tensor, proprio: Tensor, goal: Goal) -> Tensor:
        """Energy [...] of places [...,N,Q] and proprioception [...,P]; the goal broadcasts."""
        place = self.locate(places)
        pose = self.way(proprio, goal.proprio)
        approach = (proprio - place).norm(dim=-1)
        far = self.approach_weight * approach + self.proprio_weight * pose
        near = torch.where(goal.settled, pose, torch.where(goal.arrived, self.arrived_weight * pose, far))
        energy: Tensor = self.place_weight * (place - goal.place).norm(dim=-1) + near
        return energy

    def members(self, path: Tensor, poses: Tensor, goal: Goal) -> Tensor:
        """What rollouts [E,B,K,H,N,Q] and poses [B,K,H,P] cost on the way to B goals, to each member: [E,B,K]."""
        wide = Goal(*(getattr(goal, field.name)[:, None, None] for field in fields(goal)))
        energy = self.step(path, poses, wide)
        cost: Tensor = energy @ step_weights(energy.shape[-1], self.running_weight, self.discount, energy.device)
        return cost

    def __call__(self, path: Tensor, poses: Tensor, goal: Goal) -> Tensor:
        """The cost [B,K] of the same, as a pessimist sees the members."""
        cost = self.members(path, poses, goal)
        pessimistic: Tensor = cost.mean(dim=0) + self.pessimism * cost.std(dim=0, correction=0)
        return pessimistic
