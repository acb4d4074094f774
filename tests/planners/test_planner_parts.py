"""The types, the ranking, the noise and the shift, by themselves."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_problems import quadratic, seeded

from planners import ActionBox, PlanningError, Proposal, cem, shift, shift_actions
from planners.sampling import draw_noise, elect, noise_filter, rank_finite

INF, NAN = math.inf, math.nan


def test_what_is_not_finite_ranks_last_and_is_never_elected() -> None:
    actions = torch.arange(6.0).view(1, 6, 1, 1)
    cost = torch.tensor([[NAN, 2.0, -INF, 1.0, INF, 2.0]])
    ranked = rank_finite(actions, cost)
    assert ranked.cost.tolist() == [[INF, 2.0, INF, 1.0, INF, 2.0]]
    assert ranked.order[0, :3].tolist() == [3, 1, 5]
    elites, values = elect(ranked, 5)
    assert elites.flatten().tolist() == [3.0, 1.0, 5.0, 3.0, 3.0]
    assert values.tolist() == [[1.0, 2.0, 2.0, INF, INF]]


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("horizon", [64, 63])
def test_the_spectrum_of_the_noise_falls_as_it_should(beta: float, horizon: int) -> None:
    like = torch.zeros(1, horizon, 2)
    noise = draw_noise(like, 1500, seeded(0), noise_filter("cem", beta, like))
    power = torch.fft.rfft(noise, dim=2).abs().square().mean(dim=(0, 1, 3))[1 : horizon // 2]
    frequency = torch.fft.rfftfreq(horizon)[1 : horizon // 2]
    x, y = frequency.log() - frequency.log().mean(), power.log() - power.log().mean()
    assert ((x * y).sum() / x.square().sum()).item() == pytest.approx(-beta, abs=0.05)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.floats(0.0, 10.0), st.integers(1, 9))
def test_noise_has_unit_variance_at_every_step(beta: float, horizon: int) -> None:
    like = torch.zeros(2, horizon, 3, dtype=torch.float64)
    noise = draw_noise(like, 4000, seeded(0), noise_filter("cem", beta, like))
    assert noise.shape == (2, 4000, horizon, 3)
    assert noise.is_contiguous()
    assert noise.std(dim=(0, 1, 3)).sub(1.0).abs().max() < 0.03
    assert noise.mean(dim=(0, 1, 3)).abs().max() < 0.04


def test_rows_and_dims_of_coloured_noise_are_uncorrelated() -> None:
    like = torch.zeros(2, 5, 2)
    noise = draw_noise(like, 20000, seeded(0), noise_filter("cem", 2.0, like))
    assert (noise[0] * noise[1]).mean().abs() < 0.03
    assert (noise[..., 0] * noise[..., 1]).mean().abs() < 0.03


def test_shift_drops_what_was_done_and_repeats_the_last_action() -> None:
    mean = torch.arange(8.0).view(1, 4, 2)
    proposal = Proposal(mean, mean + 10)
    moved = shift(proposal, 2)
    assert moved.mean[0].tolist() == [[4, 5], [6, 7], [6, 7], [6, 7]]
    assert torch.equal(moved.std, moved.mean + 10)
    assert torch.equal(shift(proposal, 0).mean, mean)
    assert shift(proposal, 9).mean[0].tolist() == [[6, 7]] * 4
    assert torch.equal(shift(proposal, 1, std=0.3).std, torch.full_like(mean, 0.3))
    assert shift(proposal, 1, std=torch.tensor([0.1, 0.2])).std[0, 3].tolist() == pytest.approx([0.1, 0.2])
    stacked = torch.stack((mean, -mean), dim=1)
    assert torch.equal(shift_actions(stacked, 2)[:, 1], -moved.mean)
    with pytest.raises(PlanningError, match=r"^shift: expected steps >= 0, got -1; "):
        shift(proposal, -1)
    for std in (1e39, -0.1, NAN):
        with pytest.raises(PlanningError, match=r"^shift: expected a std in \[0,3.403e\+38\], got "):
            shift(proposal, 1, std=std)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (
            torch.zeros(2, 2),
            torch.ones(2, 2),
            "ActionBox.low: expected a floating point [A], got float32 [2, 2] on cpu",
        ),
        (torch.zeros(2).long(), torch.ones(2).long(), "ActionBox.low: expected a floating point [A], got int64 [2]"),
        (torch.zeros(2), torch.ones(3), "ActionBox.high: expected what low is, float32 [2] on cpu, got float32 [3]"),
        (torch.ones(1), -torch.ones(1), "ActionBox: expected finite bounds with low <= high, got [1.0] and [-1.0]"),
        (torch.tensor([NAN]), torch.ones(1), "ActionBox: expected finite bounds with low <= high, got [nan] and [1.0]"),
        (
            torch.zeros(1),
            torch.tensor([INF]),
            "ActionBox: expected finite bounds with low <= high, got [0.0] and [inf]",
        ),
        (
            torch.tensor([-1e30]),
            torch.tensor([1e30]),
            "ActionBox: expected bounds whose squared distance fits float32, got [-1.0000000150474662e+30] and",
        ),
    ],
)
def test_a_wrong_box_is_named(low: torch.Tensor, high: torch.Tensor, message: str) -> None:
    with pytest.raises(PlanningError) as error:
        ActionBox(low, high)
    assert str(error.value).startswith(message)


def test_a_wrong_proposal_is_named() -> None:
    mean = torch.zeros(2, 3, 4)
    with pytest.raises(PlanningError, match=r"^Proposal.mean: expected a floating point \[B,H,A\], got int64 \[2, 3,"):
        Proposal(mean.long(), mean.long())
    with pytest.raises(
        PlanningError, match=r"^Proposal.std: expected what the mean is, float32 \[2, 3, 4\] on cpu, got"
    ):
        Proposal(mean, torch.ones(4))


@settings(deadline=None, derandomize=True)
@given(st.floats(-100, 100), st.floats(1e-3, 10))
def test_a_box_of_another_dtype_is_rounded_inwards(low: float, width: float) -> None:
    box = ActionBox(torch.tensor([low], dtype=torch.float64), torch.tensor([low + width], dtype=torch.float64))
    narrow = box.like(torch.zeros(1, dtype=torch.float32))
    assert narrow.low.dtype == torch.float32
    assert box.low <= narrow.low.double()
    assert narrow.high.double() <= box.high
    assert (narrow.low.double() - box.low).abs() < 1e-4
    mean = torch.full((1, 2, 1), -1e3)
    plan = cem(quadratic(mean), Proposal(mean, torch.ones_like(mean)), box, seeded(0), num_samples=5, num_iterations=2)
    assert plan.actions.dtype == torch.float32
    assert ((plan.actions.double() >= box.low) & (plan.actions.double() <= box.high)).all()


@given(
    st.floats(-100, 100),
    st.one_of(st.just(0.0), st.floats(1e-15, 1e-6)),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_a_box_too_narrow_for_the_dtype_locks_the_dimension(low: float, width: float, dtype: torch.dtype) -> None:
    box = ActionBox(torch.tensor([low], dtype=torch.float64), torch.tensor([low + width], dtype=torch.float64))
    narrow = box.like(torch.zeros(1, dtype=dtype))
    inwards = bool((narrow.low.double() >= box.low) & (narrow.high.double() <= box.high))
    nearest = box.centre.to(dtype)
    assert narrow.low <= narrow.high
    assert inwards or bool((narrow.low == nearest) & (narrow.high == nearest))
    assert not (box.low <= nearest.double() <= box.high) or inwards


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_locked_dimension_is_planned_with_whatever_its_dtype(dtype: torch.dtype) -> None:
    bound = torch.tensor([0.1, 1.0], dtype=torch.float64)
    box = ActionBox(bound * torch.tensor([1.0, -1.0]), bound)
    mean = torch.zeros(1, 3, 2, dtype=dtype)
    plan = cem(quadratic(mean + 0.5), Proposal(mean, torch.ones_like(mean)), box, seeded(0))
    assert torch.equal(plan.actions[..., 0], torch.full((1, 3), 0.1, dtype=dtype))
    assert (plan.actions[..., 1] - 0.5).abs().max() < 0.05
