"""The improved cross-entropy method."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from planners.cem import elite_refiner
from planners.errors import require
from planners.record import Record
from planners.search import search
from planners.types import ActionBox, CostFn, Plan, Proposal, Select


def icem(
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
    noise_beta: float = 2.0,
    keep_elites: float = 0.3,
    candidates: Tensor | None = None,
    select: Select = "best",
    deadline: float | None = None,
) -> Plan:
    """cem with noise correlated in time and elites that survive (iCEM, Pinneri et al. 2020, arXiv 2008.06389).

    keep_elites: share of the elites, in [0,1], that competes again in the next iteration. The cost is a function, so
        they keep the cost they have: no call is spent on them, and K stays num_samples. The paper's shrinking K is left
        out for the same reason: a constant shape is what a compiled model wants.
    Elites survive within a plan and no further. The paper's shift of elites between decisions is for the caller to ask
    for: `candidates=shift_actions(plan.elites, steps)`, or the best few of them, beside
    `init=shift(plan.proposal, steps, std)`. All other settings, and what is raised, are those of `cem`.
    """
    record = Record(
        "icem",
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
    require(0 <= keep_elites <= 1, "icem", "keep_elites in [0,1]", keep_elites, "give it as a share of the elites")
    num_elites = min(num_elites, num_samples)
    return search(
        record,
        generator,
        elite_refiner("icem", record.box, num_elites=num_elites, momentum=momentum, min_std=min_std),
        num_elites=num_elites,
        noise_beta=noise_beta,
        num_kept=math.ceil(keep_elites * num_elites),
    )
