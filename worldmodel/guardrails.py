"""Guardrails as objectives (LeCun 2022, section 3.1): limits on where the end effector goes and how it moves.

They are evaluated on the predicted end-effector path of every candidate. Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.errors import ConfigError

POINTS = 4  # on the way from one decision to the next, so that no corner is cut unseen
SLACK = 5e-4  # [m] by which a way may be longer: lawful ways are exactly as long as they may be, to rounding
BREACH = 10.0  # more than any two energies [m] differ by: every candidate that keeps the limits ranks above all others


@dataclass(frozen=True)
class Guardrails:
    """What a plan must not do. Lengths in [m], in the coordinates of the proprioception, whose first three they limit.

    boxes: [x0,y0,z0,x1,y1,z1] to keep out of; spheres: [x,y,z,radius] to keep out of; an environment may name more
    boxes in its observation. workspace: [x0,y0,z0,x1,y1,z1] to stay in. speed: longest way per decision. action_rate:
    largest change of any action between decisions. margin: by which regions are enlarged, for the model errs.
    hard: no plan that breaks a limit is executed; otherwise it costs `weight` per metre, summed over the path.
    Raises ConfigError for a limit of another shape.
    """

    boxes: Sequence[Sequence[float]] = ()
    spheres: Sequence[Sequence[float]] = ()
    workspace: Sequence[float] | None = None
    speed: float | None = None
    action_rate: float | None = None
    margin: float = 0.0
    hard: bool = True
    weight: float = 10.0

    def __post_init__(self) -> None:
        wanted = [("boxes", 6, self.boxes), ("spheres", 4, self.spheres)]
        wanted.append(("workspace", 6, [] if self.workspace is None else [self.workspace]))
        for name, length, regions in wanted:
            for region in regions:
                if len(region) != length or not all(isinstance(value, int | float) for value in region):
                    raise ConfigError(
                        f"expected {length} numbers for each of guardrails.{name}, got {list(region)}: give metres"
                    )
                if length == 6 and any(low >= high for low, high in zip(region[:3], region[3:], strict=True)):
                    raise ConfigError(f"expected guardrails.{name} as lows, then highs, got {list(region)}: swap them")

    def slowed(self, actions: Tensor, last: Tensor, gain: Tensor) -> Tensor:
        """The candidates [B,K,H,A] nearest to the given ones, step by step, that keep the limits of speed and rate.

        last: the executed action [B,A]. gain: metres per unit of the action, [P,A]. Where any action would be too fast
        or too sudden, almost every random candidate is; without this a search would only see unlawful ones.
        """
        if self.speed is not None:
            way = (actions @ gain[:3].T).norm(dim=-1, keepdim=True)
            actions = actions * (self.speed / way.clamp_min(1e-9)).clamp_max(1.0)
        if self.action_rate is None:
            return actions
        lawful, before = [], last[:, None].expand_as(actions[:, :, 0])
        for wanted in actions.unbind(dim=2):
            change = wanted - before
            largest = change.abs().amax(dim=-1, keepdim=True).clamp_min(1e-9)
            before = before + change * (self.action_rate / largest).clamp_max(1.0)
            lawful.append(before)
        return torch.stack(lawful, dim=2)

    def breach(self, start: Tensor, poses: Tensor, actions: Tensor, last: Tensor, regions: Tensor | None) -> Tensor:
        """How far candidates break the limits, summed over the path: [B,K], 0 iff they keep all of them.

        From start [B,P], along poses [B,K,H,P], by actions [B,K,H,A] after the executed action `last` [B,A].
        regions: boxes of these episodes [B,n,2,3], lows and highs, besides the guardrails' own; none if None.
        """
        before = torch.cat([start[:, None, None].expand_as(poses[:, :, :1]), poses[:, :, :-1]], dim=2)[..., :3]
        after = poses[..., :3]
        shares = torch.arange(1, POINTS + 1, device=poses.device, dtype=poses.dtype) / POINTS
        path = torch.lerp(before[..., None, :], after[..., None, :], shares[:, None]).flatten(2, 3)
        total = path.new_zeros(path.shape[:2])
        for low, high in self._boxes(path, regions):
            depth = torch.minimum(path - low, high - path).amin(dim=-1) + self.margin
            total = total + depth.clamp_min(0.0).sum(dim=-1)
        for *centre, radius in self.spheres:
            depth = radius + self.margin - (path - path.new_tensor(centre)).norm(dim=-1)
            total = total + depth.clamp_min(0.0).sum(dim=-1)
        if self.workspace is not None:
            low, high = path.new_tensor(self.workspace[:3]), path.new_tensor(self.workspace[3:])
            outside = torch.maximum(low - path, path - high).clamp_min(0.0)
            total = total + outside.sum(dim=(-2, -1))
        if self.speed is not None:
            total = total + ((after - before).norm(dim=-1) - self.speed - SLACK).clamp_min(0.0).sum(dim=-1)
        if self.action_rate is not None:
            earlier = torch.cat([last[:, None, None].expand_as(actions[:, :, :1]), actions[:, :, :-1]], dim=2)
            change = (actions - earlier).abs().amax(dim=-1)
            total = total + (change - self.action_rate - SLACK).clamp_min(0.0).sum(dim=-1)
        return total

    def cost(self, energy: Tensor, breach: Tensor) -> Tensor:
        """[B,K], [B,K] -> [B,K]: what the planner minimises."""
        step = BREACH * (breach > 0.0) if self.hard else 0.0
        return energy + self.weight * breach + step

    def _boxes(self, path: Tensor, regions: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Lows and highs that broadcast against the path [B,K,S,3]."""
        found = [(path.new_tensor(box[:3]), path.new_tensor(box[3:])) for box in self.boxes]
        if regions is not None:
            for index in range(regions.shape[1]):
                low, high = regions[:, index, 0], regions[:, index, 1]
                found.append((low[:, None, None], high[:, None, None]))
        return found
