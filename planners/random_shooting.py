"""Random shooting, the baseline; with a shifted start, predictive sampling."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from planners.errors import require
from planners.record import Record
from planners.sampling import Ranked, elect, moments
from planners.search import Refined, even_weights, search
from planners.types import ActionBox, CostFn, Plan, Proposal, Select


def random_shooting(
    cost: CostFn,
    init: Proposal,
    box: ActionBox,
    generator: torch.Generator,
    *,
    num_samples: int = 300,
    num_elites: int = 30,
    num_iterations: int = 10,
    noise_beta: float = 0.0,
    candidates: Tensor | None = None,
    select: Select = "best",
    deadline: float | None = None,
) -> Plan:
    """Draw from `init` only, keep the best: num_iterations rounds of num_samples, as many as the other planners get.

    The returned proposal has the best sequence for its mean and the std of `init`, so that planning again from the
    shifted proposal is predictive sampling (Howell et al. 2022, arXiv 2212.00541).
    num_elites: how many are reported, they steer nothing. select: "mean" returns the mean of `init`. All other
    settings, and what is raised, are those of `cem`.
    """
    record = Record(
        "random_shooting",
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
    require(num_elites >= 1, "random_shooting", "num_elites >= 1", num_elites, "one elite is the least")
    refine = partial(_report, num_elites)
    plan = search(record, generator, refine, num_elites=num_elites, noise_beta=noise_beta)
    return replace(plan, proposal=Proposal(plan.actions, plan.proposal.std))


def _report(num_elites: int, proposal: Proposal, ranked: Ranked) -> Refined:
    elites, elite_cost = elect(ranked, num_elites)
    _, std = moments(elites, even_weights(elite_cost, elites.dtype))
    return Refined(proposal, std)
