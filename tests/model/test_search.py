"""What stands between an agent and its planner: the decision's clock, room, memory, noise; and what can be captured."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from planners import ActionBox, Proposal
from tests.tiny_model import tiny_model
from worldmodel.agent import PlanningAgent
from worldmodel.ensemble import Ensemble
from worldmodel.guardrails import Guardrails
from worldmodel.search import CPU_SIZE, Search
from worldmodel.types import Observations

BOX = ActionBox(-torch.ones(3), torch.ones(3))
START = Proposal(torch.zeros(2, 4, 3), torch.full((2, 4, 3), 0.5))


def quadratic(actions: Tensor) -> Tensor:
    return (actions - 0.3).square().sum(dim=(-2, -1))


def observed(batch: int = 2) -> tuple[np.ndarray, Observations]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (2, batch, 128, 128, 3), dtype=np.uint8)
    return frames[0], {"pixels": frames[1], "proprio": np.full((batch, 3), 0.1, np.float32)}


def test_what_the_agent_does_before_it_searches_counts_for_the_deadline() -> None:
    plans = []
    for before in (0.0, 10.0):
        search = Search("cem", {"deadline": 5.0, "num_iterations": 3})
        search.begin()
        search._began -= before  # as if looking had taken so long
        plans.append(search(quadratic, START, BOX, torch.Generator().manual_seed(0)))
    assert [plan.diagnostics.cut for plan in plans] == [False, True]
    assert [plan.diagnostics.model_calls for plan in plans] == [3, 1]


@pytest.mark.parametrize("planner", ["cem", "icem", "mppi", "gradient", "random_shooting"])
@pytest.mark.parametrize("num_samples", [1, 2, 3])
def test_as_many_candidates_take_part_as_there_is_room_for(planner: str, num_samples: int) -> None:
    elites = {} if planner in ("gradient", "random_shooting") else {"num_elites": 1}
    model = tiny_model()
    agent = model.agent(planner, num_samples=num_samples, horizon=2, **elites)
    goals, observation = observed()
    agent.reset(goals, [1, 2])
    for _ in range(3):  # from the second decision on there are three candidates: rest, standing still, policy
        assert np.isfinite(agent.act(observation)).all()


def test_memory_that_runs_out_is_shared_out_and_said() -> None:
    def hungry(actions: Tensor) -> Tensor:
        if actions.shape[1] > 40:
            raise torch.OutOfMemoryError("out of memory")
        return quadratic(actions)

    search, whole = Search("cem", {}), Search("cem", {})
    with pytest.warns(UserWarning, match="memory ran out: 7[0-9] candidates"):
        small = search(hungry, START, BOX, torch.Generator().manual_seed(0))
    assert search.size == 74
    assert torch.equal(small.actions, whole(quadratic, START, BOX, torch.Generator().manual_seed(0)).actions)


def test_a_cpu_imagines_as_many_candidates_at_a_time_as_its_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout, seen = Ensemble.rollout, list[int]()

    def watched(self: Ensemble, z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(actions.shape[0] * actions.shape[1])
        return rollout(self, z, proprio, actions)

    monkeypatch.setattr(Ensemble, "rollout", watched)
    goals, observation = observed(batch=3)
    acted = []
    for size in (CPU_SIZE, sys.maxsize):
        agent = tiny_model().agent(num_samples=CPU_SIZE, num_iterations=2)
        if size > CPU_SIZE:
            agent._search.size = size
        agent.reset(goals, [1, 2, 3])
        seen.clear()
        acted.append(agent.act(observation))
        assert max(seen) == (CPU_SIZE // 3 * 3 if size == CPU_SIZE else 3 * CPU_SIZE)
    assert np.array_equal(*acted)


class Noisy:
    """An agent's members disagree about a plan by this much."""

    def __init__(self, gains: list[float]) -> None:
        self.gains = torch.tensor(gains)

    def towards(self, goal: object, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
        return self._members

    def _members(self, path: Tensor, poses: Tensor) -> Tensor:
        stood = torch.full((len(self.gains), path.shape[1]), 5.0)
        return torch.stack([stood - self.gains[:, None], stood], dim=-1)


@pytest.mark.parametrize(("gains", "noise", "sure"), [([1.0, 3.0], 1.5, True), ([1.0, 3.0], 2.5, False)])
def test_a_gain_counts_if_it_is_more_than_the_members_noise(gains: list[float], noise: float, sure: bool) -> None:
    model = tiny_model()
    agent: PlanningAgent = model.agent(hold_noise=noise, num_samples=8, num_elites=2, num_iterations=1)
    goals, observation = observed()
    agent.reset(goals, [1, 2])
    view = agent._look(observation)
    agent._energy = Noisy(gains)  # type: ignore[assignment]
    actions = torch.zeros(2, 8, 3)
    assert agent._sure(view, actions, actions).tolist() == [sure, sure]


def test_an_unsure_arm_stands_still_and_says_so() -> None:
    goals, observation = observed()
    weights = {"place_weight": 0.01, "approach_weight": 0.0, "proprio_weight": 10.0}
    for noise, held in ((0.0, False), (1e9, True)):
        model = tiny_model()
        model.predictor.kinematics.gain.copy_(0.05 * torch.eye(3))
        for weight in model.members.parameters():  # members of one mind are sure of everything
            torch.nn.init.normal_(weight, std=0.3)
        agent = model.agent(hold_noise=noise, num_samples=32, num_elites=4, num_iterations=2, **weights)
        agent.reset(goals, [1, 2])
        action = agent.act(observation)
        assert agent.decision.held is not None
        assert agent.decision.held.tolist() == [held, held]
        assert bool(np.abs(action).max() == 0.0) is held


@torch.no_grad()
@pytest.mark.parametrize("limits", [None, Guardrails(boxes=[[0.0, 0.0, 0.0, 0.1, 0.1, 0.1]], speed=0.03)])
def test_an_iteration_can_be_captured_whole(limits: Guardrails | None) -> None:
    """What CUDA graphs need: no jump back to Python between the candidates and their costs (fullgraph raises)."""
    agent = tiny_model().requires_grad_(False).agent(guardrails=limits)
    goals, observation = observed()
    agent.reset(goals, [1, 2])
    actions = torch.rand(2, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    cost = agent.cost(observation)
    wanted = cost(actions)
    compiles = CompileCounter()
    for _ in range(3):  # the cost of a later decision is another function, of the same code
        captured = torch.compile(agent.cost(observation), backend=compiles, fullgraph=True, dynamic=False)
        torch.testing.assert_close(captured(actions), wanted)
    assert compiles.frame_count == 1


def test_a_compiled_search_plans_as_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = torch.compile

    def without_a_compiler(function: object, *, mode: str, **options: object) -> object:
        asked.append((mode, options))
        return real(function, backend="eager", **options)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "compile", without_a_compiler)
    goals, observation = observed()
    actions = []
    for mode in (None, "reduce-overhead"):
        agent = tiny_model().requires_grad_(False).agent(compile_mode=mode, num_samples=16, num_elites=4)
        agent.reset(goals, [1, 2])
        actions.append([agent.act(observation) for _ in range(2)])
    np.testing.assert_array_equal(actions[0], actions[1])
    assert asked == [("reduce-overhead", {"fullgraph": True, "dynamic": False})] * 2
