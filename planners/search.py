"""The loop all sampling planners share: draw, evaluate, rank, refine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from planners.record import Record
from planners.sampling import Ranked, draw, draw_noise, is_finite, noise_filter, rank_finite
from planners.types import Plan, Proposal


@dataclass(frozen=True)
class Refined:
    """What a planner makes of ranked candidates.

    proposal: the next distribution. elites: [B,E,H,A], best first, with costs elite_cost [B,E] (+inf: not one).
    spread: std [B,H,A] of those that formed it. effective: [B] effective sample size, or None.
    """

    proposal: Proposal
    elites: Tensor
    elite_cost: Tensor
    spread: Tensor
    effective: Tensor | None = None


Refine = Callable[[Proposal, Ranked], Refined]


@torch.no_grad()
def search(
    record: Record,
    generator: torch.Generator,
    refine: Refine,
    *,
    num_samples: int,
    noise_beta: float,
    candidates: Tensor | None,
    num_kept: int = 0,
) -> Plan:
    """Run the iterations. num_kept elites of an iteration compete in the next with the cost they have already."""
    proposal = record.start
    colour = noise_filter(record.planner, noise_beta, proposal.mean)
    elites: Tensor | None = None
    elite_cost: Tensor | None = None
    while record.another():
        noise = draw_noise(proposal.mean, num_samples, generator, colour)
        actions = draw(proposal, record.box, noise, candidates if elites is None else None)
        ranked = fresh = record.rank(actions, record.evaluate(actions))
        if num_kept > 0 and elites is not None and elite_cost is not None:
            pool = torch.cat((actions, elites[:, :num_kept]), dim=1)
            ranked = rank_finite(pool, torch.cat((fresh.cost, elite_cost[:, :num_kept]), dim=1))
        refined = refine(proposal, ranked)
        elite_cost = refined.elite_cost
        alive = is_finite(elite_cost[:, 0]).view(-1, 1, 1, 1)
        elites = refined.elites if elites is None else torch.where(alive, refined.elites, elites)
        proposal = refined.proposal
        record.close_iteration(fresh, refined.spread.mean(dim=(1, 2)), refined.effective)
    return record.finish(proposal, elites)


def even_weights(elite_cost: Tensor, dtype: torch.dtype) -> Tensor:
    """Equal weights [B,E] over the elites that are finite, summing to 1; all 0 in a row without one."""
    finite = is_finite(elite_cost)
    return finite.to(dtype) / finite.sum(dim=1, keepdim=True).clamp(min=1)
