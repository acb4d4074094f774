"""Both ways into the real stable-worldmodel: its solvers plan with our model, our agent acts in its World."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import worldmodel
from benchmarks.agents import RandomAgent
from benchmarks.evaluate import evaluate
from worldmodel.interop import AgentPolicy, CostModel, Info, TerminateOnSuccess
from worldmodel.model import WorldModel

# The extra `interop` is 0.6 GB of packages which nothing else needs, so it is not among those of `make setup`;
# tests/model/test_interop_parts.py holds the same two classes to the same contract without it.
swm = pytest.importorskip("stable_worldmodel", reason="needs the extra: pip install -e .[interop]")
from stable_worldmodel import solver as solvers  # noqa: E402

REACH = "envs:worldmodel/JacoReach-v0"
SEED, BUDGET = 100_000, 15
SOLVERS = {
    "cem": partial(solvers.CEMSolver, num_samples=32, n_steps=3, topk=4),
    "icem": partial(solvers.ICEMSolver, num_samples=32, n_steps=3, topk=4),
    "mppi": partial(solvers.MPPISolver, num_samples=32, n_steps=3, topk=8),
    "sampling": partial(solvers.PredictiveSamplingSolver, num_samples=32),
    "gradient": partial(solvers.GradientSolver, num_samples=4, n_steps=8, optimizer_kwargs={"lr": 0.1}),
}


class Watched(CostModel):
    """Keeps the last info it was given, and the cost of every call."""

    def get_cost(self, info: Info, candidates: Tensor) -> Tensor:
        self.info, self.candidates = info, candidates.detach()
        return super().get_cost(info, candidates)


class Followed(AgentPolicy):
    """Keeps the distances [m] of each episode, by seed, as they are before each decision."""

    def get_action(self, infos: Info) -> Any:
        actions = super().get_action(infos)
        for row, seed in enumerate(self._env.seeds):
            self.distances.setdefault(int(seed), []).append(float(infos["distance"][row, 0]))
        return actions

    def set_env(self, env: Any) -> None:
        super().set_env(env)
        self.distances: dict[int, list[float]] = {}


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return worldmodel.load("jaco")


def world(num_envs: int = 2) -> Any:
    wrappers = [TerminateOnSuccess]
    return swm.World(REACH, num_envs, max_episode_steps=BUDGET, add_pixels=False, pre_wrappers=wrappers)


def policy(solver: Any, **plan: Any) -> Any:
    return swm.policy.WorldModelPolicy(solver, swm.PlanConfig(**{"horizon": 4, "receding_horizon": 1, **plan}))


def test_its_cem_reaches_the_goal_image_with_our_model(model: WorldModel) -> None:
    place = world()
    place.set_policy(policy(solvers.CEMSolver(CostModel(model), batch_size=2, num_samples=64, n_steps=5, topk=8)))
    assert place.evaluate(episodes=3, seed=SEED)["success_rate"] == 100.0
    place.close()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("block", [1, 2])
def test_each_of_its_solvers_lowers_our_energy(model: WorldModel, name: str, block: int) -> None:
    place = world()
    cost = Watched(model)
    chosen = policy(SOLVERS[name](cost, batch_size=2), action_block=block)
    place.set_policy(chosen)
    place.reset(seed=SEED)
    plan = chosen.solver(chosen._prepare_info(place.infos))["actions"]
    assert plan.shape == (2, 4, 3 * block)
    assert cost.candidates.shape[:2] == cost.info["pixels"].shape[:2]
    alone = {key: value[:, :1] for key, value in cost.info.items()}
    with torch.no_grad():
        still, planned = (cost.get_cost(alone, actions[:, None]) for actions in (torch.zeros_like(plan), plan))
    assert (planned < still).all()
    place.close()


def test_a_solve_encodes_each_picture_once(model: WorldModel) -> None:
    place = world()
    chosen = policy(solvers.CEMSolver(CostModel(model), batch_size=2, num_samples=16, n_steps=6, topk=4))
    place.set_policy(chosen)
    place.reset(seed=SEED)
    frames: list[int] = []
    hook = model.encoder.register_forward_hook(lambda _, given, __: frames.append(len(given[0])))
    chosen.get_action(place.infos)
    hook.remove()
    assert frames == [2, 2]  # two goals, two pictures; not 16 of them, six times
    place.close()


@pytest.mark.parametrize("mode", ["auto", "wait"])
def test_our_agent_does_in_its_world_what_it_does_in_ours(model: WorldModel, mode: str) -> None:
    episodes = 4 if mode == "auto" else 2
    make_agent = partial(model.agent, "cem", num_samples=32, num_elites=4, num_iterations=3)
    followed = Followed(make_agent)
    place = world()
    place.set_policy(followed)
    result = place.evaluate(episodes=episodes, seed=SEED, reset_mode=mode)
    place.close()
    make_env = partial(gymnasium.make, REACH, disable_env_checker=True)
    ours = {episode.seed: episode for episode in evaluate(make_env, make_agent(), range(SEED, SEED + episodes))}
    assert sorted(result["seeds"]) == sorted(ours)
    for seed, success in zip(result["seeds"], result["episode_successes"], strict=True):
        theirs = followed.distances[int(seed)]
        count = ours[seed].first_reached if success else len(theirs)
        assert bool(success) is ours[seed].reached
        # Ours go on to the end of the budget, theirs stop at the first success.
        np.testing.assert_array_equal(theirs[:count], ours[seed].distances_m[:count])


def test_an_episode_without_success_counts_as_failed(model: WorldModel) -> None:
    place = world(1)
    place.set_policy(AgentPolicy(lambda: RandomAgent(3)))
    result = place.evaluate(episodes=2, seed=SEED)
    place.close()
    make_env = partial(gymnasium.make, REACH, disable_env_checker=True)
    ours = evaluate(make_env, RandomAgent(3), [SEED, SEED + 1])
    assert list(result["episode_successes"]) == [episode.reached for episode in ours] == [False, False]
