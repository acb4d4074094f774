"""CEM and MPPI against two public libraries, cma and pytorch-mppi, on one problem whose answer is known."""

from __future__ import annotations

from functools import cache

import cma
import numpy as np
import pytest
import torch
from planning_problems import seeded
from pytorch_mppi import MPPI
from torch import Tensor

from planners import ActionBox, Planner, Proposal, cem, mppi

H, A, DT, EFFORT = 6, 2, 0.5, 1.0
START = torch.tensor([0.6, -0.8, 0.0, 0.0], dtype=torch.float64)  # x, y [m] and their speeds
GOAL = torch.tensor([-0.2, 0.3, 0.0, 0.0], dtype=torch.float64)
BOUND = torch.ones(A, dtype=torch.float64)
BOX = ActionBox(-BOUND, BOUND)


def dynamics(state: Tensor, action: Tensor) -> Tensor:
    """A point that is pushed: [...,4], [...,A] -> [...,4]."""
    return torch.cat((state[..., :2] + DT * state[..., 2:], state[..., 2:] + DT * action), dim=-1)


def running_cost(state: Tensor, action: Tensor) -> Tensor:
    return (state - GOAL).square().sum(-1) + EFFORT * action.square().sum(-1)


def cost(actions: Tensor) -> Tensor:
    """[...,H,A] -> [...], a quadratic function of the actions."""
    state, total = START.expand(*actions.shape[:-2], 4), torch.zeros(actions.shape[:-2], dtype=actions.dtype)
    for action in actions.unbind(-2):
        state = dynamics(state, action)
        total = total + running_cost(state, action)
    return total


@cache
def exact() -> Tensor:
    """Where the gradient is zero, [H,A]; inside the box, so that the bounds do not matter."""

    def flat(actions: Tensor) -> Tensor:
        return cost(actions.view(H, A))

    zero = torch.zeros(H * A, dtype=torch.float64)
    curvature, slope = torch.autograd.functional.hessian(flat, zero), torch.autograd.functional.jacobian(flat, zero)
    best = -torch.linalg.solve(curvature, slope).view(H, A)
    assert best.abs().max() < 0.7
    return best


def gap(actions: Tensor) -> float:
    """What is left of the way from doing nothing down to the minimum: 1 at zero actions, 0 at the minimum."""
    lowest, nothing = cost(exact()), cost(torch.zeros(H, A, dtype=torch.float64))
    return ((cost(actions) - lowest) / (nothing - lowest)).item()


def apart(one: Tensor, other: Tensor) -> float:
    return (one - other).square().mean().sqrt().item()


def proposal(std: float) -> Proposal:
    mean = torch.zeros(1, H, A, dtype=torch.float64)
    return Proposal(mean, torch.full_like(mean, std))


def by_cma() -> Tensor:
    options = {"bounds": [-1, 1], "seed": 1, "popsize": 64, "maxiter": 100, "verbose": -9}
    search = cma.CMAEvolutionStrategy(np.zeros(H * A), 0.5, options)
    while not search.stop():
        asked = np.stack(search.ask())
        search.tell(list(asked), cost(torch.from_numpy(asked).view(-1, H, A)).tolist())
    return torch.from_numpy(search.result.xbest).view(H, A)


def reference_mppi(std: float, temperature: float, samples: int) -> MPPI:
    covariance = torch.eye(A, dtype=torch.float64) * std**2
    nominal = torch.zeros(H, A, dtype=torch.float64)
    settings = {"num_samples": samples, "horizon": H, "lambda_": temperature, "u_min": -BOUND, "u_max": BOUND}
    return MPPI(dynamics, running_cost, 4, covariance, U_init=nominal, **settings)


@pytest.mark.parametrize("planner", [cem, mppi])
def test_cem_and_mppi_land_where_cma_lands(planner: Planner) -> None:
    reference = by_cma()
    assert gap(reference) < 1e-5
    plan = planner(cost, proposal(0.5), BOX, seeded(0), num_iterations=30)  # type: ignore[call-arg]
    assert gap(plan.actions[0]) < 1e-3
    assert apart(plan.actions[0], reference) < 0.02


@pytest.mark.parametrize("planner", [cem, mppi])
def test_cem_and_mppi_land_where_pytorch_mppi_lands(planner: Planner) -> None:
    # Cold, so that the control cost of that library, in units of its temperature, hardly moves its optimum.
    reference = reference_mppi(std=0.2, temperature=0.002, samples=1000)
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(0)  # it draws from the global generator
        for _ in range(40):
            reference.command(START, shift_nominal_trajectory=False)
            found.append(reference.U)
    landed = torch.stack(found[20:]).mean(dim=0)  # with a fixed std it wavers to the end
    plan = planner(cost, proposal(0.5), BOX, seeded(0), num_iterations=30)  # type: ignore[call-arg]
    assert gap(plan.actions[0]) < gap(landed) < 0.01
    assert apart(plan.actions[0], landed) < 0.05


def test_an_iteration_of_mppi_is_one_of_pytorch_mppi() -> None:
    """On the candidates that library drew, and with its control cost added, which ours leaves to the cost function."""
    std, temperature, samples = 0.3, 0.5, 200
    reference = reference_mppi(std, temperature, samples)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(4):
            nominal = reference.U.clone()
            reference.command(START, shift_nominal_trajectory=False)

            def total(actions: Tensor, nominal: Tensor = nominal) -> Tensor:
                control = temperature * (nominal * (actions - nominal)).sum((-1, -2)) / std**2
                # The first candidate is the mean, which the library does not try: no weight for it.
                first = torch.arange(actions.shape[1]) == 0
                return torch.where(first, torch.inf, cost(actions) + control)

            start = Proposal(nominal[None], torch.full_like(nominal, std)[None])
            candidates = reference.perturbed_action[None]
            settings = {"temperature": temperature, "momentum": 0.0, "select": "best"}
            size = {"num_samples": samples + 1, "num_iterations": 1}
            plan = mppi(total, start, BOX, seeded(0), candidates=candidates, **settings, **size)  # type: ignore[arg-type]
            torch.testing.assert_close(plan.proposal.mean[0], reference.U, rtol=0, atol=1e-12)
            effective = 1.0 / reference.omega.square().sum()
            torch.testing.assert_close(plan.diagnostics.effective_sample_size[0, 0], effective)
    assert apart(reference.U, torch.zeros_like(reference.U)) > 0.05
