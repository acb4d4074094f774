"""Guardrails as objectives (LeCun 2022, section 3.1): limits on where the end effector goes and how it moves.

They are evaluated on the predicted end-effector path of every candidate. Legend: worldmodel/types.py.
C: how many coordinates say where the robot is, at most 3. A path is straight from each predicted pose to the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worldmodel.errors import ConfigError

SLACK = 5e-4  # [m] by which a way may be longer: lawful ways are exactly as long as they may be, to rounding
ROUNDING = 1e-5  # [m] by which a way may lead into a region: float32 knows places a few metres away as well as that
TINY = 1e-9  # [m] what is shorter has no direction
BREACH = 1e6  # more than any two energies differ by: every candidate that keeps the limits ranks above all others

FORMS = {"boxes": "x0,y0,z0,x1,y1,z1", "spheres": "x,y,z,radius", "workspace": "x0,y0,z0,x1,y1,z1"}


@dataclass(frozen=True)
class Guardrails:
    """What a plan must not do. Lengths in [m], in the coordinates of the proprioception that say where the robot is.

    boxes: [x0,y0,z0,x1,y1,z1] to keep out of; spheres: [x,y,z,radius] to keep out of; an environment may name more
    boxes in its observation. workspace: [x0,y0,z0,x1,y1,z1] to stay in. For a robot on a floor, C = 2, z says nothing.
    speed: longest way per decision. action_rate: largest change of any action between decisions.
    margin: by which regions are enlarged and the workspace shrinks, for the model errs.
    hard: no plan that breaks a limit is executed; where none is left the arm stops at once, whatever the action rate.
    Otherwise a breach costs `weight` per metre, summed over the path.
    Raises ConfigError for a limit of another shape, or one that nothing could keep.
    """

    boxes: Sequence[Sequence[float]] = ()
    spheres: Sequence[Sequence[float]] = ()
    workspace: Sequence[float] | None = None
    speed: float | None = None
    action_rate: float | None = None
    margin: float = 0.0
    hard: bool = True
    weight: float = 10.0
    _made: dict[Any, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("speed", "action_rate"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                raise ConfigError(f"expected guardrails.{name} > 0, got {value}: give a positive number, or null")
        for name in ("margin", "weight"):
            value = getattr(self, name)
            if not (_is_number(value) and value >= 0):
                raise ConfigError(f"expected guardrails.{name} >= 0, got {value}: give 0 or more")
        _require_regions("boxes", self.boxes)
        _require_regions("spheres", self.spheres)
        if self.workspace is not None:
            _require_regions("workspace", [self.workspace], 2.0 * self.margin)

    def slowed(self, actions: Tensor, last: Tensor, gain: Tensor) -> Tensor:
        """The candidates [B,K,H,A] nearest to the given ones, step by step, that keep the limits of speed and rate.

        last: the executed action [B,A]. gain: metres per unit of the action, [C,A]. Where any action would be too fast
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

        From start [B,C], along poses [B,K,H,C], by actions [B,K,H,A] after the executed action `last` [B,A]; of more
        than 3 coordinates the first 3 count. regions: boxes of these episodes [B,n,2,3], lows and highs, besides the
        guardrails' own; none if None.
        """
        after = poses[..., :3]
        before = torch.cat([start[:, None, None, :3].expand_as(after[:, :, :1]), after[:, :, :-1]], dim=2)
        boxes, spheres, workspace = self._tensors(after)
        found = [*boxes.unbind()]
        if regions is not None:
            found += regions[:, None, None].unbind(dim=3)  # [B,1,1,2,3] each
        total = after.new_zeros(after.shape[:-1])
        for box in found:
            low, high = box[..., : after.shape[-1]].unbind(dim=-2)
            total = total + _into_box(before, after, low - self.margin, high + self.margin)
        for sphere in spheres.unbind():
            total = total + _into_sphere(before, after, sphere[: after.shape[-1]], sphere[3] + self.margin)
        for low, high in workspace[..., : after.shape[-1]].unbind():
            outside = torch.maximum(low + self.margin - after, after - high + self.margin)
            total = total + outside.clamp_min(0.0).sum(dim=-1)
        if self.speed is not None:
            total = total + ((after - before).norm(dim=-1) - self.speed - SLACK).clamp_min(0.0)
        if self.action_rate is not None:
            earlier = torch.cat([last[:, None, None].expand_as(actions[:, :, :1]), actions[:, :, :-1]], dim=2)
            change = (actions - earlier).abs().amax(dim=-1)
            total = total + (change - self.action_rate - SLACK).clamp_min(0.0)
        return total.sum(dim=-1)

    def cost(self, energy: Tensor, breach: Tensor) -> Tensor:
        """[B,K], [B,K] -> [B,K]: what the planner minimises."""
        # Hard breaches too are in units of BREACH, or float32 would lose them beside it.
        return energy + (BREACH * ((breach > 0.0) + breach) if self.hard else self.weight * breach)

    def _tensors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [n,2,3], spheres [n,4] and, none or one, the workspace [n,2,3]: made once for a device."""
        key = (like.device, like.dtype)
        if key not in self._made:
            workspace = [] if self.workspace is None else [self.workspace]
            boxes, spheres, stay = (
                torch.tensor([list(region) for region in given], dtype=like.dtype, device=like.device)
                for given in (self.boxes, self.spheres, workspace)
            )
            self._made[key] = boxes.reshape(-1, 2, 3), spheres.reshape(-1, 4), stay.reshape(-1, 2, 3)
        return self._made[key]


def _into_box(before: Tensor, after: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How deep ways from before [...,C] to after [...,C] lead into boxes: [...] [m], 0 iff they do not enter.

    By slabs (Kay and Kajiya 1986): of the part of the way that is inside, the middle is surely inside.
    """
    inside = _depth(before, low, high).clamp_min(0.0)
    with torch.no_grad():
        step = after - before
        step = step.masked_fill(step.abs() < TINY, TINY)
        first, second = (low + inside[..., None] - before) / step, (high - inside[..., None] - before) / step
        enters = torch.minimum(first, second).amax(dim=-1).clamp(0.0, 1.0)
        leaves = torch.maximum(first, second).amin(dim=-1).clamp(0.0, 1.0)
        share = (enters + leaves) / 2.0
    middle = torch.lerp(before, after, share[..., None])
    return _entered(inside, _depth(middle, low, high), _depth(after, low, high))


def _into_sphere(before: Tensor, after: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """The same for a sphere: the point of the way that is nearest to its centre is the deepest."""
    inside = (radius - (before - centre).norm(dim=-1)).clamp_min(0.0)
    with torch.no_grad():
        step = after - before
        share = ((centre - before) * step).sum(dim=-1) / step.square().sum(dim=-1).clamp_min(TINY**2)
    nearest = torch.lerp(before, after, share.clamp(0.0, 1.0)[..., None])
    return _entered(inside, radius - (nearest - centre).norm(dim=-1), radius - (after - centre).norm(dim=-1))


def _depth(places: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How deep places [...,C] are in boxes [...,C]: [...] [m], negative outside."""
    return torch.minimum(places - low, high - places).amin(dim=-1)


def _entered(inside: Tensor, deepest: Tensor, end: Tensor) -> Tensor:
    """How deep a way led in [m]. One that starts `inside` may lead out, or who was pushed in could never leave."""
    return (torch.maximum(deepest - inside, end) - ROUNDING).clamp_min(0.0)


def _require_regions(name: str, regions: Any, wider: float = 0.0) -> None:
    """Raise ConfigError unless these are regions, boxes wider than so many metres."""
    form = FORMS[name]
    length = form.count(",") + 1
    mend = f"write [{form}] [m]" if name == "workspace" else f"write [[{form}],...] [m]"
    if not _is_list(regions):
        raise ConfigError(f"expected a list for guardrails.{name}, got {regions}: {mend}")
    for region in regions:
        if not _is_list(region) or len(region) != length or not all(map(_is_number, region)):
            raise ConfigError(f"expected {length} numbers for each of guardrails.{name}, got {region}: {mend}")
        if length == 4 and region[3] <= 0:
            raise ConfigError(f"expected a radius > 0 for each of guardrails.{name}, got {list(region)}: {mend}")
        if length == 6 and any(low >= high for low, high in zip(region[:3], region[3:], strict=True)):
            raise ConfigError(f"expected guardrails.{name} as lows, then highs, got {list(region)}: swap them")
        if length == 6 and any(high - low <= wider for low, high in zip(region[:3], region[3:], strict=True)):
            got = f"got {list(region)}: widen it, or lower the margin"
            raise ConfigError(f"expected guardrails.{name} wider than twice guardrails.margin, {wider:g} m, {got}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
