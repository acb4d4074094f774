"""mppi among penalties: what is punished is left out of the temperature, as if its cost were not finite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from planning_problems import multimodal, quadratic, seeded, start, targets
from torch import Tensor

from planners import CostFn, Plan, mppi
from planners.mppi import CLIFF, FEW

COUNT = 300


def punished(cost: CostFn, share: float, penalty: Callable[[Tensor], Tensor]) -> CostFn:
    """The cost with a penalty for so many candidates of each row, drawn by lot; not for the mean, alone in the end."""
    lottery = seeded(7)

    def unfair(actions: Tensor) -> Tensor:
        values = cost(actions)
        lots = torch.rand(values.shape, generator=lottery).argsort(dim=1)
        return torch.where(lots < int(share * values.shape[1] + 1e-6), penalty(values), values)

    return unfair


def effective(plan: Plan) -> Tensor:
    return plan.diagnostics.effective_sample_size


@pytest.mark.parametrize("problem", [quadratic, multimodal])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize(
    "penalty",
    [lambda v: v * 0.0 + 1e30, lambda v: v * 0.0 + 1e6, lambda v: v + 1e6, lambda v: v + 1e6 * (1.0 + v)],
    ids=["1e30", "1e6", "+1e6", "+1e6 and more"],
)
def test_a_punished_candidate_is_as_good_as_one_that_failed(
    penalty: Callable[[Tensor], Tensor], share: float, problem: Callable[[Tensor], CostFn]
) -> None:
    init, box = start(rows=2)
    cost = problem(targets(2, seed=3))
    plan = mppi(punished(cost, share, penalty), init, box, seeded(0))
    failed = mppi(punished(cost, share, lambda values: values * torch.nan), init, box, seeded(0))
    assert torch.equal(plan.actions, failed.actions)
    assert torch.equal(plan.cost, failed.cost)
    assert torch.equal(plan.proposal.std, failed.proposal.std)
    assert torch.equal(effective(plan), effective(failed))
    assert (effective(plan) < 0.3 * (1.0 - share) * COUNT).all() or share > 0.95


@pytest.mark.parametrize("penalty", [1e30, 1e6])
@pytest.mark.parametrize(("share", "near"), [(0.6, 0.03), (0.9, 0.045)])
def test_the_minimum_is_found_although_most_are_punished(share: float, near: float, penalty: float) -> None:
    init, box = start(rows=4)
    for seed in range(3):
        target = targets(4, seed)
        cost = punished(quadratic(target), share, lambda values: values + penalty)
        plan = mppi(cost, init, box, seeded(seed), num_iterations=30)
        assert (plan.actions - target).square().mean((-1, -2)).sqrt().max() < near


def first_iteration(costs: list[float]) -> float:
    """The effective sample size of one iteration in which candidates cost this, by the planner."""
    init, box = start()
    values = torch.tensor([costs])
    plan = mppi(lambda a: values[:, : a.shape[1]], init, box, seeded(0), num_samples=len(costs), num_iterations=1)
    return float(effective(plan))


def by_hand(costs: list[float], fair: int) -> float:
    """The same in float64, with the temperature taken from the better half of the `fair` best."""
    values = np.sort(np.array(costs, dtype=np.float32).astype(np.float64))
    weights = np.exp(-(values - values[0]) / (0.5 * values[: (fair + 1) // 2].std()))
    return float(weights.sum() ** 2 / (weights**2).sum())


EVEN = [1.0 + 0.1 * k for k in range(20)]
TIES = [1.0 + k * 2.0**-23 for k in range(8)]


@pytest.mark.parametrize(
    ("costs", "fair"),
    [
        (EVEN, 20),
        (EVEN + [15.0] * 30, 50),  # of the size of the costs' own range: nobody can tell
        (EVEN + [1.0 + 0.9 * CLIFF * 1.9] * 30, 50),
        (EVEN + [1.0 + 1.1 * CLIFF * 1.9] * 30, 20),
        (EVEN + [1e6] * 30 + [1e30] * 30, 20),  # behind the first cliff there may be others
        (EVEN[:FEW] + [1e6] * 30, FEW),
        (EVEN[: FEW - 1] + [1e6] * 30, FEW - 1 + 30),  # too few to tell
        (TIES + EVEN[1:], 27),  # a range of rounding only is none
        ([1.0] * 8 + EVEN[1:], 27),
        ([10.0 ** (0.2 * k) for k in range(30)], 30),  # any range, if nothing interrupts it
    ],
)
def test_a_cliff_is_where_it_is_said_to_be(costs: list[float], fair: int) -> None:
    assert first_iteration(costs) == pytest.approx(by_hand(costs, fair), rel=1e-3)
    shuffled = [costs[k] for k in torch.randperm(len(costs), generator=seeded(1)).tolist()]
    assert first_iteration(shuffled) == pytest.approx(by_hand(costs, fair), rel=1e-3)
    assert first_iteration([1e-3 * cost for cost in costs]) == pytest.approx(by_hand(costs, fair), rel=1e-3)
