"""Planners find what they search for, and compute what their papers say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from planning_problems import PLANNERS, SEARCHING, Watched, multimodal, quadratic, seeded, start, targets

from planners import CostFn, cem, gradient, icem, mppi, random_shooting

# Root mean square distance from the minimum, in a box of half-width 1; the start is 0.46 away.
NEAR = {"cem": 0.0075, "icem": 0.018, "mppi": 0.009, "gradient": 0.06}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", SEARCHING)
def test_the_minimum_of_a_20_dim_quadratic_is_found_at_any_scale_of_costs(name: str, scale: float) -> None:
    init, box = start(rows=4)
    for seed in range(4):
        target = targets(4, seed)

        def cost(actions: torch.Tensor, target: torch.Tensor = target) -> torch.Tensor:
            return scale * quadratic(target)(actions)

        plan = SEARCHING[name](cost, init, box, seeded(seed), num_iterations=30)
        away = (plan.actions - target).square().mean((-1, -2)).sqrt()
        assert (away < NEAR[name]).all()
        assert torch.allclose(plan.cost, cost(plan.actions[:, None])[:, 0], rtol=1e-4)


def test_random_shooting_finds_it_too_when_it_goes_on_from_its_own_plans() -> None:
    init, box = start(rows=4, std=0.05)
    target = targets(4, seed=3)
    for seed in range(20):
        plan = random_shooting(quadratic(target), init, box, seeded(seed))
        init = plan.proposal
    assert ((plan.actions - target).square().mean((-1, -2)).sqrt() < 0.05).all()


@pytest.mark.parametrize("name", SEARCHING)
@pytest.mark.parametrize("problem", [quadratic, multimodal])
def test_each_planner_beats_random_shooting_with_no_more_candidates(
    name: str, problem: Callable[[torch.Tensor], CostFn]
) -> None:
    init, box = start(rows=8)
    found, shot = [], []
    for seed in range(3):
        cost = problem(targets(8, seed))
        plan = SEARCHING[name](cost, init, box, seeded(seed), deadline=None)
        # mppi's call for its mean is the one candidate more.
        baseline = random_shooting(cost, init, box, seeded(seed))
        assert plan.diagnostics.candidate_steps <= baseline.diagnostics.candidate_steps + init.mean[..., 0].numel()
        found.append(plan.cost.mean().item())
        shot.append(baseline.cost.mean().item())
    assert np.mean(found) < 0.6 * np.mean(shot)


@pytest.mark.parametrize("name", PLANNERS)
def test_rows_are_independent(name: str) -> None:
    init, box = start(rows=2)
    one, other = targets(2, seed=1), targets(2, seed=1)
    other[1] = -other[1]
    first = PLANNERS[name](quadratic(one), init, box, seeded(0))
    second = PLANNERS[name](quadratic(other), init, box, seeded(0))
    assert torch.equal(first.actions[0], second.actions[0])
    assert not torch.allclose(first.actions[1], second.actions[1], atol=0.1)
    away = (second.actions - other).abs().mean((-1, -2))
    swapped = (second.actions - other.flip(0)).abs().mean((-1, -2))
    assert (away < swapped).all()


def softmax_oracle(costs: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    weights = np.exp(-(costs - costs.min(axis=1, keepdims=True)) / temperature)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [None, 0.3, 5.0])
def test_mppi_is_the_softmax_in_float64(temperature: float | None) -> None:
    init, box = start(rows=3)
    watched = Watched(quadratic(targets(3, seed=2)))
    plan = mppi(watched, init, box, seeded(0), num_iterations=1, temperature=temperature, momentum=0.0, min_std=0.0)
    actions, costs = watched.asked[0].double().numpy(), watched.answered[0].double().numpy()
    better = np.sort(costs, axis=1)[:, : costs.shape[1] // 2]
    chosen = 0.5 * better.std(axis=1, keepdims=True) if temperature is None else np.full((3, 1), temperature)
    weights = softmax_oracle(costs, chosen)
    mean = np.einsum("bk,bkha->bha", weights, actions)
    std = np.sqrt(np.einsum("bk,bkha->bha", weights, (actions - mean[:, None]) ** 2))
    np.testing.assert_allclose(plan.proposal.mean.numpy(), mean, atol=1e-5)
    np.testing.assert_allclose(plan.proposal.std.numpy(), std, atol=1e-5)
    effective = plan.diagnostics.effective_sample_size[0].numpy()
    np.testing.assert_allclose(effective, 1.0 / (weights**2).sum(axis=1), rtol=1e-4)
    assert torch.equal(plan.actions, plan.proposal.mean)


def test_mppi_gives_nothing_to_what_is_not_finite() -> None:
    init, box = start()
    clean = quadratic(targets(1, seed=2))
    broken = torch.rand(300, generator=seeded(5)) < 0.5
    watched = Watched(lambda actions: torch.where(broken, torch.nan, clean(actions)))
    plan = mppi(watched, init, box, seeded(0), num_iterations=1, temperature=1.0, momentum=0.0, select="best")
    actions, costs = watched.asked[0][:, ~broken].double().numpy(), watched.answered[0][:, ~broken].double().numpy()
    mean = np.einsum("bk,bkha->bha", softmax_oracle(costs, np.ones((1, 1))), actions)
    np.testing.assert_allclose(plan.proposal.mean.numpy(), mean, atol=1e-5)


def test_a_colder_mppi_listens_to_fewer() -> None:
    init, box = start()
    cost = quadratic(targets(1, seed=2))
    sizes = [
        mppi(cost, init, box, seeded(0), num_iterations=1, temperature=t).diagnostics.effective_sample_size.item()
        for t in (1e-4, 0.1, 1.0, 1e4)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == pytest.approx(1.0, abs=1e-3)
    assert sizes[-1] == pytest.approx(300.0, rel=1e-3)


def test_mppi_keeps_the_std_if_told_to() -> None:
    init, box = start()
    plan = mppi(quadratic(targets(1, seed=2)), init, box, seeded(0), adapt_std=False)
    assert torch.equal(plan.proposal.std, init.std)


def test_cem_fits_the_elites_with_momentum() -> None:
    init, box = start(rows=2)
    watched = Watched(quadratic(targets(2, seed=2)))
    plan = cem(watched, init, box, seeded(0), num_iterations=1, num_elites=7, momentum=0.25, min_std=0.2)
    for row in range(2):
        index = np.argsort(watched.answered[0][row].numpy(), kind="stable")[:7]
        elites = watched.asked[0][row].double().numpy()[index]
        mean = 0.25 * init.mean[row].double().numpy() + 0.75 * elites.mean(axis=0)
        std = np.maximum(0.25 * 0.5 + 0.75 * elites.std(axis=0), 0.2)
        np.testing.assert_allclose(plan.proposal.mean[row].numpy(), mean, atol=1e-6)
        np.testing.assert_allclose(plan.proposal.std[row].numpy(), std, atol=1e-6)
        assert plan.elites is not None
        np.testing.assert_array_equal(plan.elites[row].double().numpy(), elites)
        spread = plan.diagnostics.elite_spread[0, row].item()
        assert spread == pytest.approx(elites.std(axis=0).mean(), rel=1e-5)


def test_icem_elites_survive_at_no_cost() -> None:
    init, box = start(rows=2)
    cost = multimodal(targets(2, seed=2))
    plan = icem(cost, init, box, seeded(0), keep_elites=1.0, min_std=0.5)
    assert plan.elites is not None
    values = cost(plan.elites)
    assert torch.equal(values[:, 0], plan.cost)
    assert (values.diff(dim=1) >= 0).all()
    forgetful = icem(cost, init, box, seeded(0), keep_elites=0.0, min_std=0.5)
    assert forgetful.elites is not None
    assert (cost(forgetful.elites).mean(dim=1) > values.mean(dim=1)).all()
    assert plan.diagnostics.candidate_steps == forgetful.diagnostics.candidate_steps == 2 * 300 * 5 * 10


def test_gradient_descends_to_the_bound_and_stays_there() -> None:
    init, box = start()
    plan = gradient(quadratic(torch.full((1, 5, 4), 3.0)), init, box, seeded(0))
    assert torch.equal(plan.actions, torch.ones(1, 5, 4))


def test_gradient_survives_a_slope_that_is_not_a_number() -> None:
    init, box = start()
    smooth = quadratic(targets(1, seed=2))
    # The norm's square root has no slope at 0, where the first start is.
    watched = Watched(lambda actions: smooth(actions) + 0.0 * actions.square().sum((-1, -2)).sqrt())
    plan = gradient(watched, init, box, seeded(0))
    assert all(actions.isfinite().all() for actions in watched.asked)
    assert torch.equal(watched.asked[-1][:, 0], init.mean)
    assert plan.cost < 0.5


def test_gradient_leaves_the_model_alone() -> None:
    init, box = start(dims=4)
    model = torch.nn.Linear(4, 1)
    gradient(lambda actions: model(actions).square().sum((-1, -2)), init, box, seeded(0))
    assert model.weight.grad is None


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradient_works_where_gradients_are_off(context: Callable[[], torch.no_grad]) -> None:
    target = targets(1, seed=2)
    init, box = start()
    outside = gradient(quadratic(target), init, box, seeded(0))
    with context():
        init, box = start()
        inside = gradient(quadratic(target), init, box, seeded(0))
    assert torch.equal(inside.actions, outside.actions)
