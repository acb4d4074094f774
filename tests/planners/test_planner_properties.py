"""Whatever the box, the sizes and the costs: plans are legal, or the planner says in one line why there is none."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_problems import PLANNERS, Watched, quadratic, seeded, start
from torch import Tensor

from planners import ActionBox, PlanningError, Proposal

BROKEN = [float("nan"), float("inf"), float("-inf")]
NAMES = pytest.mark.parametrize("name", PLANNERS)
property_test = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Proposal, ActionBox]:
    """Any shape, any box (also with locked dims and far from 0), a start that may lie outside of it."""
    dims, horizon, rows = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    low = draw(st.lists(st.floats(-1e4, 1e4), min_size=dims, max_size=dims))
    width = draw(st.lists(st.sampled_from([0.0, 1e-3, 0.1, 1.0, 300.0]), min_size=dims, max_size=dims))
    lower = torch.tensor(low, dtype=dtype)
    box = ActionBox(lower, lower + torch.tensor(width, dtype=dtype))
    scale = draw(st.sampled_from([0.0, 0.5, 10.0]))
    generator = seeded(draw(st.integers(0, 1000)))
    mean = lower + scale * torch.randn(rows, horizon, dims, generator=generator, dtype=dtype)
    return Proposal(mean, torch.full_like(mean, draw(st.sampled_from([0.0, 0.3, 50.0])))), box


def inside(box: ActionBox, actions: Tensor) -> bool:
    return bool(((actions >= box.low) & (actions <= box.high)).all())


def broken_at_random(share: float, value: float, target: Tensor, generator: torch.Generator) -> Watched:
    """A quadratic cost of which `share` is not finite; the first candidate always is, so that a plan exists."""

    def cost(actions: Tensor) -> Tensor:
        values = quadratic(target)(actions)
        mask = torch.rand(values.shape, generator=generator) < share
        mask[:, 0] = False
        return torch.where(mask, value, values)

    return Watched(cost)


@NAMES
@property_test
@given(problems(), st.integers(1, 12), st.floats(0, 0.99), st.sampled_from(BROKEN), st.integers(1, 4))
def test_every_sample_and_output_is_inside_the_box_and_finite(
    name: str, problem: tuple[Proposal, ActionBox], samples: int, share: float, value: float, iterations: int
) -> None:
    init, box = problem
    cost = broken_at_random(share, value, box.clamp(init.mean + 0.1), seeded(7))
    plan = PLANNERS[name](cost, init, box, seeded(1), num_samples=samples, num_iterations=iterations)
    assert all(inside(box, actions) for actions in cost.asked)
    assert inside(box, plan.actions)
    assert inside(box, plan.proposal.mean)
    assert plan.elites is not None
    assert inside(box, plan.elites)
    assert plan.actions.shape == init.mean.shape
    assert plan.actions.dtype == plan.proposal.std.dtype == init.mean.dtype
    assert plan.cost.isfinite().all()
    assert plan.proposal.std.isfinite().all()
    assert (plan.proposal.std >= 0).all()
    report = plan.diagnostics
    assert report.model_calls == len(cost.asked)
    assert report.candidate_steps == sum(actions[..., 0].numel() for actions in cost.asked)
    seen = torch.cat([torch.where(v.isfinite(), v, torch.inf) for v in cost.answered[:iterations]], dim=1)
    assert torch.equal(report.cost_per_iteration[-1], seen.amin(dim=1))
    expected = torch.stack([v.isfinite().to(v.dtype).mean(dim=1) for v in cost.answered[:iterations]])
    assert torch.allclose(report.finite_share, expected)


@NAMES
@property_test
@given(problems(), st.integers(1, 12), st.floats(0, 1), st.integers(1, 3))
def test_ties_at_1e30_in_any_box(
    name: str, problem: tuple[Proposal, ActionBox], samples: int, share: float, iterations: int
) -> None:
    init, box = problem
    target = box.clamp(init.mean + 0.1)
    generator = seeded(7)

    def cost(actions: Tensor) -> Tensor:
        values = quadratic(target)(actions)
        return torch.where(torch.rand(values.shape, generator=generator) < share, 1e30, values)

    watched = Watched(cost)
    plan = PLANNERS[name](watched, init, box, seeded(1), num_samples=samples, num_iterations=iterations)
    assert inside(box, plan.actions)
    assert inside(box, plan.proposal.mean)
    assert plan.proposal.std.isfinite().all()
    assert (plan.diagnostics.finite_share == 1).all()
    seen = torch.cat(watched.answered[:iterations], dim=1)
    assert torch.equal(plan.diagnostics.cost_per_iteration[-1], seen.amin(dim=1))


@NAMES
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.99])
def test_one_rule_for_every_cost_that_is_not_finite(name: str, share: float) -> None:
    """Of 300 candidates up to 99% are broken, among them the start; which way they are broken changes no bit."""
    init, box = start(rows=2)
    plans = []
    for value in BROKEN:
        lottery = seeded(3)

        def cost(actions: Tensor, value: float = value, lottery: torch.Generator = lottery) -> Tensor:
            values = quadratic(torch.full((2, 5, 4), 0.6))(actions)
            broken = torch.rand(values.shape, generator=lottery) < share
            broken[:, 0] = share > 0
            return torch.where(broken, value, values)

        plans.append(PLANNERS[name](Watched(cost), init, box, seeded(0), num_samples=300))
    first = plans[0]
    for plan in plans[1:]:
        assert torch.equal(plan.actions, first.actions)
        assert torch.equal(plan.cost, first.cost)
        assert torch.equal(plan.proposal.std, first.proposal.std)
        assert torch.equal(plan.diagnostics.finite_share, first.diagnostics.finite_share)
    assert torch.allclose(first.diagnostics.finite_share.mean(), torch.tensor(1 - share), atol=0.01)
    if name != "random_shooting":  # the others go on learning from the few that are left
        assert (first.diagnostics.cost_per_iteration[-1] < first.diagnostics.cost_per_iteration[0]).all()


@NAMES
@property_test
@given(problems(), st.integers(2, 12), st.floats(0, 0.99), st.sampled_from(BROKEN))
def test_the_returned_cost_is_that_of_the_returned_actions(
    name: str, problem: tuple[Proposal, ActionBox], samples: int, share: float, value: float
) -> None:
    init, box = problem
    cost = broken_at_random(share, value, box.clamp(init.mean + 0.1), seeded(7))
    plan = PLANNERS[name](cost, init, box, seeded(1), num_samples=samples, num_iterations=3)
    for row in range(len(plan.actions)):
        pairs = [
            (actions[row, k], values[row, k])
            for actions, values in zip(cost.asked, cost.answered, strict=True)
            for k in range(actions.shape[1])
        ]
        assert any(torch.equal(a, plan.actions[row]) and torch.equal(v, plan.cost[row]) for a, v in pairs)


@NAMES
@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("rows", [[1], [0, 2]])
def test_a_row_without_a_finite_cost_is_refused_in_one_line(name: str, value: float, rows: list[int]) -> None:
    init, box = start(rows=3)

    def cost(actions: Tensor) -> Tensor:
        broken = torch.zeros(3, dtype=torch.bool)
        broken[rows] = True
        return torch.where(broken[:, None], value, actions.square().sum((-1, -2)))

    listed = ", ".join(str(row) for row in rows)
    with pytest.raises(PlanningError) as caught:
        PLANNERS[name](cost, init, box, seeded(0), num_iterations=2)
    assert str(caught.value) == (
        f"{name}: expected a finite cost for at least one candidate of each row, got none in row {listed} of 3; "
        "look for NaN or infinity in what the cost computes with"
    )


@pytest.mark.parametrize("name", ["cem", "icem", "mppi"])
def test_a_row_that_breaks_later_keeps_its_best_plan_and_its_distribution(name: str) -> None:
    init, box = start(rows=2)
    calls = 0

    def cost(actions: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        values = quadratic(torch.full((2, 5, 4), 0.3))(actions)
        return torch.where(torch.tensor([[False], [calls > 1]]), torch.nan, values)

    plan = PLANNERS[name](cost, init, box, seeded(0), num_iterations=4, select="best")
    once = PLANNERS[name](quadratic(torch.full((2, 5, 4), 0.3)), init, box, seeded(0), num_iterations=1, select="best")
    assert torch.equal(plan.actions[1], once.actions[1])
    assert torch.equal(plan.cost[1], once.cost[1])
    assert plan.cost[0] < once.cost[0]
    if name != "icem":  # surviving elites still teach it
        assert torch.equal(plan.proposal.mean[1], once.proposal.mean[1])
        assert torch.equal(plan.proposal.std[1], once.proposal.std[1])
        assert plan.elites is not None
        assert once.elites is not None
        assert torch.equal(plan.elites[1], once.elites[1])
    assert plan.diagnostics.elite_spread.isfinite().all()


@NAMES
@pytest.mark.parametrize(("samples", "horizon"), [(1, 1), (1, 5), (2, 1), (300, 1)])
def test_one_sample_one_step_one_elite(name: str, samples: int, horizon: int) -> None:
    init, box = start(rows=2, horizon=horizon)
    elite = {} if name == "gradient" else {"num_elites": 1}
    cost = quadratic(torch.full((2, horizon, 4), 0.3))
    plan = PLANNERS[name](cost, init, box, seeded(0), num_samples=samples, **elite)
    assert (plan.cost <= cost(init.mean[:, None])[:, 0]).all()
    assert plan.proposal.std.isfinite().all()
    assert plan.diagnostics.elite_spread.isfinite().all()


@NAMES
@pytest.mark.parametrize("tie", [0.0, 1e30, -1e30, 3.4e38])
def test_ties_are_legal(name: str, tie: float) -> None:
    init, box = start(rows=2)
    plan = PLANNERS[name](lambda actions: actions.sum((-1, -2)) * 0.0 + tie, init, box, seeded(0))
    assert torch.equal(plan.cost, torch.full((2,), tie))
    assert plan.proposal.mean.isfinite().all()
    assert plan.proposal.std.isfinite().all()


@NAMES
def test_costs_from_one_end_of_the_floats_to_the_other_are_legal(name: str) -> None:
    init, box = start(rows=2)

    def cost(actions: Tensor) -> Tensor:
        return torch.where(actions[..., 0, 0] > 0.25, -3.4e38, 3.4e38) + actions.sum((-1, -2)) * 0.0

    plan = PLANNERS[name](cost, init, box, seeded(0))
    assert (plan.diagnostics.cost_per_iteration[-1] == torch.tensor(-3.4e38)).all()
    assert plan.proposal.mean.isfinite().all()
    assert plan.proposal.std.isfinite().all()
    assert plan.diagnostics.elite_spread.isfinite().all()


@NAMES
@property_test
@given(st.data())
def test_settings_at_the_ends_of_what_is_legal_give_finite_samples(name: str, data: st.DataObject) -> None:
    ends: dict[str, list[float]] = {
        "noise_beta": [0.0, 10.0],
        "min_std": [0.0, 1.0],
        "momentum": [0.0, 1.0 - 1e-12],
        "keep_elites": [0.0, 1.0],
        "temperature": [5e-324, 1e-46, 1e39, 1.7e308],
        "relative_temperature": [5e-324, 1e-46, 1e39, 1.7e308],
        "learning_rate": [5e-324, 2.0],
    }
    known = inspect.signature(PLANNERS[name]).parameters
    chosen = [key for key in ends if key in known and data.draw(st.booleans())]
    given_settings = {key: data.draw(st.sampled_from(ends[key])) for key in chosen}
    init, box = start(rows=2, horizon=data.draw(st.sampled_from([1, 5, 60])))
    wide = data.draw(st.sampled_from([1e-18, 1.0, 9e18]))
    init = Proposal(init.mean, torch.full_like(init.mean, data.draw(st.sampled_from([0.0, 1e-38, 1.0, 3.4e38]))))
    watched = Watched(lambda actions: torch.where(actions[..., 0, 0] > 0.5 * wide, torch.nan, actions.mean((-1, -2))))
    box = ActionBox(box.low * wide, box.high * wide)
    plan = PLANNERS[name](watched, init, box, seeded(0), num_samples=20, num_iterations=4, **given_settings)
    assert all(actions.isfinite().all() for actions in watched.asked)
    assert plan.proposal.mean.isfinite().all()
    assert plan.proposal.std.isfinite().all()
    assert plan.diagnostics.elite_spread.isfinite().all()


@NAMES
def test_huge_penalties_do_not_blur_the_rest(name: str) -> None:
    init, box = start()
    target = torch.full((1, 5, 4), 0.3)

    def cost(actions: Tensor) -> Tensor:
        return torch.where(actions[..., 0, 0] > 0.5, 1e30, quadratic(target)(actions))

    plan = PLANNERS[name](cost, init, box, seeded(0))
    free = PLANNERS[name](quadratic(target), init, box, seeded(0))
    assert plan.cost < 2 * free.cost + 0.05
