"""Names, seeds, candidates, shifts, messages: what callers of any planner rely on."""

from __future__ import annotations

import dataclasses
import inspect
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from planning_problems import PLANNERS, SAMPLING, Watched, quadratic, seeded, start, targets
from torch import Tensor

import planners
from planners import (
    ActionBox,
    PlanningError,
    Proposal,
    cem,
    gradient,
    icem,
    mppi,
    random_shooting,
    shift,
    shift_actions,
)

NAMES = pytest.mark.parametrize("name", PLANNERS)
SAMPLERS = pytest.mark.parametrize("name", SAMPLING)


@NAMES
def test_the_seed_alone_fixes_the_plan_and_global_randomness_is_left_alone(name: str) -> None:
    init, box = start(rows=2)
    cost = quadratic(targets(2, seed=1))
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = PLANNERS[name](cost, init, box, seeded(5))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])
    torch.manual_seed(2)
    second = PLANNERS[name](cost, init, box, seeded(5))
    other = PLANNERS[name](cost, init, box, seeded(6))
    assert torch.equal(first.actions, second.actions)
    assert torch.equal(first.cost, second.cost)
    assert torch.equal(first.proposal.mean, second.proposal.mean)
    assert torch.equal(first.proposal.std, second.proposal.std)
    assert first.elites is not None
    assert second.elites is not None
    assert torch.equal(first.elites, second.elites)
    assert not torch.equal(first.actions, other.actions)


@NAMES
def test_everything_needed_has_a_public_name_and_a_default(name: str) -> None:
    box = planners.ActionBox(-torch.ones(4), torch.ones(4))
    init = planners.Proposal(torch.zeros(2, 5, 4), torch.full((2, 5, 4), 0.5))
    plan = getattr(planners, name)(quadratic(targets(2, seed=1)), init, box, seeded(0))
    assert isinstance(plan, planners.Plan)
    assert plan.actions.shape == (2, 5, 4)
    assert issubclass(planners.PlanningError, Exception)
    first, *settings = list(inspect.signature(getattr(planners, name)).parameters.values())[3:]
    assert first.name == "generator"
    assert all(each.kind is each.KEYWORD_ONLY and each.default is not each.empty for each in settings)


@NAMES
def test_what_is_given_is_not_changed(name: str) -> None:
    init, box = start(rows=2)
    candidates = targets(2, seed=4)[:, None]
    kept = [tensor.clone() for tensor in (init.mean, init.std, box.low, box.high, candidates)]
    PLANNERS[name](quadratic(targets(2, seed=1)), init, box, seeded(0), candidates=candidates)
    for tensor, copy in zip((init.mean, init.std, box.low, box.high, candidates), kept, strict=True):
        assert torch.equal(tensor, copy)


@NAMES
def test_candidates_take_the_place_of_samples(name: str) -> None:
    init, box = start(rows=2)
    target = targets(2, seed=1)
    given = torch.stack((torch.zeros_like(target), target, torch.full_like(target, 9.0)), dim=1)
    watched = Watched(quadratic(target))
    plan = PLANNERS[name](watched, init, box, seeded(0), num_samples=20, candidates=given)
    assert {actions.shape[1] for actions in watched.asked} <= {20, 1}
    assert torch.equal(watched.asked[0][:, 0], init.mean)
    assert torch.equal(watched.asked[0][:, 1:4], box.clamp(given))
    assert not torch.equal(watched.asked[1][:, 3], watched.asked[0][:, 3])
    assert (plan.diagnostics.cost_per_iteration[0] == 0).all()
    if name != "mppi":
        assert torch.equal(plan.actions, target)


@SAMPLERS
def test_the_first_sample_is_the_mean(name: str) -> None:
    init, box = start(rows=2)
    outside = Proposal(init.mean + 7.0, init.std)
    watched = Watched(quadratic(targets(2, seed=1)))
    plan = SAMPLING[name](watched, outside, box, seeded(0), num_iterations=2, select="mean")
    assert torch.equal(watched.asked[0][:, 0], torch.ones(2, 5, 4))
    assert watched.asked[2].shape[1] == 1
    assert torch.equal(watched.asked[2][:, 0], plan.actions)
    assert torch.equal(watched.answered[2][:, 0], plan.cost)
    assert plan.diagnostics.model_calls == 3


def test_a_mean_that_cannot_be_evaluated_gives_way_to_the_best() -> None:
    init, box = start(rows=2)
    cost = quadratic(targets(2, seed=1))
    lame = Watched(lambda a: cost(a) if a.shape[1] > 1 else cost(a) * torch.tensor([[torch.nan], [1.0]]))
    plan = mppi(lame, init, box, seeded(0))
    assert torch.equal(plan.cost[0], plan.diagnostics.cost_per_iteration[-1, 0])
    assert torch.equal(cost(plan.actions[:, None])[0, 0], plan.cost[0])
    assert torch.equal(plan.actions[1], plan.proposal.mean[1])


@SAMPLERS
@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_coloured_noise_is_an_option_of_every_sampler(name: str, beta: float) -> None:
    init, box = start(horizon=8, std=0.1)
    watched = Watched(quadratic(torch.zeros(1, 8, 4)))
    SAMPLING[name](watched, init, box, seeded(0), num_iterations=1, noise_beta=beta)
    noise = watched.asked[0][:, 1:]
    neighbours = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.square().mean()
    assert neighbours > 0.4 if beta else neighbours.abs() < 0.05


def test_random_shooting_again_is_predictive_sampling() -> None:
    init, box = start(std=0.2)
    cost = quadratic(targets(1, seed=1))
    first = random_shooting(cost, init, box, seeded(0))
    assert torch.equal(first.proposal.mean, first.actions)
    assert torch.equal(first.proposal.std, init.std)
    assert random_shooting(cost, first.proposal, box, seeded(1)).cost < 0.8 * first.cost


def test_a_shifted_start_is_worth_iterations() -> None:
    init, box = start(rows=8)
    target = targets(8, seed=1)
    before = cem(quadratic(target), init, box, seeded(0))
    later = torch.cat((target[:, 2:], target[:, -1:], target[:, -1:]), dim=1)
    warm = shift(before.proposal, 2, std=0.2)
    assert before.elites is not None
    survivors = shift_actions(before.elites[:, :5], 2)
    shifted = cem(quadratic(later), warm, box, seeded(1), num_iterations=2, candidates=survivors)
    cold = cem(quadratic(later), init, box, seeded(1), num_iterations=2)
    assert shifted.cost.mean() < 0.2 * cold.cost.mean()


@pytest.mark.parametrize("few", [5, 30])
def test_elites_reach_the_next_decision_only_as_candidates(few: int) -> None:
    init, box = start(rows=2)
    cost = quadratic(targets(2, seed=1))
    before = icem(cost, init, box, seeded(0))
    assert before.elites is not None
    warm, survivors = shift(before.proposal, 1, std=0.2), shift_actions(before.elites[:, :few], 1)
    alone, together = Watched(cost), Watched(cost)
    icem(alone, warm, box, seeded(1), num_iterations=1)
    icem(together, warm, box, seeded(1), num_iterations=1, candidates=survivors)
    assert torch.equal(together.asked[0][:, 1 : 1 + few], survivors)
    for elite in survivors.unbind(dim=1):
        assert not (alone.asked[0] == elite[:, None]).all((-1, -2)).any()
    assert torch.equal(alone.asked[0][:, 1 + few :], together.asked[0][:, 1 + few :])


def lines(name: str, error: pytest.ExceptionInfo[PlanningError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{name}: expected ")
    assert ", got " in message
    assert "; " in message
    return message


@NAMES
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"num_samples": 0}, "num_samples >= 1, got 0"),
        ({"num_iterations": 0}, "num_iterations >= 1, got 0"),
        ({"deadline": -1.0}, "a deadline >= 0 [s], or None, got -1.0"),
        ({"noise_beta": -1.0}, "noise_beta in [0,10], got -1.0"),
        ({"noise_beta": 100.0}, "noise_beta in [0,10], got 100.0"),
        ({"candidates": torch.zeros(2, 3, 5, 4), "num_samples": 3}, "at most num_samples - 1 = 2 candidates, got 3"),
        ({"candidates": torch.zeros(2, 3, 5, 3)}, "candidates [B,C,H,A] = [2, C, 5, 4] like init, got float32 [2, 3,"),
        ({"candidates": torch.full((2, 1, 5, 4), torch.nan)}, "candidates that are numbers, got NaN"),
    ],
)
def test_a_wrong_setting_is_named(name: str, setting: dict[str, Any], expected: str) -> None:
    init, box = start(rows=2)
    with pytest.raises(PlanningError) as error:
        PLANNERS[name](quadratic(targets(2, seed=1)), init, box, seeded(0), **setting)
    assert expected in lines(name, error)


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("cem", {"num_elites": 0}, "num_elites >= 1"),
        ("cem", {"momentum": 1.0}, "momentum in [0,1)"),
        ("cem", {"min_std": -0.1}, "min_std in [0,1]"),
        ("icem", {"min_std": 1e39}, "min_std in [0,1]"),
        ("cem", {"select": "worst"}, 'select "best" or "mean"'),
        ("icem", {"keep_elites": 1.1}, "keep_elites in [0,1]"),
        ("mppi", {"temperature": 0.0}, "a temperature > 0, or None"),
        ("mppi", {"temperature": math.nan}, "a temperature > 0, or None"),
        ("mppi", {"relative_temperature": 0.0}, "a relative_temperature > 0"),
        ("mppi", {"momentum": -0.1}, "momentum in [0,1)"),
        ("mppi", {"min_std": -0.1}, "min_std in [0,1]"),
        ("mppi", {"min_std": math.inf}, "min_std in [0,1]"),
        ("mppi", {"num_elites": 0}, "num_elites >= 1"),
        ("random_shooting", {"num_elites": 0}, "num_elites >= 1"),
        ("gradient", {"learning_rate": 0.0}, "learning_rate in (0,2]"),
        ("gradient", {"learning_rate": 1e39}, "learning_rate in (0,2]"),
    ],
)
def test_a_wrong_setting_of_one_planner_is_named(name: str, setting: dict[str, Any], expected: str) -> None:
    init, box = start(rows=2)
    with pytest.raises(PlanningError) as error:
        PLANNERS[name](quadratic(targets(2, seed=1)), init, box, seeded(0), **setting)
    assert f"expected {expected}, got " in lines(name, error)


@NAMES
def test_a_start_that_is_not_finite_is_refused(name: str) -> None:
    init, box = start(rows=2)
    broken = init.mean.clone()
    broken[1, 2, 3] = torch.nan
    with pytest.raises(PlanningError) as error:
        PLANNERS[name](quadratic(targets(2, seed=1)), dataclasses.replace(init, mean=broken), box, seeded(0))
    assert "a finite mean in init" in lines(name, error)
    with pytest.raises(PlanningError) as error:
        PLANNERS[name](quadratic(targets(2, seed=1)), dataclasses.replace(init, std=-init.std), box, seeded(0))
    assert "a finite std >= 0 in init" in lines(name, error)


@NAMES
@pytest.mark.parametrize("wrong", [lambda a: a.sum(), lambda a: a.sum((-1, -2)).long(), lambda a: [1.0]])
def test_a_cost_of_another_shape_is_refused(name: str, wrong: Any) -> None:
    init, box = start(rows=2)
    with pytest.raises(PlanningError) as error:
        PLANNERS[name](wrong, init, box, seeded(0), num_samples=8)
    assert "a floating point cost [B,K] = [2, 8] on cpu" in lines(name, error)


@NAMES
def test_a_box_of_other_dims_is_refused(name: str) -> None:
    init, _ = start(rows=2)
    with pytest.raises(PlanningError) as error:
        PLANNERS[name](quadratic(targets(2, seed=1)), init, ActionBox(-torch.ones(3), torch.ones(3)), seeded(0))
    assert "one pair of bounds for each action dim, got 3 bounds for 4 dims" in lines(name, error)


def detached(actions: Tensor) -> Tensor:
    return actions.detach().sum((-1, -2))


def elsewhere(actions: Tensor) -> Tensor:
    return torch.zeros(actions.shape[:2], requires_grad=True) * 1.0


@pytest.mark.parametrize(("cost", "expected"), [(detached, "a differentiable cost"), (elsewhere, "depends on the")])
def test_gradient_says_when_there_is_none(cost: Any, expected: str) -> None:
    init, box = start()
    with pytest.raises(PlanningError) as error:
        gradient(cost, init, box, seeded(0))
    assert expected in lines("gradient", error)
