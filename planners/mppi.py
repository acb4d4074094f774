"""Model predictive path integral control."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from planners.errors import require
from planners.record import Record
from planners.sampling import Ranked, elect, is_finite, moments, refit
from planners.search import Refined, search
from planners.types import ActionBox, CostFn, Plan, Proposal, Select


def mppi(
    cost: CostFn,
    init: Proposal,
    box: ActionBox,
    generator: torch.Generator,
    *,
    num_samples: int = 300,
    num_elites: int = 30,
    num_iterations: int = 10,
    temperature: float | None = None,
    relative_temperature: float = 0.5,
    adapt_std: bool = True,
    momentum: float = 0.1,
    min_std: float = 0.05,
    noise_beta: float = 0.0,
    candidates: Tensor | None = None,
    select: Select = "mean",
    deadline: float | None = None,
) -> Plan:
    """Average all candidates, weighted by softmax(-(c - min c) / temperature) (Williams et al. 2017, arXiv 1707.02342).

    The weights are the paper's without its control cost, which is left to the cost function.
    temperature: > 0, in the units of the cost. None, the default, makes it relative_temperature times the spread of
        the row's costs, anew in each iteration, so that any scale of costs will do. The spread is the std of the
        better half of the finite costs: what fails, or is punished with 1e30, is not in it.
    adapt_std: refit the std with the same weights; otherwise it stays that of `init`.
    num_elites: how many are reported, they steer nothing. All other settings, and what is raised, are those of `cem`.
    """
    record = Record(
        "mppi",
        cost,
        init,
        box,
        generator,
        num_samples=num_samples,
        num_iterations=num_iterations,
        candidates=candidates,
        select=select,
        deadline=deadline,
    )
    legal = temperature is None or temperature > 0
    require(legal, "mppi", "a temperature > 0, or None", temperature, "None makes it relative to the costs")
    legal = relative_temperature > 0
    require(legal, "mppi", "a relative_temperature > 0", relative_temperature, "lower is greedier")
    require(num_elites >= 1, "mppi", "num_elites >= 1", num_elites, "one elite is the least")
    require(0 <= momentum < 1, "mppi", "momentum in [0,1)", momentum, "1 would never learn")
    require(min_std >= 0, "mppi", "min_std >= 0", min_std, "give it in half-widths of the box")
    weigh = partial(_absolute, temperature) if temperature is not None else partial(_relative, relative_temperature)
    refine = partial(_refine, record.box, weigh, num_elites, adapt_std, momentum, record.box.half_width * min_std)
    return search(record, generator, refine, num_samples=num_samples, noise_beta=noise_beta, candidates=candidates)


def _refine(
    box: ActionBox,
    weigh: partial[Tensor],
    num_elites: int,
    adapt_std: bool,
    momentum: float,
    floor: Tensor,
    proposal: Proposal,
    ranked: Ranked,
) -> Refined:
    alive = is_finite(ranked.cost).any(dim=1)
    weights = torch.where(alive.unsqueeze(1), weigh(ranked), 0.0).to(proposal.mean.dtype)
    mean, std = moments(ranked.actions, weights)
    effective = weights.square().sum(dim=1).reciprocal()
    refitted = refit(proposal, mean, std, alive, momentum, floor, box)
    elites, elite_cost = elect(ranked, num_elites)
    proposal = refitted if adapt_std else Proposal(refitted.mean, proposal.std)
    return Refined(proposal, elites, elite_cost, std, torch.where(alive, effective, 0.0))


def _absolute(temperature: float, ranked: Ranked) -> Tensor:
    """softmax(-(c - min c) / temperature) [B,K]; NaN in a row without a finite cost."""
    excess = ranked.cost - ranked.cost.amin(dim=1, keepdim=True)
    return torch.softmax(-excess / temperature, dim=1)


def _relative(share: float, ranked: Ranked) -> Tensor:
    """The same with temperature = share x std of the better half of the finite costs.

    Costs are measured in ranges of that half, and halved before they are subtracted, so that nothing overflows. If the
    half is all ties, so is its weight, and the rest gets none.
    """
    cost = ranked.cost.gather(1, ranked.order)
    half = (is_finite(cost).sum(dim=1, keepdim=True) + 1) // 2
    limits = torch.finfo(cost.dtype)
    low, high = cost[:, :1], cost.gather(1, (half - 1).clamp(min=0))
    unit = (high * 0.5 - low * 0.5).clamp(min=limits.tiny)
    better = torch.arange(cost.shape[1], device=cost.device) < half
    scaled = torch.where(better, (cost * 0.5 - low * 0.5) / unit, 0.0)
    mean = scaled.sum(dim=1, keepdim=True) / half.clamp(min=1)
    square = torch.where(better, (scaled - mean).square(), 0.0).sum(dim=1, keepdim=True) / half.clamp(min=1)
    spread = square.sqrt().clamp(min=limits.eps)
    return torch.softmax(-((ranked.cost * 0.5 - low * 0.5) / unit) / (share * spread), dim=1)
