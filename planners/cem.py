"""The cross-entropy method."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from planners.errors import require
from planners.record import Record
from planners.sampling import Ranked, check_refit, elect, is_finite, moments, refit
from planners.search import Refined, even_weights, search
from planners.types import ActionBox, CostFn, Plan, Proposal, Select


def cem(
    cost: CostFn,
    init: Proposal,
    box: ActionBox,
    generator: torch.Generator,
    *,
    num_samples: int = 300,
    num_elites: int = 30,
    num_iterations: int = 10,
    momentum: float = 0.1,
    min_std: float = 0.05,
    noise_beta: float = 0.0,
    candidates: Tensor | None = None,
    select: Select = "best",
    deadline: float | None = None,
) -> Plan:
    """Fit a Gaussian to the elites, again and again (Rubinstein 1999; Chua et al. 2018, arXiv 1805.12114).

    num_samples: K, candidates per iteration; the first of them is the mean. num_elites: at most K are used.
    momentum: share of the old mean and std in the new, in [0,1). min_std: floor of the std from the second iteration
        on, in half-widths of the box, at most 1. noise_beta: 0 draws white noise, more, up to 10, correlates it in time
        (power 1/f^beta).
    candidates: [B,C,H,A], proposals that take the place of C samples of the first iteration; C < K.
    select: return the best candidate seen, or the final mean (one more call of the cost, with K = 1).
    deadline: [s]; an iteration starts only if it is expected to end in time, save the first, which always runs.
    Raises PlanningError, among others when no candidate of a row has a finite cost.
    """
    record = Record(
        "cem",
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
    refine = elite_refiner("cem", record.box, num_elites=num_elites, momentum=momentum, min_std=min_std)
    return search(record, generator, refine, num_elites=num_elites, noise_beta=noise_beta)


def elite_refiner(
    planner: str, box: ActionBox, *, num_elites: int, momentum: float, min_std: float
) -> partial[Refined]:
    """The refinement of cem and icem: the next distribution is that of the elites. Raises PlanningError."""
    require(num_elites >= 1, planner, "num_elites >= 1", num_elites, "one elite is the least")
    check_refit(planner, momentum, min_std)
    return partial(_refine, box, num_elites, momentum, box.half_width * min_std)


def _refine(
    box: ActionBox, num_elites: int, momentum: float, floor: Tensor, proposal: Proposal, ranked: Ranked
) -> Refined:
    elites, elite_cost = elect(ranked, num_elites)
    mean, std = moments(elites, even_weights(elite_cost, elites.dtype))
    alive = is_finite(elite_cost[:, 0])
    return Refined(refit(proposal, mean, std, alive, momentum, floor, box), std, (elites, elite_cost))
