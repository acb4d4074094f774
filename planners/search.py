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

    proposal: the next distribution. spread: std [B,H,A] of those that formed it. elites: [B,E,H,A], best first, and
    their costs [B,E] (+inf: not one), where the planner has them. weights: [B,K], those of the candidates, if any.
    """

    proposal: Proposal
    spread: Tensor
    elites: tuple[Tensor, Tensor] | None = None
    weights: Tensor | None = None


Refine = Callable[[Proposal, Ranked], Refined]


@torch.no_grad()
def search(
    record: Record,
    generator: torch.Generator,
    refine: Refine,
    *,
    num_elites: int,
    noise_beta: float,
    num_kept: int = 0,
) -> Plan:
    """Run the iterations. num_kept elites of an iteration compete in the next with the cost they have already.

    The best num_elites of the last iteration in which a cost was finite are those of the plan.
    """
    proposal = record.start
    colour = noise_filter(record.planner, noise_beta, proposal.mean)
    pools: list[Ranked] = []
    elites: tuple[Tensor, Tensor] | None = None
    while record.another():
        noise = draw_noise(proposal.mean, record.num_samples, generator, colour)
        actions = draw(proposal, record.box, noise, None if pools else record.candidates)
        ranked = record.rank(actions, record.evaluate(actions))
        if num_kept > 0 and elites is not None:
            kept, kept_cost = (part[:, :num_kept] for part in elites)
            ranked = rank_finite(torch.cat((actions, kept), dim=1), torch.cat((ranked.cost, kept_cost), dim=1))
        pools.append(ranked)
        refined = refine(proposal, ranked)
        proposal, elites = refined.proposal, refined.elites
        record.close_iteration(refined.spread, refined.weights)
    return record.finish(proposal, pools, num_elites)


def even_weights(elite_cost: Tensor, dtype: torch.dtype) -> Tensor:
    """Equal weights [B,E] over the elites that are finite, summing to 1; all 0 in a row without one."""
    finite = is_finite(elite_cost)
    return finite.to(dtype) / finite.sum(dim=1, keepdim=True).clamp(min=1)
