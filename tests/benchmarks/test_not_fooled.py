"""The benchmark cannot be fooled: not by an agent that looks where it must not, nor by a world that lies of success.

Divergence, NaN distances and crashes are in test_evaluation_loop.py; rows of two planners in test_suite.py; another
model on another machine in test_cluster.py.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE, tiny_model

from benchmarks.agents import HoldAgent, PixelPredictionAgent, PolicyAgent, RandomAgent
from benchmarks.evaluate import evaluate
from benchmarks.run import run
from benchmarks.suite import run_suite
from planners import cem
from tests.benchmarks.test_evaluation_agents import oracle
from tests.benchmarks.test_evaluation_run import SEED, lines, subject
from tests.benchmarks.test_suite import row
from tests.benchmarks.tiny_env import HomingAgent, TinyEnv, maker
from worldmodel.baselines.bundle import save_baseline
from worldmodel.baselines.pixels import PixelConfig, PixelPredictor
from worldmodel.baselines.policy import GoalPolicy, PolicyConfig
from worldmodel.bundle import fingerprint, save
from worldmodel.encoders import VJEPAEncoder
from worldmodel.pretrain.vjepa import build_model
from worldmodel.types import Observations

SEARCH = {"num_samples": 4, "num_elites": 2, "num_iterations": 1}


class Lying(TinyEnv):
    """Says what it likes about success."""

    says: Any = None

    def _info(self) -> dict[str, Any]:
        return {**super()._info(), "success": self.says}


@pytest.mark.parametrize("says", [float("nan"), np.nan, np.float32("nan"), None, "yes", 0.5, 2])
def test_a_success_that_is_not_true_or_false_is_a_failure(says: Any) -> None:
    def make() -> gymnasium.Env[Any, Any]:
        env = Lying()
        env.says = says
        return env

    (episode,) = evaluate(make, HomingAgent(), [SEED])
    assert (episode.reached, episode.held, episode.final_distance_m) == (False, False, None)
    assert episode.error is not None
    assert "neither true nor false" in episode.error


@pytest.mark.parametrize("says", [True, np.bool_(True), np.array(True)])
def test_a_success_that_is_true_counts(says: Any) -> None:
    def make() -> gymnasium.Env[Any, Any]:
        env = Lying()
        env.says = says
        return env

    (episode,) = evaluate(make, HomingAgent(), [SEED])
    assert (episode.reached, episode.held, episode.error) == (True, True, None)


def reachable(start: Any) -> list[Any]:
    """Every object that `start` leads to, but through classes, functions of modules, and modules."""
    seen, found, queue = {id(start)}, [], [start]
    while queue:
        for each in gc.get_referents(queue.pop()):
            if id(each) in seen or isinstance(each, type | types.ModuleType | types.FunctionType | types.FrameType):
                continue
            seen.add(id(each))
            found.append(each)
            queue.append(each)
    return found


def worlds(start: Any) -> int:
    return sum(isinstance(each, gymnasium.Env) for each in reachable(start))


def policy() -> GoalPolicy:
    torch.manual_seed(0)
    sizes = {"latent_dim": 8, "token_width": 4, "projector_hidden": 16, "hidden": 16, "blocks": 1}
    return GoalPolicy(VJEPAEncoder(build_model(ARCHITECTURE, 0)), PolicyConfig(3, 3, "action", **sizes)).eval()


def pixels() -> PixelPredictor:
    torch.manual_seed(0)
    return PixelPredictor(PixelConfig(3, 3, side=16, channels=4, hidden=16, blocks=1)).eval()


def search(*arguments: Any, **options: Any) -> Any:
    return cem(*arguments, **options, **SEARCH)


def dreamer(reward: str) -> Any:
    """Where sheeprl is installed: importing this file skips the test otherwise."""
    from tests.benchmarks.test_dreamer_arms import agent

    return agent(reward)


AGENTS = {
    "hold": lambda: HoldAgent(3),
    "random": lambda: RandomAgent(3),
    "planning": lambda: tiny_model().agent(),
    "policy": lambda: PolicyAgent(policy()),
    "pixel_prediction": lambda: PixelPredictionAgent(pixels(), search, horizon=2),
    "dreamerv3": lambda: dreamer("success"),
    "dreamerv3_planning": lambda: dreamer("none"),
}


@pytest.mark.parametrize("name", AGENTS)
def test_no_agent_has_a_handle_to_a_world(name: str) -> None:
    agent = AGENTS[name]()
    (episode,) = evaluate(maker(), agent, [SEED])
    assert episode.error is None
    assert worlds(agent) == 0


def test_the_oracle_has_worlds_of_its_own_and_the_search_finds_them() -> None:
    agent = oracle()
    made: list[Any] = []

    def watched() -> gymnasium.Env[Any, Any]:
        made.append(maker()())
        return made[-1]

    evaluate(watched, agent, [SEED])
    assert worlds(agent) > 0
    assert not {id(env.unwrapped) for env in made} & {id(each) for each in reachable(agent)}


def test_what_an_agent_is_given_leads_nowhere() -> None:
    given: list[Any] = []

    class Curious(HoldAgent):
        def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
            given.append((goals, list(seeds)))

        def act(self, observations: Observations) -> np.ndarray:
            given.append(observations)
            return super().act(observations)

    evaluate(maker(), Curious(3), [SEED, SEED + 1], parallel=2)
    assert [worlds(each) for each in given] == [0] * (1 + TinyEnv.budget)
    goals, observations = given[0][0], given[1]
    assert set(observations) == {"pixels", "proprio"}
    assert all(array.flags.owndata for array in (goals, *observations.values()))


def test_the_world_an_agent_is_made_from_is_not_the_one_it_is_measured_in(tmp_path: Path) -> None:
    made: list[Any] = []

    def make() -> gymnasium.Env[Any, Any]:
        made.append(maker()())
        return made[-1]

    class Spy(HoldAgent):
        """Walks to where the world it was made from says that the goal is."""

        def __init__(self, env: Any) -> None:
            super().__init__(3)
            self.inner = env.unwrapped

        def act(self, observations: Observations) -> np.ndarray:
            away = self.inner._goal - self.inner._position
            return np.clip(away / 0.08, -1, 1)[None].astype(np.float32) * (1, 1, 0)

    watched = dataclasses.replace(subject(Spy), make_env=make)
    assert run(watched, episodes=5, seed=SEED, out=tmp_path)["failures"] == []
    assert [env.unwrapped._count for env in made] == [0, TinyEnv.budget]  # one that never moved, one that was measured
    assert [line["held"] for line in lines(tmp_path)].count(True) < 5


def test_a_model_that_is_replaced_in_its_folder_gets_a_row_of_its_own(tmp_path: Path) -> None:
    where, out = tmp_path / "model", tmp_path / "out"
    for number in range(2):
        changed = tiny_model()
        changed.tracker.origin.add_(float(number))
        if where.exists():
            where.rename(tmp_path / "before")
        save(changed, where, "# card")
        table = run_suite([row(agent="planning", model=str(where), episodes=1)], out)
        assert len(table.read_text().splitlines()) == 3  # head, rule and the row of the present model
        assert len(list(out.glob("*/episodes.jsonl"))) == number + 1
    digests = [json.loads(path.read_text())["model"]["sha256"] for path in out.glob("*/summary.json")]
    assert fingerprint(where) in digests
    assert len(set(digests)) == 2
    assert all(len(lines(path.parent)) == 1 for path in out.glob("*/summary.json"))


def test_rows_of_another_baseline_never_merge(tmp_path: Path) -> None:
    first, second = policy(), policy()
    with torch.no_grad():
        next(second.proposer.trunk.parameters()).add_(1.0)
    folders = []
    for name, model in (("one", first), ("two", second)):
        save_baseline(model, "inverse_dynamics", {}, tmp_path / name, "# card")
        folders.append(row(agent="inverse_dynamics", baseline=str(tmp_path / name)).folder())
    save_baseline(first, "behaviour_cloning", {}, tmp_path / "three", "# card")
    folders.append(row(agent="behaviour_cloning", baseline=str(tmp_path / "three")).folder())
    assert len(set(folders)) == 3
    save_baseline(first, "inverse_dynamics", {}, tmp_path / "copy", "# another card")
    assert row(agent="inverse_dynamics", baseline=str(tmp_path / "copy")).folder() == folders[0]


def test_a_row_stays_when_its_baseline_is_gone_and_no_other_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, out = tmp_path / "trained", tmp_path / "out"
    save_baseline(policy(), "inverse_dynamics", {}, where, "# card")
    rows = [row(agent="inverse_dynamics", baseline=str(where), episodes=1), row(episodes=1)]
    before = run_suite(rows, out).read_text()
    where.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert run_suite(rows, out).read_text() == before
    assert "left out" not in capsys.readouterr().out
    later = row(agent="inverse_dynamics", baseline=str(where), episodes=1, seed=7)
    assert run_suite([later, rows[1]], out).read_text().splitlines() == [
        each for each in before.splitlines() if "inverse_dynamics" not in each
    ]
    assert "left out: inverse_dynamics on jaco_reach, for lack of" in capsys.readouterr().out
