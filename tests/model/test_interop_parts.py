"""What stable-worldmodel asks of a model and of a policy, held without that package; the real one: test_interop.py."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_model import tiny_model
from torch import Tensor

from tests.benchmarks.tiny_env import TinyEnv
from worldmodel.errors import WorldModelError
from worldmodel.interop import AgentPolicy, CostModel, TerminateOnSuccess
from worldmodel.model import WorldModel
from worldmodel.predictor import CompactPredictor
from worldmodel.types import Decision, Observations

B, K, H, A, SIDE = 2, 6, 3, 3, 32


@pytest.fixture
def model() -> WorldModel:
    """A model in which every action matters: at its initialisation it predicts no change."""
    model = tiny_model()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for member in model.members:
            compact = cast(CompactPredictor, member)
            for weight in compact.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.7 / weight.shape[-1] ** 0.5)
            compact.kinematics.gain.copy_(0.1 * torch.eye(3, A))
            compact.kinematics.low.fill_(-0.4)
            compact.kinematics.high.fill_(0.4)
            compact.fourier.fit(torch.tensor([[-0.4] * 3, [0.4] * 3]))
    return model.requires_grad_(False)


def info(count: int = K) -> dict[str, Any]:
    """As a solver passes it on: the same for all candidates, without copying it."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (2, B, 1, 1, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    proprio = torch.rand(B, 1, 1, 3, generator=generator) * 0.6 - 0.3
    parts = {"pixels": images[0], "goal": images[1], "proprio": proprio, "action": torch.full((B, 1, 1, A), torch.nan)}
    return {key: part.expand(B, count, *part.shape[2:]) for key, part in parts.items()}


def candidates(horizon: int = H, spread: float = 0.5) -> Tensor:
    return torch.randn(B, K, horizon, A, generator=torch.Generator().manual_seed(6)) * spread


@pytest.mark.parametrize("settled_below", [0.0, 1e9])
def test_the_cost_is_the_one_our_agent_plans_with(model: WorldModel, settled_below: float) -> None:
    settings: dict[str, Any] = {"settled_below": settled_below, "approach_weight": 0.7, "pessimism": 1.0}
    agent, given = model.agent("random_shooting", **settings), info(1)
    agent.reset(given["goal"][:, 0, 0].numpy(), [0, 1])
    agent.act({key: given[key][:, 0, 0].numpy() for key in ("pixels", "proprio")})
    plan = agent.decision.plan
    assert plan is not None
    cost = CostModel(model, **settings).get_cost(given, plan.actions[:, None])
    torch.testing.assert_close(cost[:, 0], plan.cost, rtol=5e-3, atol=0)  # bf16, where the hardware has it
    other = CostModel(model, **{**settings, "pessimism": 0.0}).get_cost(given, plan.actions[:, None])
    assert (other[:, 0] < 0.99 * plan.cost).all()


def test_each_candidate_has_its_own_cost_and_counts_as_clipped(model: WorldModel) -> None:
    wild = candidates(spread=3.0)
    cost = CostModel(model).get_cost(info(), wild)
    assert cost.shape == (B, K)
    assert cost.dtype == wild.dtype
    assert len(cost.unique()) == B * K
    assert torch.equal(cost, CostModel(model).get_cost(info(), wild.clamp(-1, 1)))
    assert not torch.equal(cost, CostModel(model).get_cost(info(), wild.clamp(-0.5, 0.5)))


def test_a_block_is_its_actions_side_by_side(model: WorldModel) -> None:
    actions = candidates(horizon=4)
    blocks = torch.cat((actions[:, :, 0::2], actions[:, :, 1::2]), dim=-1)
    assert blocks.shape == (B, K, 2, 2 * A)
    cost = CostModel(model)
    assert torch.equal(cost.get_cost(info(), blocks), cost.get_cost(info(), actions))


def test_slopes_exist_even_after_a_solve_in_inference_mode(model: WorldModel) -> None:
    cost, given = CostModel(model), info()
    with torch.inference_mode():
        first = cost.get_cost(given, candidates())
    actions = candidates().requires_grad_()
    found = cost.get_cost(given, actions)
    found.sum().backward()
    assert torch.allclose(found.detach(), first, rtol=1e-2)
    assert actions.grad is not None
    assert (actions.grad.abs().amax(dim=(2, 3)) > 0).all()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("key", ["pixels", "goal", "proprio"])
def test_what_changes_in_place_is_seen_anew(model: WorldModel, key: str) -> None:
    cost, given, actions = CostModel(model), {name: part.clone() for name, part in info().items()}, candidates()
    before = cost.get_cost(given, actions)
    assert torch.equal(cost.get_cost(given, actions), before)
    given[key].copy_(given[key].flip(0))
    after = cost.get_cost(given, actions)
    assert not torch.equal(after, before)
    assert torch.equal(after, CostModel(model).get_cost(given, actions))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("goal", None, "expected pixels, goal and proprio in info, got no goal among pixels, proprio, action: make"),
        ("pixels", torch.zeros(B, K, 1, 3, SIDE, SIDE), "expected pixels as uint8 [B,K,1,S,S,3], got float32 [2, 6, 1"),
        ("goal", torch.zeros(B, K, SIDE, SIDE, 3).byte(), "expected goal as uint8 [B,K,1,S,S,3], got uint8 [2, 6, 32"),
    ],
)
def test_an_info_of_another_form_is_refused(model: WorldModel, key: str, value: Any, expected: str) -> None:
    given = {name: part for name, part in info().items() if name != key or value is not None}
    if value is not None:
        given[key] = value
    with pytest.raises(WorldModelError) as error:
        CostModel(model).get_cost(given, candidates())
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


def test_candidates_of_another_arm_are_refused(model: WorldModel) -> None:
    with pytest.raises(WorldModelError, match=r"^expected candidates \[B,K,H,A\], A a multiple of 3, got \[2,"):
        CostModel(model).get_cost(info(), torch.zeros(B, K, H, 5))


class Noting:
    """An agent that answers with what it knows: its seed, and how many decisions it has made since its reset."""

    def __init__(self) -> None:
        self.decision, self.observed = Decision(), set[str]()

    def reset(self, goals: NDArray[np.uint8], seeds: Sequence[int]) -> None:
        self.goal, (self.seed,), self.count = int(goals[0, 0, 0, 0]), seeds, 0

    def act(self, observations: Observations) -> NDArray[np.float32]:
        self.observed = set(observations)
        assert observations["pixels"].shape == (1, SIDE, SIDE, 3)
        self.count += 1
        return np.array([[self.seed, self.goal, self.count]], np.float32)


def infos(steps: list[int], ended: Sequence[str] = ("", "")) -> dict[str, Any]:
    """As EnvPool stacks them: a batch of environments, then time, of length 1."""
    rows = len(steps)
    images = np.zeros((rows, 1, SIDE, SIDE, 3), np.uint8)
    return {
        "pixels": images,
        "proprio": np.zeros((rows, 1, 3), np.float32),
        "keep_out": np.zeros((rows, 1, 1, 2, 3), np.float32),
        "goal": images + np.arange(7, 7 + rows, dtype=np.uint8).reshape(-1, 1, 1, 1, 1),
        "step_idx": np.array(steps)[:, None],
        "terminated": np.array([[how == "terminated"] for how in ended]),
        "truncated": np.array([[how == "truncated"] for how in ended]),
    }


def pool() -> Any:
    spaces = {**TinyEnv().observation_space.spaces, "keep_out": gymnasium.spaces.Box(-1, 1, (1, 2, 3), np.float32)}
    return SimpleNamespace(
        num_envs=2,
        action_space=gymnasium.spaces.Box(-1, 1, (2, 3), np.float32),
        single_observation_space=gymnasium.spaces.Dict(spaces),
        seeds=np.array([100, 101]),
    )


def test_each_environment_has_an_agent_that_lives_as_long_as_the_episode() -> None:
    policy, envs = AgentPolicy(Noting), pool()
    policy.set_env(envs)
    assert policy.get_action(infos([0, 0])).tolist() == [[100, 7, 1], [101, 8, 1]]
    assert policy.get_action(infos([1, 1])).tolist() == [[100, 7, 2], [101, 8, 2]]
    envs.seeds = np.array([100, 205])
    stays_set = {"_needs_flush": np.array([False, True])}
    assert policy.get_action({**infos([2, 0]), **stays_set}).tolist() == [[100, 7, 3], [205, 8, 1]]
    assert policy.get_action({**infos([3, 1]), **stays_set}).tolist() == [[100, 7, 4], [205, 8, 2]]
    for how in ("terminated", "truncated"):
        assert policy.get_action(infos([4, 2], [how, ""]))[0].tolist() == [0, 0, 0]
    assert policy.get_action(infos([4, 4]))[0].tolist() == [100, 7, 5]
    assert [cast(Noting, agent).observed for agent in policy.agents] == [{"pixels", "proprio", "keep_out"}] * 2


def test_a_world_without_goals_is_refused() -> None:
    policy = AgentPolicy(Noting)
    policy.set_env(pool())
    given = {key: value for key, value in infos([0, 0]).items() if key not in ("goal", "proprio")}
    with pytest.raises(WorldModelError, match=r"^expected the goal and .* got no goal, proprio: make the World with"):
        policy.get_action(given)


@pytest.mark.parametrize(("fault", "ends"), [("", (False, False)), ("diverged", (False, True))])
def test_only_success_terminates(fault: str, ends: tuple[bool, bool]) -> None:
    env = TerminateOnSuccess(TinyEnv(fault=fault, fault_at=1))
    env.reset(seed=0)
    assert env.step(np.zeros(3))[2:4] == ends


def test_success_terminates_at_once() -> None:
    env = TerminateOnSuccess(TinyEnv())
    _, info = env.reset(seed=0)
    inner: Any = env.unwrapped
    inner.set_state(np.append(inner._goal, 0))
    assert not info["success"]
    assert env.step(np.zeros(3))[2:4] == (True, False)
