"""How far predicted latents are from the goal's, and how a horizon of such distances becomes one cost.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["l1", "l2", "cosine"]
Way = Literal["straight", "roadmap"]
Timed = Callable[[Tensor, Tensor, Tensor], Tensor]
"""How far a thing is from its goal [...] [m]: of poses [...,P] of the robot, the thing's places [...,C] and goals."""

FAR = 1e3  # [m] no hand goes to an object that is in its place
LEAST = 1e-12  # of a square before its root is taken, whose slope at 0 is infinite


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
    # Coordinate by coordinate: a norm over two or three numbers takes twice as long.
    square: Tensor | None = None
    for here, there in zip(place.unbind(dim=-1), goal.unbind(dim=-1), strict=True):
        gap = here - there
        square = gap.square() if square is None else torch.addcmul(square, gap, gap)
    assert square is not None
    return square.clamp(min=LEAST).sqrt()


@dataclass(frozen=True)
class Ways:
    """How far things are from their places [...] [m].

    robot: from poses [...,P] to others. objects: where the robot has poses [...,P], from places [...,C] to others.
    """

    robot: Callable[[Tensor, Tensor], Tensor] = straight
    objects: Timed = lambda proprio, place, goal: straight(place, goal)


@dataclass(frozen=True)
class Goal:
    """What the goal image says: latent z [B,1,D], and read from it the pose [B,P] and the objects' places [B,N,C] [m].

    settled: bool [B], the scene was as in the goal image from the start, as far as its latent can tell.
    arrived: bool [B,N], which objects are in their places.
    """

    z: Tensor
    proprio: Tensor
    place: Tensor
    settled: Tensor
    arrived: Tensor


@dataclass(frozen=True)
class GoalEnergy:
    """A weighted sum of distances [m] from the goal.

    place: between the objects' places, summed. approach: from the end effector to the nearest object that is not in its
    place, without which a far hand sees no slope; not while there is nothing to move. proprio: from the end effector to
    its place in the goal image; weight 1 in a settled scene, and arrived_weight while all objects are in their places,
    which the hand might drag them out of.
    locate: takes places [...,N,Q] to the robot's coordinates [...,N,C] [m], position: poses [...,P] to the same
    [...,C]. ways: how far robot and objects are from their places.
    running_weight: weight of every step but the last, whose weight is 1; 0 looks at the last step only, 1 sums.
    discount: by which a step counts less than the one before it.
    pessimism: standard deviations over the ensemble added to its mean cost, so that a plan which only one member
    believes in is not chosen.
    """

    locate: Callable[[Tensor], Tensor]
    position: Callable[[Tensor], Tensor]
    running_weight: float = 0.3
    discount: float = 1.0
    place_weight: float = 1.0
    approach_weight: float = 0.2
    proprio_weight: float = 0.0
    arrived_weight: float = 0.1
    pessimism: float = 2.0
    ways: Ways = field(default_factory=Ways)

    def step(self, places: Tensor, proprio: Tensor, goal: Goal) -> Tensor:
        """Energy [...] of places [...,N,Q] and proprioception [...,P]; the goal broadcasts."""
        return self._step(places, proprio, goal, self._shares(goal))

    def towards(self, goal: Goal, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
        """What rollouts [E,B,K,H,N,Q] and poses [B,K,H,P] of so many steps cost on the way to B goals: [E,B,K].

        To each member. Whatever does not depend on the candidates is worked out here, once for a whole search.
        """
        wide = Goal(*(getattr(goal, field.name)[:, None, None] for field in fields(goal)))
        approach, pose = self._shares(wide)
        # A distance that counts nothing in any episode, as that of poses does on the way to an object, is not measured.
        counts = torch.stack([(share != 0.0).any() for share in (approach, pose)]).tolist()
        shares = (approach if counts[0] else None, pose if counts[1] else None)
        weights = step_weights(steps, self.running_weight, self.discount, goal.place.device)

        def members(path: Tensor, poses: Tensor) -> Tensor:
            cost: Tensor = self._step(path, poses, wide, shares) @ weights
            return cost

        return members

    def pessimistic(self, cost: Tensor) -> Tensor:
        """What candidates cost to each member [E,B,K], as a pessimist sees them: [B,K]."""
        mean: Tensor = cost.mean(dim=0)
        if self.pessimism == 0.0 or len(cost) == 1:
            return mean
        # The std in four steps: as one it takes three times as long for so few members.
        return torch.add(mean, (cost - mean).square().mean(dim=0).clamp(min=LEAST).sqrt(), alpha=self.pessimism)

    def _shares(self, goal: Goal) -> tuple[Tensor, Tensor]:
        """What approach and pose count [...] where things stand as they do."""
        arrived = goal.arrived.all(dim=-1)
        there = torch.where(arrived, self.arrived_weight, self.proprio_weight)
        approach = torch.where(goal.settled | arrived, 0.0, self.approach_weight)
        return approach, torch.where(goal.settled, 1.0, there)

    def _step(self, places: Tensor, proprio: Tensor, goal: Goal, shares: tuple[Tensor | None, Tensor | None]) -> Tensor:
        place = self.locate(places)
        one = place.shape[-2] == 1  # a reduction of one number takes as long as the whole of its arithmetic
        away = self.ways.objects(proprio.unsqueeze(-2), place, goal.place)
        energy: Tensor = self.place_weight * (away[..., 0] if one else away.sum(dim=-1))
        if shares[0] is not None:
            gaps = straight(self.position(proprio).unsqueeze(-2), place)
            # The only object, once arrived, has no share.
            nearest = gaps[..., 0] if one else gaps.masked_fill(goal.arrived, FAR).amin(dim=-1)
            energy = torch.addcmul(energy, shares[0], nearest)
        if shares[1] is not None:
            energy = torch.addcmul(energy, shares[1], self.ways.robot(proprio, goal.proprio))
        return energy
