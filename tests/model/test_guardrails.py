"""Limits on a plan: measured against an oracle that walks the path in small steps, and never overruled when hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from planners import ActionBox, Proposal, cem, gradient
from worldmodel.errors import ConfigError
from worldmodel.guardrails import SLACK, Guardrails

B, K, H = 2, 40, 5


def draw(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """start [B,3], poses [B,K,H,3] and actions [B,K,H,3] of random walks, 6 cm a step at most."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(B, 3, generator=generator) * 0.4 - 0.2
    actions = torch.rand(B, K, H, 3, generator=generator) * 2.0 - 1.0
    return start, start[:, None, None] + 0.06 * actions.cumsum(dim=2), actions


def measure(guardrails: Guardrails, seed: int, regions: Tensor | None = None) -> Tensor:
    start, poses, actions = draw(seed)
    return guardrails.breach(start, poses, actions, torch.zeros(B, 3), regions)


def walked(before: Any, after: Any, steps: int = 1000) -> Any:
    """Ways [n,3] to [n,3] in small steps: [n,steps+1,3]."""
    shares = np.linspace(0.0, 1.0, steps + 1)[:, None]
    return (1 - shares) * before[:, None] + shares * after[:, None]


def ways(seed: int, dims: int = 3) -> tuple[Any, Any]:
    """Starts and ends [n,dims] of ways: long ones, short ones, along the axes, and none at all."""
    rng = np.random.default_rng(seed)
    before = rng.uniform(-0.2, 0.2, (120, dims))
    moves = rng.normal(size=(120, dims)) * rng.choice([0.003, 0.03, 0.3], (120, 1))
    moves[20:60] *= rng.integers(0, 2, (40, dims))
    return before.astype(np.float32), (before + moves).astype(np.float32)


def expect(breach: Any, depth: Any, spacing: Any) -> None:
    """Breaches [n] are those of ways whose depth [n,steps] was measured every `spacing` [n] metres."""
    inside = depth[:, 0].clip(0.0)
    deepest = np.maximum((depth - inside[:, None]).max(axis=1), depth[:, -1])
    assert (breach[deepest > 3e-5] > 0.0).all()
    assert (breach[deepest < -spacing / 2] == 0.0).all()
    assert (breach <= deepest.clip(0.0) + spacing / 2).all()
    assert (breach >= deepest / 2 - 2e-5).all()


def one_way(limits: Guardrails, before: Any, after: Any, regions: Tensor | None = None) -> Any:
    """The breach [n] of each way, as an episode of one candidate and one decision."""
    start, poses, still = torch.from_numpy(before), torch.from_numpy(after)[:, None, None], torch.zeros(len(before), 1)
    return limits.breach(start, poses, still[:, None, None], still, regions)[:, 0].numpy()


@given(st.integers(0, 100_000), st.floats(0.0, 0.03))
def test_a_box_is_broken_by_the_ways_that_enter_it_and_by_no_others(seed: int, margin: float) -> None:
    before, after = ways(seed)
    rng = np.random.default_rng(seed)
    half = rng.choice([0.0005, 0.0025, 0.02, 0.1], (120, 3))  # thin walls, bars and plates too
    centre = rng.uniform(-0.1, 0.1, (120, 3))
    boxes = np.stack([centre - half, centre + half], axis=1)
    depth = (half + margin)[:, None] - np.abs(walked(before, after) - centre[:, None])
    spacing = np.linalg.norm(after - before, axis=-1) / 1000 + 1e-6
    regions = torch.from_numpy(boxes.astype(np.float32))[:, None]
    breach = one_way(Guardrails(margin=margin), before, after, regions)
    expect(breach, depth.min(axis=-1), spacing)
    own = one_way(Guardrails(boxes=[boxes[0].flatten().tolist()], margin=margin), before, after)
    same = one_way(Guardrails(margin=margin), before, after, regions[:1].expand(120, 1, 2, 3))
    np.testing.assert_allclose(own, same, atol=1e-7)


@given(st.integers(0, 100_000), st.sampled_from([0.001, 0.01, 0.1]), st.floats(0.0, 0.03))
def test_a_sphere_is_broken_by_the_ways_that_enter_it_and_by_no_others(seed: int, radius: float, margin: float) -> None:
    before, after = ways(seed)
    before[:30] -= 3 * after[:30]  # so that many lead past the centre
    breach = one_way(Guardrails(spheres=[[0.01, 0.0, 0.02, radius]], margin=margin), before, after)
    depth = radius + margin - np.linalg.norm(walked(before, after) - np.array([0.01, 0.0, 0.02]), axis=-1)
    expect(breach, depth, np.linalg.norm(after - before, axis=-1) / 1000 + 1e-6)


def test_no_wall_is_too_thin() -> None:
    before, after = np.array([[-0.011, 0.0, 0.0]], np.float32), np.array([[0.049, 0.001, 0.0]], np.float32)
    wall = Guardrails(boxes=[[-0.0025, -0.5, -0.5, 0.0025, 0.5, 0.5]])
    assert one_way(wall, before, after) > 0.001
    assert one_way(Guardrails(spheres=[[0.0, 0.0, 0.0, 0.0025]]), before, after) > 0.0004


def test_a_way_may_lead_out_of_a_region_but_not_through_it() -> None:
    limits = Guardrails(boxes=[[-0.1, -0.1, -0.1, 0.1, 0.1, 0.1]])
    before = np.array([[0.09, 0.0, 0.0]] * 4, np.float32)
    ends = np.array([[0.11, 0.0, 0.0], [0.09, 0.0, 0.0], [0.095, 0.0, 0.0], [-0.11, 0.0, 0.0]], np.float32)
    out, nowhere, nearer, through = one_way(limits, before, ends)
    assert out == 0.0
    assert 0.0 < nearer < nowhere == pytest.approx(0.01, abs=1e-4)
    assert through > 0.01


@pytest.mark.parametrize("planner", [cem, gradient])
@pytest.mark.parametrize("region", [{"boxes": [[-0.1, -0.1, -0.1, 0.1, 0.2, 0.2]]}, {"spheres": [[0, 0, 0.02, 0.1]]}])
def test_a_search_that_starts_deep_inside_finds_its_way_out(planner: Any, region: dict[str, Any]) -> None:
    limits, start, mean = Guardrails(**region), torch.tensor([[0.06, 0.01, 0.0]]), torch.zeros(1, 5, 3)

    def cost(actions: Tensor) -> Tensor:
        poses = start[:, None, None] + 0.01 * actions.cumsum(dim=2)
        return limits.cost(actions.new_zeros(actions.shape[:2]), limits.breach(start, poses, actions, mean[:, 0], None))

    box, generator = ActionBox(-torch.ones(3), torch.ones(3)), torch.Generator().manual_seed(0)
    plan = planner(cost, Proposal(mean, torch.full_like(mean, 0.3)), box, generator)
    end = (start + 0.01 * plan.actions.sum(dim=1)).numpy()
    assert one_way(limits, start.numpy(), start.numpy()) > 0.03
    assert one_way(limits, end, end) == 0.0


def test_no_list_becomes_a_tensor_in_the_middle_of_a_search() -> None:
    limits = Guardrails([[-1, -1, -1, 0, 0, 0]], [[0, 0, 0, 0.1]], [-1, -1, -1, 1, 1, 1], speed=0.1, action_rate=0.5)
    with torch.inference_mode():
        measure(limits, 0)
    with Seen() as seen:
        measure(limits, 1)
    assert len(seen.names) > 20
    assert not [name for name in seen.names if "lift_fresh" in name]
    start, poses, actions = draw(0)
    limits.breach(start, poses.requires_grad_(), actions, torch.zeros(B, 3), None).sum().backward()
    assert poses.grad is not None


class Seen(TorchDispatchMode):
    """Keeps the names of all operations; a list that becomes a tensor is lifted."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@given(st.integers(0, 10_000))
def test_workspace_speed_and_action_rate(seed: int) -> None:
    start, poses, actions = draw(seed)
    for margin in (0.0, 0.05):
        workspace = measure(Guardrails(workspace=[-0.2] * 3 + [0.2] * 3, margin=margin), seed)
        outside = (poses.abs() - (0.2 - margin)).clamp_min(0.0)
        torch.testing.assert_close(workspace, outside.sum(dim=(-1, -2)))
    ways = torch.cat([start[:, None, None].expand(B, K, 1, 3), poses], dim=2).diff(dim=2).norm(dim=-1)
    speed = measure(Guardrails(speed=0.07), seed)
    torch.testing.assert_close(speed, (ways - 0.07 - SLACK).clamp_min(0.0).sum(dim=-1))
    changes = torch.cat([torch.zeros(B, K, 1, 3), actions], dim=2).diff(dim=2).abs().amax(dim=-1)
    torch.testing.assert_close(
        measure(Guardrails(action_rate=0.5), seed), (changes - 0.5 - SLACK).clamp_min(0.0).sum(dim=-1)
    )


@given(st.integers(0, 10_000), st.floats(0.01, 0.1), st.floats(0.05, 1.0))
def test_slowed_candidates_keep_both_limits_and_lawful_ones_stay(seed: int, speed: float, rate: float) -> None:
    start, _, actions = draw(seed)
    gain, last = 0.06 * torch.eye(3), torch.zeros(B, 3)
    limits = Guardrails(speed=speed, action_rate=rate)
    slow = limits.slowed(actions, last, gain)
    assert bool((limits.breach(start, start[:, None, None] + 0.06 * slow.cumsum(dim=2), slow, last, None) == 0).all())
    torch.testing.assert_close(limits.slowed(slow, last, gain), slow, atol=1e-6, rtol=1e-5)
    assert slow.abs().max() <= 1.0


@given(st.integers(0, 10_000), st.sampled_from([3.0, 1e3, 5e5]))
def test_hard_limits_rank_every_lawful_candidate_above_every_other(seed: int, scale: float) -> None:
    limits = Guardrails(boxes=[[-0.1] * 3 + [0.1] * 3])
    breach = measure(limits, seed)
    energy = torch.rand(B, K, generator=torch.Generator().manual_seed(seed)) * scale
    cost = limits.cost(energy, breach)
    torch.testing.assert_close(cost[breach == 0.0], energy[breach == 0.0])
    if bool((breach == 0.0).any()) and bool((breach > 0.0).any()):
        assert cost[breach == 0.0].max() < cost[breach > 0.0].min()
    deeper = limits.cost(torch.zeros(1, 3), torch.tensor([[1e-5, 1.1e-3, 1.2e-3]]))
    assert bool((deeper.diff() > 0.0).all())  # float32 must not lose what leads out
    soft = Guardrails(boxes=limits.boxes, hard=False, weight=2.0)
    torch.testing.assert_close(soft.cost(energy, breach), energy + 2.0 * breach)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"boxes": [[0, 0, 0, 1, 1]]}, "expected 6 numbers for each of guardrails.boxes"),
        ({"boxes": [[0, 0, 0, 1, 1, "x"]]}, "expected 6 numbers for each of guardrails.boxes"),
        ({"boxes": [[0, 0, 0, 1, 1, float("nan")]]}, "expected 6 numbers for each of guardrails.boxes"),
        ({"boxes": [0, 0, 0, 1, 1, 1]}, "expected 6 numbers for each of guardrails.boxes, got 0: write \\[\\[x0,"),
        ({"boxes": 3}, "expected a list for guardrails.boxes, got 3"),
        ({"boxes": [[0, 0, 1, 1, 1, 0]]}, "as lows, then highs"),
        ({"spheres": [[0, 0, 0]]}, "expected 4 numbers for each of guardrails.spheres"),
        ({"spheres": [[0, 0, 0, -0.1]]}, "expected a radius > 0 for each of guardrails.spheres"),
        ({"workspace": [0, 0, 0]}, "expected 6 numbers for each of guardrails.workspace"),
        ({"workspace": 3}, "expected 6 numbers for each of guardrails.workspace, got 3"),
        ({"workspace": [0, 0, 0, 1, 1, 0.1], "margin": 0.05}, "wider than twice guardrails.margin, 0.1 m"),
        ({"speed": 0}, "expected guardrails.speed > 0, got 0"),
        ({"speed": float("inf")}, "expected guardrails.speed > 0, got inf"),
        ({"action_rate": -0.5}, "expected guardrails.action_rate > 0, got -0.5"),
        ({"margin": -0.01}, "expected guardrails.margin >= 0, got -0.01"),
        ({"weight": float("nan")}, "expected guardrails.weight >= 0, got nan"),
    ],
)
def test_limits_of_another_shape_are_refused_in_one_line(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Guardrails(**limits)
    assert "\n" not in str(caught.value)
