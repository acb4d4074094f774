"""Model predictive path integral control."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from planners.errors import require
from planners.record import Record
from planners.sampling import Ranked, check_refit, is_finite, moments, refit
from planners.search import Refined, search
from planners.types import ActionBox, CostFn, Plan, Proposal, Select

CLIFF = 1e3  # a cost so many times as far from the best as the one before it is a punishment, and so is all behind it
FEW = 6  # candidates before a cliff, at least: of fewer, the best may be that close to each other by chance


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
        better half of the costs that are finite and not punished: a punishment is seen by the cliff before it, CLIFF
        times the range of all that cost less, which must be at least FEW candidates. A penalty of the size of the
        costs' own range, or one that grows from nothing, has no cliff: it counts like any cost and evens the weights.
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
    check_refit("mppi", momentum, min_std)
    weigh = partial(_absolute, temperature) if temperature is not None else partial(_relative, relative_temperature)
    refine = partial(_refine, record.box, weigh, adapt_std, momentum, record.box.half_width * min_std)
    return search(record, generator, refine, num_elites=num_elites, noise_beta=noise_beta)


def _refine(
    box: ActionBox,
    weigh: partial[Tensor],
    adapt_std: bool,
    momentum: float,
    floor: Tensor,
    proposal: Proposal,
    ranked: Ranked,
) -> Refined:
    alive = is_finite(ranked.ascending[:, 0])
    weights = torch.where(alive.unsqueeze(1), weigh(ranked), 0.0).to(proposal.mean.dtype)
    mean, std = moments(ranked.actions, weights)
    refitted = refit(proposal, mean, std, alive, momentum, floor, box)
    proposal = refitted if adapt_std else Proposal(refitted.mean, proposal.std)
    return Refined(proposal, std, weights=weights)


def _absolute(temperature: float, ranked: Ranked) -> Tensor:
    """softmax(-(c - min c) / temperature) [B,K]; NaN in a row without a finite cost."""
    excess = ranked.cost - ranked.ascending[:, :1]
    limits = torch.finfo(excess.dtype)
    return torch.softmax(-excess / min(max(temperature, limits.tiny), limits.max), dim=1)


def _relative(share: float, ranked: Ranked) -> Tensor:
    """The same with temperature = share x std of the better half of the costs that are finite and not punished.

    Costs are measured in ranges of that half, and halved before they are subtracted, so that nothing overflows. If the
    half is all ties, so is its weight, and the rest gets none.
    """
    cost, place = ranked.ascending, torch.arange(ranked.cost.shape[1], device=ranked.cost.device)
    limits = torch.finfo(cost.dtype)
    low = cost[:, :1]
    excess = cost * 0.5 - low * 0.5
    fair = is_finite(cost).sum(dim=1, keepdim=True)
    if cost.shape[1] > FEW:
        # Ties that rounding parts are no range.
        before, behind = excess[:, FEW - 1 : -1], excess[:, FEW:]
        cliff = (before > 16.0 * limits.eps * low.abs()) & (behind / CLIFF > before)
        fair = torch.where(cliff, place[FEW:], fair).amin(dim=1, keepdim=True)
    half = ((fair + 1) // 2).clamp(min=1)
    unit = excess.gather(1, half - 1).clamp(min=limits.tiny)
    better = place < half
    scaled = torch.where(better, excess / unit, 0.0)
    mean = scaled.sum(dim=1, keepdim=True) / half
    square = torch.where(better, (scaled - mean).square(), 0.0).sum(dim=1, keepdim=True) / half
    spread = square.sqrt().clamp(min=limits.eps)
    temperature = (share * spread).clamp(min=limits.tiny, max=limits.max)
    return torch.softmax((low * 0.5 - ranked.cost * 0.5) / unit / temperature, dim=1)
