"""No iteration of a planner waits for the device, and neither does the cost of the real agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from device_waits import device_waits
from planning_problems import PLANNERS, quadratic, seeded, start, targets
from tiny_model import ARCHITECTURE, tiny_model
from torch import Tensor

from planners import ActionBox, CostFn, Proposal
from worldmodel.agent import PlanningAgent
from worldmodel.candidates import CandidateRollout, Chunked, Context, goal_cost
from worldmodel.encoders import VJEPAEncoder
from worldmodel.guardrails import Guardrails
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.vjepa import build_model
from worldmodel.transformer import Layout, TransformerPredictor

NAMES = pytest.mark.parametrize("name", PLANNERS)
SOME = pytest.mark.parametrize("name", ["cem", "gradient"])  # without a graph of the cost, and with it
AT_THE_END = ["tolist"]  # the one look a plan takes at what it checks


def waits_while_planning(name: str, cost: CostFn, horizon: int, dims: int, rows: int = 2) -> list[str]:
    init, box = start(rows=rows, horizon=horizon, dims=dims)
    size = {"num_samples": 12, "num_iterations": 4}
    with device_waits() as waits:
        PLANNERS[name](cost, init, box, seeded(0), **size)
    return waits


X = torch.tensor([3.0, 1.0, 2.0])


@pytest.mark.parametrize(
    "wait",
    [
        lambda: X.sum().item(),
        lambda: bool(X.any()),
        lambda: float(X[0]),
        lambda: X[: X.argmax()],
        lambda: X.tolist(),
        lambda: X.numpy(),
        lambda: X.cpu(),
        lambda: np.asarray(X),
        lambda: X[X > 1.0],
        lambda: X.nonzero(),
        lambda: X.masked_select(X > 1.0),
        lambda: torch.equal(X, X),
        lambda: X.unique(),
        lambda: torch.tensor([1.0, 2.0], device=X.device),
        lambda: torch.tensor(1.0, device=X.device),
        lambda: X.new_tensor([1.0, 2.0]),
        lambda: X.new_tensor(1.0),
        lambda: torch.from_numpy(np.ones(3)),
        lambda: X[[0, 2]],
        lambda: X.repeat_interleave(X.long()),
        lambda: torch.linalg.inv(torch.diag(X)),
        lambda: X.to("meta"),
    ],
)
def test_a_wait_is_found(wait: Callable[[], Any]) -> None:
    with device_waits() as waits:
        wait()
    assert waits


def test_what_stays_on_the_device_or_on_the_host_is_no_wait() -> None:
    with device_waits() as waits:
        y = torch.where(X > 1.0, X, 0.0) + torch.arange(3, device=X.device)
        y[-1] = 1.0
        y = torch.stack([y, X.new_zeros(3)]).repeat_interleave(2, dim=0).to(torch.float64)
        y.index_select(1, X.argsort()).clamp(min=0.5).softmax(dim=1)
        step = torch.tensor(0.0)
        step += 1
        assert step.item() == 1
    assert waits == []


@NAMES
def test_no_iteration_waits_for_the_device(name: str) -> None:
    assert waits_while_planning(name, quadratic(targets(2, seed=1)), horizon=5, dims=4) == AT_THE_END


def wheeled_model() -> WorldModel:
    """The smallest model with a roadmap, a fence of known places and a learned motion."""
    planning = {"horizon": 3, "way": "roadmap"}
    config = ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1, planning, motion_hidden=4, position_dim=2, roadmap_nodes=6)
    return WorldModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config).eval()


def looking(agent: PlanningAgent) -> CostFn:
    """The cost of an agent that sees a region to keep out of."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    agent.reset(pixels, [0, 1])
    regions = np.tile(np.array([[[-9.0] * 3, [9.0] * 3]], np.float32), (2, 1, 1, 1))
    return agent.cost({"pixels": pixels[::-1], "proprio": np.zeros((2, 3), np.float32), "keep_out": regions})


@pytest.mark.parametrize("make", [tiny_model, wheeled_model])
@SOME
def test_nor_does_the_cost_of_the_agent(name: str, make: Callable[[], WorldModel]) -> None:
    cost = looking(make().agent())
    assert waits_while_planning(name, cost, horizon=3, dims=3) == AT_THE_END


@pytest.mark.parametrize("hard", [True, False])
@SOME
def test_nor_does_the_cost_with_guardrails_once_their_tensors_are_made(name: str, hard: bool) -> None:
    limits = {"boxes": [[0, 0, 0, 1, 1, 1]], "spheres": [[0, 0, 0, 1]], "workspace": [-1, -1, -1, 1, 1, 1]}
    guardrails = Guardrails(**limits, speed=0.03, action_rate=0.3, hard=hard)  # type: ignore[arg-type]
    cost = looking(tiny_model().agent(guardrails=guardrails))
    cost(torch.zeros(2, 1, 3, 3))
    assert waits_while_planning(name, cost, horizon=3, dims=3) == AT_THE_END


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("layout", ["action_after", "vjepa2_ac"])
@SOME
def test_nor_does_the_cost_of_the_transformer(name: str, layout: Layout, cached: bool) -> None:
    torch.manual_seed(0)
    predictor = TransformerPredictor(
        latent_tokens=4, latent_dim=8, action_dim=3, proprio_dim=3, width=12, depth=2, heads=1, layout=layout
    ).requires_grad_(False)
    context = Context(torch.randn(2, 2, 4, 8), torch.zeros(2, 1, 3), torch.zeros(2, 2, 3))
    goal = torch.randn(2, 4, 8)
    with device_waits() as waits:
        rollout = CandidateRollout(predictor, context, lambda proprio, action: proprio + action, cached=cached)
    assert waits == []
    cost = Chunked(goal_cost(rollout, goal), size=8)
    assert waits_while_planning(name, cost, horizon=3, dims=3) == AT_THE_END


def test_float64_and_candidates_make_no_difference() -> None:
    init, box = start(rows=2)
    init, box = Proposal(init.mean.double(), init.std.double()), ActionBox(box.low.double(), box.high.double())
    given: Tensor = targets(2, seed=4).double()[:, None]
    for name, planner in PLANNERS.items():
        with device_waits() as waits:
            planner(quadratic(targets(2, seed=1).double()), init, box, seeded(0), candidates=given)
        assert waits == AT_THE_END, name
