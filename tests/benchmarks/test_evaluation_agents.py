"""The agents that bound the rest: floor and ceiling."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import envs
from benchmarks.agents import HoldAgent, OracleAgent, RandomAgent
from benchmarks.evaluate import evaluate
from planners import cem, mppi
from tests.benchmarks.tiny_env import SIDE, TinyEnv, maker

SEEDS = [100_000, 100_001, 100_002]
SMALL = {"num_samples": 48, "num_elites": 6, "num_iterations": 4}
OBSERVATIONS = {"pixels": np.zeros((2, SIDE, SIDE, 3), np.uint8), "proprio": np.zeros((2, 3), np.float32)}


def oracle(planner: Any = cem, **options: Any) -> OracleAgent:
    search = partial(planner, **SMALL)
    return OracleAgent(maker(**options), search, horizon=4, paths=True)


def test_random_is_seeded_per_episode_and_fills_the_box() -> None:
    agent = RandomAgent(3)
    agent.reset(np.zeros((2, SIDE, SIDE, 3), np.uint8), [7, 8])
    draws = np.stack([agent.act(OBSERVATIONS) for _ in range(400)])
    assert draws.dtype == np.float32
    assert -1 <= draws.min() < -0.98
    assert 0.98 < draws.max() <= 1
    agent.reset(np.zeros((2, SIDE, SIDE, 3), np.uint8), [8, 7])
    again = np.stack([agent.act(OBSERVATIONS) for _ in range(400)])
    assert np.array_equal(again[:, ::-1], draws)
    other = RandomAgent(3, seed=1)
    other.reset(np.zeros((2, SIDE, SIDE, 3), np.uint8), [7, 8])
    assert not np.array_equal(other.act(OBSERVATIONS), draws[0])


def test_hold_does_nothing() -> None:
    agent = HoldAgent(3)
    agent.reset(np.zeros((2, SIDE, SIDE, 3), np.uint8), [7, 8])
    assert np.array_equal(agent.act(OBSERVATIONS), np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("planner", [cem, partial(mppi, temperature=0.01)])
def test_the_oracle_solves_what_a_planner_can_solve(planner: Any) -> None:
    agent = oracle(planner)
    episodes = evaluate(maker(), agent, SEEDS, parallel=2)
    assert [episode.error for episode in episodes] == [None] * 3
    assert all(episode.held for episode in episodes)
    assert episodes[0].model_calls == [2 * calls for calls in episodes[2].model_calls]  # a batch of two, one of one
    assert all(steps > 0 for steps in episodes[0].candidate_steps)


def test_the_oracle_does_not_depend_on_the_batch_or_the_run() -> None:
    alone = evaluate(maker(), oracle(), SEEDS, parallel=1)
    agent = oracle()
    for _ in range(2):
        together = evaluate(maker(), agent, SEEDS, parallel=3)
        assert [episode.distances_m for episode in together] == [episode.distances_m for episode in alone]


def test_a_copy_that_is_no_longer_the_episode_is_noticed() -> None:
    episodes = evaluate(maker(fault="diverged", fault_seed=SEEDS[1]), oracle(), SEEDS, parallel=3)
    assert [episode.error is None for episode in episodes] == [True, False, True]
    assert all(episodes[index].held for index in (0, 2))

    def displaced() -> Any:
        env = TinyEnv()
        env.budget = 6
        reset = env.reset
        env.reset = lambda **options: reset(seed=options["seed"] + 1)  # type: ignore[method-assign]
        return gymnasium.wrappers.TimeLimit(env, max_episode_steps=6)

    (lost,) = evaluate(displaced, oracle(), SEEDS[:1])
    assert lost.error == "agent at decision 1: the action is not finite"


def test_the_oracle_offers_standing_still_and_the_last_plan() -> None:
    offered: list[torch.Tensor] = []

    def watching(*arguments: Any, candidates: torch.Tensor) -> Any:
        offered.append(candidates)
        return cem(*arguments, candidates=candidates, **SMALL)

    agent = OracleAgent(maker(), watching, horizon=4)
    evaluate(maker(), agent, SEEDS[:1])
    assert [tuple(candidates.shape) for candidates in offered[:2]] == [(1, 1, 4, 3), (1, 2, 4, 3)]
    assert all(not candidates[0, 0].any() for candidates in offered)
    plan = agent.decision.plan
    assert plan is not None
    # The last plan but one, shifted, was the second candidate of the last decision; its tail repeats.
    assert torch.equal(offered[-1][0, 1, -1], offered[-1][0, 1, -2])


def test_where_it_is_near_enough_the_oracle_rests() -> None:
    searches: list[int] = []

    def counting(*arguments: Any, **more: Any) -> Any:
        searches.append(1)
        return cem(*arguments, **more, **SMALL)

    (idle,) = evaluate(maker(), OracleAgent(maker(), counting, horizon=4, rest=1e3), SEEDS[:1])
    assert not searches
    assert len(set(idle.distances_m)) == 1
    (busy,) = evaluate(maker(), OracleAgent(maker(), counting, horizon=4, rest=0.02), SEEDS[:1])
    assert busy.held
    assert 0 < len(searches) < busy.decisions


def test_the_planned_path_is_where_the_plan_leads() -> None:
    agent = oracle()
    env = maker()()
    observation, info = env.reset(seed=SEEDS[0])
    agent.reset(info["goal"][None], [SEEDS[0]])
    agent.act({name: np.array(value)[None] for name, value in observation.items()})
    plan, path = agent.decision.plan, agent.decision.path
    assert plan is not None
    assert path is not None
    for step, action in enumerate(plan.actions[0].numpy()):
        observation = env.step(action)[0]
        assert path[0, step].numpy() == pytest.approx(observation["proprio"], abs=1e-6)


def test_in_the_real_arm_the_oracle_reaches_and_its_copy_keeps_step() -> None:
    assert "worldmodel/JacoReach-v0" in envs.TASKS
    make = partial(gymnasium.make, "worldmodel/JacoReach-v0", disable_env_checker=True, image_size=32)
    agent = OracleAgent(make, partial(cem, num_samples=24, num_elites=4, num_iterations=3), horizon=3, paths=True)
    try:
        (episode,) = evaluate(make, agent, [100_000])
    finally:
        agent.close()
    assert episode.error is None
    assert episode.reached
    (held,) = evaluate(make, HoldAgent(3), [100_000])
    assert held.error is None
    assert held.final_distance_m == pytest.approx(episode.distances_m[0], abs=2e-3)
