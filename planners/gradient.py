"""Gradient descent through the cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from planners.errors import require
from planners.record import Record
from planners.sampling import Ranked, draw, draw_noise, noise_filter
from planners.types import ActionBox, CostFn, Plan, Proposal


def gradient(
    cost: CostFn,
    init: Proposal,
    box: ActionBox,
    generator: torch.Generator,
    *,
    num_samples: int = 16,
    num_iterations: int = 30,
    learning_rate: float = 0.2,
    noise_beta: float = 0.0,
    candidates: Tensor | None = None,
    deadline: float | None = None,
) -> Plan:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) from several starts at once, projected into the box after each step.

    num_samples: K, the starts: the mean, `candidates`, the rest drawn from `init`. num_iterations: calls of the cost,
    with a step between each two. learning_rate: of the first step, in half-widths of the box, at most the 2 from bound
    to bound; it falls to 0 along a cosine. All other settings, and what is raised, are those of `cem`.
    Returns the best sequence seen; the proposal has it for its mean and keeps the std of `init`; the elites are the
    starts where they ended, best first. A start whose cost or gradient is not finite gets no slope there.
    The cost must be differentiable, and what it computes with must not come from torch.inference_mode, which autograd
    cannot save. Gradients of a model's parameters are not touched.
    """
    record = Record(
        "gradient",
        cost,
        init,
        box,
        generator,
        num_samples=num_samples,
        num_iterations=num_iterations,
        candidates=candidates,
        select="best",
        deadline=deadline,
    )
    legal = 0 < learning_rate <= 2
    require(legal, "gradient", "learning_rate in (0,2]", learning_rate, "give it in half-widths of the box")
    # Plans are often made under no_grad or inference_mode, which must not reach the descent.
    with torch.inference_mode(False), torch.enable_grad():
        start = Proposal(record.start.mean.clone(), record.start.std.clone())
        noise = draw_noise(start.mean, num_samples, generator, noise_filter("gradient", noise_beta, start.mean))
        pools = _descend(record, draw(start, record.box, noise, candidates), num_iterations, learning_rate)
    return record.finish(Proposal(record.best()[0], start.std), pools, num_samples)


def _descend(record: Record, actions: Tensor, num_iterations: int, learning_rate: float) -> list[Ranked]:
    """Every iteration but the last of all takes a step; where the starts were in each of them."""
    box = record.box
    half = box.half_width
    # Adam moves every coordinate by about its rate, so coordinates are half-widths: no dimension is slow or wild.
    unit = torch.where(half > 0, (actions - box.centre) / half, 0.0).clamp(-1.0, 1.0)
    optimizer = torch.optim.Adam([unit], lr=learning_rate)
    pools: list[Ranked] = []
    while record.another():
        actions = actions.detach().requires_grad_()
        values = record.evaluate(actions)
        pools.append(record.rank(actions.detach(), values.detach()))
        record.close_iteration(actions.detach().std(dim=1, correction=0))
        if len(pools) == num_iterations:
            break
        slope = _slope(values, actions)
        usable = torch.isfinite(values.detach()) & torch.isfinite(slope).all(dim=(2, 3))
        unit.grad = torch.where(usable.unsqueeze(-1).unsqueeze(-1), slope * half, 0.0)
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * learning_rate * (1.0 + math.cos(math.pi * (len(pools) - 1) / num_iterations))
        optimizer.step()
        with torch.no_grad():
            unit.clamp_(-1.0, 1.0)
            actions = box.clamp(torch.addcmul(box.centre, half, unit))
    return pools


def _slope(values: Tensor, actions: Tensor) -> Tensor:
    """d cost / d actions [B,K,H,A]. Raises PlanningError if the cost does not depend on the actions differentiably."""
    how = "do not detach, and do not compute under no_grad"
    require(values.requires_grad, "gradient", "a differentiable cost", "one without a graph", how)
    (slope,) = torch.autograd.grad(values.sum(), actions, allow_unused=True)
    require(slope is not None, "gradient", "a cost that depends on the actions", "one that does not", how)
    assert isinstance(slope, Tensor)
    return slope
