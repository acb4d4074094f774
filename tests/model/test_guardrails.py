"""Limits on a plan: measured against an oracle that walks the path in small steps, and never overruled when hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_model
from torch import Tensor

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


def walked(seed: int) -> Any:
    """The same paths in steps of a few millimetres: [B,K,S,3]."""
    start, poses, _ = draw(seed)
    corners = np.concatenate([np.broadcast_to(start.numpy()[:, None, None], (B, K, 1, 3)), poses.numpy()], axis=2)
    shares = np.linspace(0.0, 1.0, 13)[:, None]
    legs = [(1 - shares) * corners[:, :, h, None] + shares * corners[:, :, h + 1, None] for h in range(H)]
    return np.concatenate(legs, axis=2)


@given(st.integers(0, 10_000), st.floats(0.02, 0.3), st.floats(0.0, 0.03))
def test_a_box_is_broken_only_by_paths_that_enter_it_and_by_all_that_enter_it_deeply(
    seed: int, side: float, margin: float
) -> None:
    box = [-side / 2] * 3 + [side / 2] * 3
    breach = measure(Guardrails(boxes=[box], margin=margin), seed).numpy()
    depth = (side / 2 + margin - np.abs(walked(seed))).min(axis=-1).max(axis=-1)  # of the deepest point
    assert (breach[depth < -1e-6] == 0.0).all()
    assert (breach[depth > 0.015 * np.sqrt(3)] > 0.0).all()  # points are 1.5 cm apart, per axis, at most
    moved = torch.tensor(box).reshape(1, 1, 2, 3).expand(B, 1, 2, 3)
    np.testing.assert_allclose(measure(Guardrails(margin=margin), seed, moved).numpy(), breach, atol=1e-6)


@given(st.integers(0, 10_000), st.floats(0.02, 0.2))
def test_a_sphere_is_broken_only_by_paths_that_enter_it(seed: int, radius: float) -> None:
    breach = measure(Guardrails(spheres=[[0.05, 0.0, 0.0, radius]]), seed).numpy()
    depth = (radius - np.linalg.norm(walked(seed) - np.array([0.05, 0.0, 0.0]), axis=-1)).max(axis=-1)
    assert (breach[depth < -1e-6] == 0.0).all()
    assert (breach[depth > 0.03] > 0.0).all()


@given(st.integers(0, 10_000))
def test_workspace_speed_and_action_rate(seed: int) -> None:
    start, poses, actions = draw(seed)
    outside = (poses.abs() > 0.2).any(dim=-1).any(dim=-1)
    within = (walked(seed) >= -0.2).all(axis=(-1, -2)) & (walked(seed) <= 0.2).all(axis=(-1, -2))
    workspace = measure(Guardrails(workspace=[-0.2] * 3 + [0.2] * 3), seed)
    assert bool((workspace[outside] > 0.0).all())
    assert bool((workspace[torch.from_numpy(within)] == 0.0).all())
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


@given(st.integers(0, 10_000))
def test_hard_limits_rank_every_lawful_candidate_above_every_other(seed: int) -> None:
    limits = Guardrails(boxes=[[-0.1] * 3 + [0.1] * 3])
    breach = measure(limits, seed)
    energy = torch.rand(B, K, generator=torch.Generator().manual_seed(seed)) * 3.0
    cost = limits.cost(energy, breach)
    torch.testing.assert_close(cost[breach == 0.0], energy[breach == 0.0])
    if bool((breach == 0.0).any()) and bool((breach > 0.0).any()):
        assert cost[breach == 0.0].max() < cost[breach > 0.0].min()
    soft = Guardrails(boxes=limits.boxes, hard=False, weight=2.0)
    torch.testing.assert_close(soft.cost(energy, breach), energy + 2.0 * breach)


def test_an_arm_whose_every_plan_is_unlawful_stands_still_and_says_so() -> None:
    model = tiny_model()
    model.predictor.kinematics.gain.copy_(0.06 * torch.eye(3))
    agent = model.agent(guardrails=Guardrails(boxes=[[-0.5, -0.5, -0.5, 0.5, 0.5, 0.5]]))
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    agent.reset(pixels, [0, 1])
    places = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]], np.float32)  # the first is in the middle of the box
    for _ in range(2):
        actions = agent.act({"pixels": pixels, "proprio": places})
        assert agent.decision.blocked is not None
        assert agent.decision.blocked.tolist() == [True, False]
        assert np.abs(actions[0]).max() == 0.0
    boxes = np.tile(np.array([[[-9.0] * 3, [9.0] * 3]], np.float32), (2, 1, 1, 1))
    agent.act({"pixels": pixels, "proprio": places, "keep_out": boxes})
    assert agent.decision.blocked.tolist() == [True, True]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"boxes": [[0, 0, 0, 1, 1]]}, "expected 6 numbers for each of guardrails.boxes"),
        ({"boxes": [[0, 0, 0, 1, 1, "x"]]}, "expected 6 numbers for each of guardrails.boxes"),
        ({"boxes": [[0, 0, 1, 1, 1, 0]]}, "as lows, then highs"),
        ({"spheres": [[0, 0, 0]]}, "expected 4 numbers for each of guardrails.spheres"),
        ({"workspace": [0, 0, 0]}, "expected 6 numbers for each of guardrails.workspace"),
    ],
)
def test_limits_of_another_shape_are_refused(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Guardrails(**limits)
