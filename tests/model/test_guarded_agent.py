"""What an agent does about its guardrails: which plan it falls back on, how it stands still, what it calls a place."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_model

from worldmodel.agent import PlanningAgent
from worldmodel.encoders import VJEPAEncoder
from worldmodel.guardrails import Guardrails
from worldmodel.model import WorldModel

PIXELS = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
STEP = 0.06  # [m] per unit of the action


def arm(**config: Any) -> WorldModel:
    """A hand that moves STEP along each axis."""
    plain = tiny_model()
    assert isinstance(plain.encoder, VJEPAEncoder)
    model = WorldModel(plain.encoder, dataclasses.replace(plain.config, **config)).eval()
    model.predictor.kinematics.gain.copy_(STEP * torch.eye(model.config.proprio_dim, 3))
    return model


def begin(agent: PlanningAgent) -> PlanningAgent:
    agent.reset(PIXELS, [0, 1])
    return agent


def test_an_arm_whose_every_plan_is_unlawful_stands_still_and_says_so() -> None:
    agent = begin(arm().agent(guardrails=Guardrails(boxes=[[-0.5, -0.5, -0.5, 0.5, 0.5, 0.5]])))
    places = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]], np.float32)  # the first is in the middle of the box
    for _ in range(2):
        actions = agent.act({"pixels": PIXELS, "proprio": places})
        assert agent.decision.blocked is not None
        assert agent.decision.blocked.tolist() == [True, False]
        assert np.abs(actions[0]).max() == 0.0
    boxes = np.tile(np.array([[[-9.0] * 3, [9.0] * 3]], np.float32), (2, 1, 1, 1))
    agent.act({"pixels": PIXELS, "proprio": places, "keep_out": boxes})
    assert agent.decision.blocked.tolist() == [True, True]


@pytest.mark.parametrize("planner", ["random_shooting", "cem", "mppi"])
def test_where_the_mean_is_unlawful_the_best_lawful_candidate_is_executed(planner: str) -> None:
    limits = Guardrails(workspace=[-1.0, -9.0, -9.0, 1.0, 9.0, 9.0])
    agent = begin(arm().agent(planner, select="mean", guardrails=limits, num_samples=60, policy_candidates=False))
    # The first hand is a little outside: the mean of random shooting, to stand still, is unlawful. The second is lost.
    places = np.array([[1.01, 0.0, 0.0], [2.0, 0.0, 0.0]], np.float32)
    actions = agent.act({"pixels": PIXELS, "proprio": places})
    decision = agent.decision
    assert decision.blocked is not None
    assert decision.plan is not None
    assert decision.path is not None
    assert decision.blocked.tolist() == [False, True]
    assert float(decision.path[0, :, 0].max()) <= 1.0
    assert actions[0, 0] < -0.1
    assert np.abs(actions[1]).max() == 0.0
    assert float(decision.plan.cost[0]) < 100.0 < float(decision.plan.cost[1])


def test_to_stand_still_by_choice_keeps_the_rate_and_an_emergency_stop_does_not() -> None:
    model = arm()
    tuned = {"place_weight": 0.0, "running_weight": 0.0, "settled_below": 1e9, "hold_margin": 0.2, "num_samples": 60}
    agent = begin(model.agent(guardrails=Guardrails(action_rate=0.3), **tuned))
    goal = model.decode_proprio(model.encode(torch.from_numpy(PIXELS)[:, None])[:, 0]).detach().numpy()
    near, far = goal - np.array([0.3, 0.0, 0.0], np.float32), goal - np.array([9.0, 0.0, 0.0], np.float32)

    def act(places: Any, **more: Any) -> tuple[Any, Any, Any]:
        actions = agent.act({"pixels": PIXELS, "proprio": places, **more})
        assert agent.decision.held is not None
        assert agent.decision.blocked is not None
        return actions, agent.decision.held.tolist(), agent.decision.blocked.tolist()

    before = np.zeros((2, 3), np.float32)
    for places, chosen in ((near, False), (near, False), (far, True)):
        actions, held, blocked = act(places)
        assert (held, blocked) == ([chosen] * 2, [False] * 2)
        assert np.abs(actions - before).max() <= 0.3 + 1e-5
        slowing, before = np.abs(actions).max(axis=-1) < np.abs(before).max(axis=-1), actions
    assert slowing.all()
    assert (np.abs(before).max(axis=-1) > 0.1).all()
    agent.reset(PIXELS, [0, 1])
    act(near)
    moving, _, _ = act(near)
    assert (np.abs(moving).max(axis=-1) > 0.4).all()
    everywhere = np.tile(np.array([[[-99.0] * 3, [99.0] * 3]], np.float32), (2, 1, 1, 1))
    stopped, held, blocked = act(near, keep_out=everywhere)
    assert (held, blocked) == ([True] * 2, [True] * 2)
    assert np.abs(stopped).max() == 0.0


def robot() -> WorldModel:
    """x, y, cos and sin of the heading: the second action drives along y, the first turns."""
    model = arm(proprio_dim=4, position_dim=2)
    model.predictor.kinematics.gain.copy_(torch.tensor([[0, 0, 0], [0, 0.1, 0], [2.0, 0, 0], [0, 0, 0]]))
    return model


def test_a_robot_that_turns_goes_no_further_for_it() -> None:
    model, here = robot(), np.tile(np.array([0.0, 0.0, -1.0, 0.0], np.float32), (2, 1))
    turn, drive = torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    turn[:, :, 0, 0], turn[..., 1], drive[..., 1] = 1.0, 0.5, 1.0
    seen = {"pixels": PIXELS, "proprio": here}

    def costs(limits: Guardrails | None) -> list[float]:
        cost = begin(model.agent(guardrails=limits)).cost(seen)
        return [float(cost(actions)[0, 0].detach()) for actions in (turn, drive)]

    free = costs(None)
    assert costs(Guardrails(speed=0.1, workspace=[-0.01, -9, 7, 0.01, 9, 8])) == pytest.approx(free, rel=1e-5)
    slow = costs(Guardrails(speed=0.05))
    assert slow[0] == pytest.approx(free[0], rel=1e-5)
    assert slow[1] != pytest.approx(free[1], rel=1e-3)
    ahead = costs(Guardrails(boxes=[[-0.01, 0.2, 7, 0.01, 0.22, 8]]))  # on the floor, whatever z is said to be
    assert ahead[0] == pytest.approx(free[0], rel=1e-5)
    assert ahead[1] > 1e5
    assert costs(Guardrails(spheres=[[0.0, 0.25, 7, 0.01]]))[1] > 1e5


@given(st.integers(0, 1000), st.sampled_from([1.0, 1e3, 3e4]))
def test_no_weight_of_the_energy_lifts_an_unlawful_candidate_above_a_lawful_one(seed: int, weight: float) -> None:
    box = [-0.05, -0.05, -0.05, 0.05, 0.05, 0.05]
    agent = begin(MODEL.agent(guardrails=Guardrails(boxes=[box]), place_weight=weight, pessimism=0.0))
    here = np.array([[-0.1, 0.0, 0.0], [0.0, 0.1, 0.0]], np.float32)
    actions = torch.rand(2, 100, 3, 3, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    cost = agent.cost({"pixels": PIXELS, "proprio": here})(actions).detach()
    start = torch.from_numpy(here)[:, None, None].expand(2, 100, 1, 3)
    path = torch.cat([start, start + STEP * actions.cumsum(dim=2)], dim=2)
    inside = (path.abs() < 0.045).all(dim=-1).any(dim=-1)
    clear = ((path.amin(dim=2) > 0.055) | (path.amax(dim=2) < -0.055)).any(dim=-1)
    assert cost[clear].max() < cost[inside].min()


MODEL = arm()  # one that believes its actions to move the object
for member in MODEL.members:
    torch.nn.init.normal_(member.leave.weight)
