"""Where a search begins, and that the arm rests when its work is done."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE, tiny_model

from planners import Proposal
from planners.record import Plan
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.patience import Patience
from worldmodel.predictor import CompactPredictor
from worldmodel.pretrain.vjepa import build_model
from worldmodel.start import Start

HORIZON = 5  # more than the tiny model proposes
FEATURES = torch.randn(4, 1, 16, 24, generator=torch.Generator().manual_seed(1))
PROPRIO = torch.zeros(4, 3)


def start(proposal_std: float = 0.0, *, warm: bool = True) -> Start:
    return Start(tiny_model(), HORIZON, 0.6, proposal_std, warm, True)


def frames(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (batch, 32, 32, 3), dtype=np.uint8)


def plan() -> Plan:
    """A plan as the agent makes them, with actions that can be told apart."""
    actions = torch.arange(4 * HORIZON * 3, dtype=torch.float32).reshape(4, HORIZON, 3) / 100
    agent = tiny_model().agent(horizon=HORIZON)
    agent.reset(frames(4), [1, 2, 3, 4])
    agent.act({"pixels": frames(4, 1), "proprio": np.zeros((4, 3), np.float32)})
    found = agent.decision.plan
    assert found is not None
    return replace(found, actions=actions, proposal=Proposal(actions, torch.full_like(actions, 0.1)))


@torch.no_grad()
def test_without_a_last_plan_a_search_begins_around_no_action() -> None:
    begun = start()
    begun.reset(FEATURES)
    assert begun.proposed(FEATURES, PROPRIO) is None
    proposal = begun.proposal(4, None)
    assert torch.equal(proposal.mean, torch.zeros(4, HORIZON, 3))
    assert torch.equal(proposal.std, torch.full((4, HORIZON, 3), 0.6))
    assert begun.candidates(torch.zeros(4, 1, 12), torch.zeros(4, 1, 12)).shape == (4, 2, HORIZON, 3)


@torch.no_grad()
def test_a_warm_search_goes_on_with_the_last_plan_and_a_cold_one_does_not() -> None:
    last, z = plan(), torch.zeros(4, 1, 12)
    warm, cold = start(), start(warm=False)
    warm.previous = cold.previous = last
    assert torch.equal(warm.proposal(4, None).mean[:, :-1], last.actions[:, 1:])
    assert torch.equal(warm.candidates(z, z)[:, 1, :-1], last.actions[:, 1:])
    assert torch.equal(cold.proposal(4, None).mean, torch.zeros(4, HORIZON, 3))
    assert cold.candidates(z, z).shape[1] == warm.candidates(z, z).shape[1] - 1
    warm.reset(FEATURES)
    assert torch.equal(warm.proposal(4, None).mean, torch.zeros(4, HORIZON, 3))


@torch.no_grad()
def test_a_search_begins_with_what_the_network_proposes_and_rests_after_that() -> None:
    begun, model = start(0.25), tiny_model()
    assert model.proposer is not None
    model.proposer.trunk[-1].bias.fill_(3.0)  # far outside of the box
    begun._proposer = model.proposer
    begun.reset(FEATURES)
    begun.previous = plan()
    proposed = begun.proposed(FEATURES.flip(0), PROPRIO)
    assert proposed is not None
    raw = model.proposer(model.proposer.see(FEATURES.flip(0))[:, 0], model.proposer.see(FEATURES)[:, 0], PROPRIO)
    assert torch.equal(proposed[:, :2], raw.clamp(-1, 1))
    assert float(raw.max()) > 1.0
    assert torch.equal(proposed[:, 2:], torch.zeros(4, HORIZON - 2, 3))
    proposal = begun.proposal(4, proposed)
    assert torch.equal(proposal.mean, proposed)
    assert torch.equal(proposal.std, torch.full((4, HORIZON, 3), 0.25))


def test_the_goal_and_the_present_both_matter_to_what_is_proposed() -> None:
    agent = tiny_model().agent(proposal_std=0.25)
    seen = {"pixels": frames(1, 1), "proprio": np.zeros((1, 3), np.float32)}
    agent.reset(frames(1), [1])
    one = agent._look(seen).proposed
    other = agent._look({**seen, "pixels": frames(1, 2)}).proposed
    agent.reset(frames(1, 3), [1])
    third = agent._look(seen).proposed
    assert one is not None
    assert other is not None
    assert third is not None
    assert not torch.equal(one, other)
    assert not torch.equal(one, third)


def test_a_model_that_proposes_nothing_cannot_be_asked_to() -> None:
    torch.manual_seed(0)
    config = replace(tiny_model().config, proposal_steps=0)
    model = WorldModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config).eval()
    with pytest.raises(ConfigError, match=r"expected proposal_std=0 .* got 0\.3: .*proposal_steps") as caught:
        model.agent(proposal_std=0.3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rest", [True, False])
def test_an_arm_whose_object_is_in_its_place_rests_if_it_is_told_to(rest: bool) -> None:
    model = tiny_model()
    for member in model.members:
        cast(CompactPredictor, member).kinematics.gain.copy_(0.05 * torch.eye(3))
    agent = model.agent(rest=rest, settled_below=0.0, settled_within=1e-6)
    picture, other = frames(1), frames(1, 1)
    agent.reset(picture, [1])
    action = agent.act({"pixels": picture, "proprio": np.full((1, 3), 0.1, np.float32)})
    assert bool(agent.decision.held) is rest
    assert bool((action == 0.0).all()) is rest
    # Nor does it rest while the object is elsewhere.
    agent.reset(picture, [1])
    agent.act({"pixels": other, "proprio": np.full((1, 3), 0.1, np.float32)})
    assert not bool(agent.decision.held)


@torch.no_grad()
def test_an_arm_that_gains_nothing_for_too_long_does_for_a_while_what_the_logs_would_do() -> None:
    model, pose = tiny_model(), np.full((1, 3), 0.1, np.float32)
    for member in model.members:
        cast(CompactPredictor, member).kinematics.gain.zero_()
    assert model.proposer is not None
    model.proposer.trunk[-1].bias.fill_(3.0)
    held = {}
    for patience in (None, 2):
        agent = model.agent(patience=patience, horizon=3, proposal_std=0.25, hold_margin=1.0, settled_below=0.0)
        agent.reset(frames(1), [1])
        held[patience] = []
        for _ in range(12):  # the picture stays what it is: nothing is ever gained
            action = agent.act({"pixels": frames(1, 1), "proprio": pose})
            held[patience].append(bool(agent.decision.held))
            assert bool((action == 0.0).all()) is held[patience][-1]
    assert held[None] == [True] * 12
    assert held[2] == [True] * 3 + [False] * 3 + [True] * 2 + [False] * 3 + [True]


def test_patience_is_of_each_episode_and_begins_again_with_every_gain() -> None:
    patience, never = Patience(2, 3), Patience(None, 3)
    for one in (patience, never):
        one.reset(3, torch.device("cpu"))
    over = []
    for step in range(5):
        energy = torch.tensor([1.0, 1.0 - 0.1 * step, 1.0])
        for one in (patience, never):
            one.count(energy, torch.tensor([False, False, True]))
        over.append(patience.over.tolist())
        assert not never.over.any()
    assert over == [[False] * 3] * 2 + [[True, False, False]] * 3
