"""The deadline, and what a plan says about itself."""

from __future__ import annotations

import time

import pytest
import torch
from planning_problems import PLANNERS, SAMPLING, Watched, quadratic, seeded, start, targets

from planners import gradient

NAMES = pytest.mark.parametrize("name", PLANNERS)
SAMPLERS = pytest.mark.parametrize("name", SAMPLING)


@NAMES
def test_no_time_at_all_still_gives_one_iteration_and_says_so(name: str) -> None:
    init, box = start(rows=2)
    plan = PLANNERS[name](quadratic(targets(2, seed=1)), init, box, seeded(0), deadline=0.0)
    report = plan.diagnostics
    assert report.cut
    assert len(report.cost_per_iteration) == 1
    assert report.model_calls == (2 if name == "mppi" else 1)
    assert plan.cost.isfinite().all()


@SAMPLERS
def test_a_plan_that_was_cut_is_the_best_of_the_iterations_that_ran(name: str) -> None:
    init, box = start(rows=2)
    watched = Watched(quadratic(targets(2, seed=1)))
    plan = SAMPLING[name](watched, init, box, seeded(0), num_iterations=1_000_000, deadline=0.05)
    ran = len(plan.diagnostics.cost_per_iteration)
    assert plan.diagnostics.cut
    assert 1 <= ran < 1_000_000
    shorter = SAMPLING[name](quadratic(targets(2, seed=1)), init, box, seeded(0), num_iterations=ran)
    assert not shorter.diagnostics.cut
    assert torch.equal(plan.actions, shorter.actions)
    assert torch.equal(plan.cost, shorter.cost)


def test_gradient_that_was_cut_returns_the_best_it_saw() -> None:
    init, box = start(rows=2)
    watched = Watched(quadratic(targets(2, seed=1)))
    plan = gradient(watched, init, box, seeded(0), num_iterations=1_000_000, deadline=0.05)
    assert plan.diagnostics.cut
    assert torch.equal(plan.cost, torch.cat(watched.answered, dim=1).amin(dim=1))
    assert torch.equal(quadratic(targets(2, seed=1))(plan.actions[:, None])[:, 0], plan.cost)


@NAMES
def test_a_distant_deadline_changes_nothing(name: str) -> None:
    init, box = start(rows=2)
    cost = quadratic(targets(2, seed=1))
    relaxed = PLANNERS[name](cost, init, box, seeded(0), deadline=1e6)
    assert not relaxed.diagnostics.cut
    assert torch.equal(relaxed.actions, PLANNERS[name](cost, init, box, seeded(0)).actions)
    assert not PLANNERS[name](cost, init, box, seeded(0), num_iterations=1, deadline=0.0).diagnostics.cut


@NAMES
def test_diagnostics_have_one_row_per_iteration(name: str) -> None:
    init, box = start(rows=2)
    began = time.perf_counter()
    report = PLANNERS[name](quadratic(targets(2, seed=1)), init, box, seeded(0), num_iterations=4).diagnostics
    elapsed = time.perf_counter() - began
    for field in ("cost_per_iteration", "elite_spread", "finite_share", "effective_sample_size"):
        assert getattr(report, field).shape == (4, 2)
    assert (report.cost_per_iteration.diff(dim=0) <= 0).all()
    assert (report.elite_spread > 0).all()
    assert bool(report.effective_sample_size.isnan().all()) == (name != "mppi")
    assert 0 < report.seconds <= elapsed
