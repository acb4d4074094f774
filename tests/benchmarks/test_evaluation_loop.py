"""The episode loop: what counts as success, what counts as failure, and who owns which array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.agents import HoldAgent, RandomAgent
from benchmarks.episode import CAMERA_SIDE, Episode, Trace
from benchmarks.evaluate import evaluate
from planners import PlanningError
from tests.benchmarks.tiny_env import SIDE, HomingAgent, TinyEnv, maker
from worldmodel.types import Decision, Observations

SEEDS = [100_000, 100_001, 100_002, 100_003, 100_004]


class BreakingAgent(HoldAgent):
    """Stands still, and does something illegal at decision `at` of every episode whose batch holds `seed`."""

    def __init__(self, what: str, seed: int, at: int = 2) -> None:
        super().__init__(3)
        self._what, self._seed, self._at = what, seed, at

    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        self._count, self._seeds = 0, list(seeds)
        if self._what == "reset" and self._seed in seeds:
            raise RuntimeError("no plan\nfor this goal")

    def act(self, observations: Observations) -> np.ndarray:
        actions = super().act(observations)
        self._count += 1
        if self._count == self._at and self._seed in self._seeds:
            row = self._seeds.index(self._seed)
            if self._what == "planning":
                raise PlanningError("no candidate has a finite cost")
            if self._what == "shape":
                return actions[0]
            actions[row] = {"nan": np.nan, "outside": 1.5}[self._what]
        return actions


def test_an_agent_that_sees_reaches_and_one_that_holds_does_not() -> None:
    for episode in evaluate(maker(), HomingAgent(), SEEDS, parallel=2):
        assert episode.error is None
        assert episode.reached
        assert episode.held
        assert episode.decisions == TinyEnv.budget  # the full budget runs, success or not
        assert len(episode.distances_m) == TinyEnv.budget + 1
        assert len(episode.seconds) == len(episode.energies) == TinyEnv.budget
        assert episode.final_distance_m == episode.distances_m[-1] < TinyEnv.success_radius
        inside = [distance < TinyEnv.success_radius for distance in episode.distances_m]
        assert episode.first_reached == inside.index(True)
    held = evaluate(maker(), HoldAgent(3), SEEDS)
    assert [episode.reached for episode in held] == [False] * 5
    assert all(len(set(episode.distances_m)) == 1 for episode in held)


def test_reached_but_not_held() -> None:
    class Leaver(HomingAgent):
        def act(self, observations: Any) -> Any:
            return super().act(observations) if len(self.seen) < TinyEnv.budget - 1 else np.ones((1, 3), np.float32)

    (episode,) = evaluate(maker(), Leaver(), SEEDS[:1])
    assert (episode.reached, episode.held) == (True, False)
    assert episode.final_distance_m == pytest.approx(episode.distances_m[-1])


@pytest.mark.parametrize("parallel", [1, 2, 5, 8])
def test_the_result_does_not_depend_on_the_batch(parallel: int) -> None:
    for agent in (HomingAgent, lambda: RandomAgent(3)):
        alone = evaluate(maker(), agent(), SEEDS, parallel=1)
        together = evaluate(maker(), agent(), SEEDS, parallel=parallel)
        assert [episode.distances_m for episode in together] == [episode.distances_m for episode in alone]
        assert [episode.seed for episode in together] == SEEDS


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("nan_distance", "environment at decision 3: the distance to the goal is nan"),
        ("nan_proprio", "environment at decision 3: the proprioception is not finite"),
        ("diverged", "environment at decision 3: the simulation diverged"),
        ("raises", "environment at decision 3: RuntimeError: the world broke"),
        ("raises_at_reset", "environment at reset: RuntimeError: the world would not start"),
        ("ends_early", "environment at decision 3: the environment ended the episode after 3 of 12 decisions"),
    ],
)
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_broken_world_fails_its_episode_and_no_other(fault: str, error: str, parallel: int) -> None:
    episodes = evaluate(maker(fault=fault, fault_seed=SEEDS[1]), HomingAgent(), SEEDS, parallel=parallel)
    assert [episode.seed for episode in episodes] == SEEDS
    broken = episodes.pop(1)
    assert broken.error == error
    assert (broken.reached, broken.held, broken.final_distance_m) == (False, False, None)
    healthy = evaluate(maker(), HomingAgent(), [seed for seed in SEEDS if seed != SEEDS[1]])
    assert [episode.distances_m for episode in episodes] == [episode.distances_m for episode in healthy]


def test_success_before_a_failure_does_not_count() -> None:
    fault = {"fault": "diverged", "fault_at": TinyEnv.budget}
    (episode,) = evaluate(maker(**fault), HomingAgent(), SEEDS[:1])
    assert min(episode.distances_m) < TinyEnv.success_radius
    assert (episode.reached, episode.held, episode.first_reached) == (False, False, None)


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("planning", "agent at decision 2: PlanningError: no candidate has a finite cost"),
        ("shape", "agent at decision 2: ValueError: expected actions of shape [1, A], got [3]: mend the agent"),
        ("nan", "agent at decision 2: the action is not finite"),
        ("outside", "agent at decision 2: the action leaves [-1, 1]: 1.5"),
        ("reset", "agent at reset: RuntimeError: no plan for this goal"),
    ],
)
def test_a_broken_agent_fails_just_that_episode(what: str, error: str) -> None:
    episodes = evaluate(maker(), BreakingAgent(what, SEEDS[2]), SEEDS)
    assert [episode.error for episode in episodes] == [None, None, error, None, None]
    assert episodes[2].reached is False


def test_a_bad_row_fails_its_own_lane_and_an_exception_the_whole_batch() -> None:
    rows = evaluate(maker(), BreakingAgent("nan", SEEDS[0]), SEEDS[:4], parallel=2)
    assert [episode.error is None for episode in rows] == [False, True, True, True]
    whole = evaluate(maker(), BreakingAgent("planning", SEEDS[0]), SEEDS[:4], parallel=2)
    assert [episode.error is None for episode in whole] == [False, False, True, True]


def test_an_environment_that_cannot_be_made_is_a_failure() -> None:
    def broken() -> Any:
        raise OSError("no device")

    (episode,) = evaluate(broken, HoldAgent(3), SEEDS[:1])
    assert episode.error == "environment at reset: OSError: no device"


def test_the_agent_gets_arrays_of_its_own() -> None:
    class Vandal(HomingAgent):
        def act(self, observations: Any) -> Any:
            actions = super().act({name: value.copy() for name, value in observations.items()})
            for value in observations.values():
                value[:] = 0
            return actions

        def reset(self, goals: Any, seeds: Any) -> None:
            super().reset(goals, seeds)
            goals[:] = 0

    clean, agent = evaluate(maker(), HomingAgent(), SEEDS, parallel=2), Vandal()
    vandalised = evaluate(maker(), agent, SEEDS, parallel=2)
    assert [episode.distances_m for episode in vandalised] == [episode.distances_m for episode in clean]
    # The environment reuses its buffers; what was handed out must not change afterwards.
    watcher = HomingAgent()
    evaluate(maker(), watcher, SEEDS[:1])
    assert len({seen["proprio"].tobytes() for seen in watcher.seen}) > 3
    assert not np.shares_memory(watcher.seen[0]["pixels"], watcher.seen[1]["pixels"])


def test_with_a_goal_of_the_users_own_success_is_unknown() -> None:
    goal = TinyEnv._paint(np.array([0.5, 0.5, 0.0]), np.zeros((SIDE, SIDE, 3), np.uint8), (255, 255, 255))
    agent = HomingAgent()
    (episode,) = evaluate(maker(), agent, SEEDS[:1], goal=goal)
    assert (episode.reached, episode.held, episode.final_distance_m, episode.distances_m) == (None, None, None, [])
    assert agent.seen[-1]["proprio"][0, :2] == pytest.approx([0.5, 0.5], abs=0.05)


def test_the_trace_holds_every_picture_and_plan() -> None:
    traces: list[tuple[Episode, Trace]] = []
    evaluate(
        maker(),
        HomingAgent(),
        SEEDS[:3],
        parallel=2,
        trace=True,
        on_episode=lambda episode, trace: traces.append((episode, trace)),  # type: ignore[arg-type]
    )
    for episode, trace in traces:
        assert len(trace.frames) == len(trace.success) == episode.decisions + 1
        assert {frame.shape for frame in trace.frames} == {(CAMERA_SIDE, CAMERA_SIDE, 3)}
        assert len(trace.paths) == episode.decisions
        first = trace.paths[0]
        assert first is not None
        assert first.shape == (6, 2)
        rows, columns = np.nonzero(trace.frames[0].any(-1))  # the path starts where the dot is in the picture
        assert first[0] == pytest.approx([columns.mean(), rows.mean()], abs=CAMERA_SIDE / SIDE)


def test_progress_is_reported_per_decision() -> None:
    advanced: list[int] = []
    evaluate(maker(), HoldAgent(3), SEEDS[:3], parallel=2, on_decision=advanced.append)
    assert advanced == [2] * TinyEnv.budget + [1] * TinyEnv.budget


def test_energies_that_are_not_finite_are_recorded_as_absent() -> None:
    class Doubtful(HoldAgent):
        def act(self, observations: Observations) -> np.ndarray:
            import torch

            self.decision = Decision(energy=torch.tensor([float("nan")]), held=torch.tensor([True]))
            return super().act(observations)

    (episode,) = evaluate(maker(), Doubtful(3), SEEDS[:1])
    assert episode.energies == [None] * TinyEnv.budget
    assert episode.stood_still == TinyEnv.budget
