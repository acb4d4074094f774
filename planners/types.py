"""What a planner takes and gives.

Dimension legend: B episodes in parallel, K candidate sequences, H planning horizon [decision steps], A action dim,
E elites, I iterations that ran.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from planners.errors import kind, require

CostFn = Callable[[Tensor], Tensor]
"""actions [B,K,H,A] -> cost [B,K], lower is better. Splitting K into chunks that fit the memory is its business."""

Select = Literal["best", "mean"]
"""Which sequence a planner returns: the best candidate it has ever seen, or the mean of its final distribution."""


@dataclass(frozen=True)
class Proposal:
    """A diagonal Gaussian over action sequences; all the state a planner has between two decisions.

    mean, std: floating point [B,H,A] on one device, std >= 0. Raises PlanningError for other shapes or dtypes;
    that the values are finite is checked by the planner, at the end of the plan.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        mean, std = self.mean, self.std
        legal = mean.dim() == 3 and mean.numel() > 0 and mean.is_floating_point()
        same = std.shape == mean.shape and std.dtype == mean.dtype and std.device == mean.device
        if legal and same:  # one of these is made in every iteration: no message is written that nobody reads
            return
        require(legal, "Proposal.mean", "a floating point [B,H,A]", kind(mean), "give at least one row, step and dim")
        require(
            same, "Proposal.std", f"what the mean is, {kind(mean)}", kind(std), "expand the std to the mean's shape"
        )


@dataclass(frozen=True)
class ActionBox:
    """The actions that may be commanded, bound by bound: low <= action <= high.

    low, high: finite floating point [A] on one device; equal bounds lock a dimension. Their distance must be such that
    its square is finite, for variances are taken. Raises PlanningError otherwise.
    """

    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        low, high = self.low, self.high
        legal = low.dim() == 1 and low.numel() > 0 and low.is_floating_point()
        require(legal, "ActionBox.low", "a floating point [A]", kind(low), "give one bound for each action dimension")
        same = high.shape == low.shape and high.dtype == low.dtype and high.device == low.device
        require(same, "ActionBox.high", f"what low is, {kind(low)}", kind(high), "give one bound for each dimension")
        legal_order = (torch.isfinite(low) & torch.isfinite(high) & (low <= high)).all()
        ordered, narrow = torch.stack([legal_order, torch.isfinite((high - low).square()).all()]).tolist()
        bounds = "" if ordered and narrow else f"{low.tolist()} and {high.tolist()}"
        require(ordered, "ActionBox", "finite bounds with low <= high", bounds, "swap or mend the bounds")
        expected = f"bounds whose squared distance fits {str(low.dtype).removeprefix('torch.')}"
        require(narrow, "ActionBox", expected, bounds, "give the range that can be commanded")

    @property
    def centre(self) -> Tensor:
        """[A], the middle of the box."""
        return self.low + self.half_width

    @property
    def half_width(self) -> Tensor:
        """[A], half the distance of the bounds; halved first, so that it cannot overflow."""
        return self.high * 0.5 - self.low * 0.5

    def clamp(self, actions: Tensor) -> Tensor:
        """[...,A] -> [...,A], every value inside the box exactly. NaN stays NaN."""
        return torch.clamp(actions, self.low, self.high)

    def like(self, actions: Tensor) -> ActionBox:
        """The same box in the dtype and on the device of `actions`, bounds rounded inwards, never outwards.

        Where no number of that dtype is inside, the one nearest to the centre locks the dimension.
        """
        low, high = self.low, self.high
        if low.dtype == actions.dtype and low.device == actions.device:
            return self
        narrow_low, narrow_high = low.to(actions.dtype), high.to(actions.dtype)
        above = torch.nextafter(narrow_low, torch.full_like(narrow_low, torch.inf))
        below = torch.nextafter(narrow_high, torch.full_like(narrow_high, -torch.inf))
        narrow_low = torch.where(narrow_low.to(low.dtype) < low, above, narrow_low)
        narrow_high = torch.where(narrow_high.to(high.dtype) > high, below, narrow_high)
        empty, nearest = narrow_low > narrow_high, self.centre.to(actions.dtype)
        narrow_low, narrow_high = (torch.where(empty, nearest, bound) for bound in (narrow_low, narrow_high))
        return ActionBox(narrow_low.to(actions.device), narrow_high.to(actions.device))


@dataclass(frozen=True)
class Diagnostics:
    """What happened while planning. Tensors are [I,B], on the device of the plan.

    cost_per_iteration: the lowest cost so far.
    elite_spread: std over the elites (mppi: over the weighted candidates; gradient: over the restarts), averaged
        over H and A, in the units of the actions.
    finite_share: share of the candidates whose cost was finite, in [0,1].
    effective_sample_size: 1 / sum(weights^2) in [1,K] (mppi), NaN for planners without weights.
    model_calls: how often the cost was called. candidate_steps: B x K x H summed over those calls.
    seconds: wall time of the plan [s]. cut: the deadline left some iterations undone.
    """

    cost_per_iteration: Tensor
    elite_spread: Tensor
    finite_share: Tensor
    effective_sample_size: Tensor
    model_calls: int
    candidate_steps: int
    seconds: float
    cut: bool


@dataclass(frozen=True)
class Plan:
    """What a planner returns.

    actions: [B,H,A], inside the box exactly. cost: [B], the cost of those very actions, finite.
    proposal: the final distribution, to be shifted into the next decision's start. elites: [B,E,H,A], best first.
    """

    actions: Tensor
    cost: Tensor
    proposal: Proposal
    elites: Tensor | None
    diagnostics: Diagnostics


class Planner(Protocol):
    """A pure function. Settings are keyword arguments with defaults; bind them with functools.partial."""

    def __call__(self, cost: CostFn, init: Proposal, box: ActionBox, generator: torch.Generator) -> Plan:
        """Search for the sequence of lowest cost. Raises PlanningError."""
        ...
