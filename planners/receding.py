"""Receding horizon: from one decision's result to the next decision's start."""

from __future__ import annotations

import torch
from torch import Tensor

from planners.errors import require
from planners.types import Proposal


def shift(proposal: Proposal, steps: int, std: Tensor | float | None = None) -> Proposal:
    """Warm start: drop the executed steps, repeat the last action at the end.

    steps: executed decision steps, >= 0; from H on only the last action is left.
    std: standard deviation to search with anew, a number or a tensor that broadcasts to [B,H,A]; None shifts the old
        one like the mean. A converged plan has a small std: a number of the size of the first one is the usual choice.
    Raises PlanningError for negative steps, and for a number that is no std in the mean's dtype.
    """
    mean = shift_actions(proposal.mean, steps)
    if std is None:
        return Proposal(mean, shift_actions(proposal.std, steps))
    largest = torch.finfo(mean.dtype).max
    legal = isinstance(std, Tensor) or 0 <= std <= largest
    require(legal, "shift", f"a std in [0,{largest:.4g}]", std, "give it in the units of the actions")
    return Proposal(mean, torch.as_tensor(std, dtype=mean.dtype, device=mean.device).expand_as(mean).clone())


def shift_actions(actions: Tensor, steps: int) -> Tensor:
    """[...,H,A] -> [...,H,A]: what `shift` does to a mean, for elites that become the next decision's candidates."""
    require(steps >= 0, "shift", "steps >= 0", steps, "count the executed decision steps")
    horizon = actions.shape[-2]
    index = (torch.arange(horizon, device=actions.device) + steps).clamp(max=horizon - 1)
    return actions.index_select(-2, index)
