"""Every arm of DreamerV3 from the command line, at toy size: from logs to driving, and learning in an environment."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE

from benchmarks.agents import DreamerAgent, DreamerPlanningAgent
from benchmarks.evaluate import evaluate
from planners import cem
from tests.benchmarks.tiny_env import SIDE, maker
from worldmodel.baselines.dreamer_policy import DreamerBaseline, DreamerConfig
from worldmodel.cli import main
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import WorldModelError
from worldmodel.pretrain.vjepa import build_model

pytest.importorskip("sheeprl", reason="needs the extra: see docs/dreamerv3.md")

SEEDS = [100_000, 100_001, 100_002]
OBSERVATIONS = {"pixels": np.zeros((2, SIDE, SIDE, 3), np.uint8), "proprio": np.zeros((2, 3), np.float32)}
FEW = ["planner.num_samples=4", "planner.num_elites=2", "planner.num_iterations=1"]


def baseline(reward: str, compare: str = "posterior") -> DreamerBaseline:
    torch.manual_seed(0)
    config = DreamerConfig(3, 3, reward, "features", compare=compare)
    return DreamerBaseline(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config).eval()


def agent(reward: str) -> DreamerAgent | DreamerPlanningAgent:
    if reward != "none":
        return DreamerAgent(baseline(reward))
    search = partial(cem, num_samples=12, num_elites=3, num_iterations=2)
    return DreamerPlanningAgent(baseline("none"), search, horizon=3)


@pytest.mark.parametrize("reward", ["success", "none"])
def test_an_agent_keeps_the_contract_and_repeats_itself(reward: str) -> None:
    with pytest.raises(WorldModelError, match="expected reset before act"):
        agent(reward).act(OBSERVATIONS)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    paths = []
    for _ in range(2):
        episodes = evaluate(maker(), agent(reward), SEEDS, parallel=2)
        assert [episode.error for episode in episodes] == [None] * 3
        paths.append([episode.distances_m for episode in episodes])
        torch.rand(3)  # what others draw from the global generator changes nothing
    assert paths[0] == paths[1]
    torch.set_rng_state(state)
    agent(reward)
    before = torch.get_rng_state()
    same = agent(reward)
    same.reset(np.zeros((2, SIDE, SIDE, 3), np.uint8), [7, 8])
    torch.set_rng_state(before)
    same.act(OBSERVATIONS)
    assert torch.equal(torch.get_rng_state(), before), "and it leaves that generator alone"


def test_the_search_plans_and_the_model_is_told_what_was_done() -> None:
    model = baseline("none")
    search = partial(cem, num_samples=64, num_elites=8, num_iterations=4)
    planning = DreamerPlanningAgent(model, search, horizon=2, running_weight=0.0)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    planning.reset(pictures, [7, 8])
    actions = planning.act({**OBSERVATIONS, "pixels": pictures[::-1].copy()})
    plan = planning.decision.plan
    assert plan is not None
    assert actions.shape == (2, 3)
    assert np.array_equal(actions, plan.actions[:, 0].numpy())
    assert np.abs(actions).max() <= 1
    done = model.dreamer._player[0].actions[0]
    assert np.array_equal(done.numpy(), actions), "the model is told what was done, not what its actor wanted"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A training command of seconds, without kind= and out=."""
    folder = tmp_path_factory.mktemp("logs")
    assert main(["collect", f"out={folder / 'data'}", "episodes=3", "steps=6", "workers=1"]) == 0
    build_model({**ARCHITECTURE, "crop_size": 128, "patch_size": 32}, 0).save_pretrained(folder / "encoder")
    given = [f"data={folder / 'data'}", f"encoder={folder / 'encoder'}", "steps=2", "kind.batch_size=2"]
    return [*given, "kind.length=4", "device=cpu"]


ARMS = {
    "D3": (["kind=dreamerv3", "kind.reward=distance", "kind.warmup=7"], []),
    "D2": (["kind=dreamerv3", "kind.sees=pixels", "kind.side=16"], []),
    "D1": (["kind=dreamerv3_planning", "kind.sees=pixels", "kind.side=16", "kind.compare=decoded"], FEW),
}


@pytest.mark.parametrize("arm", ARMS)
def test_from_logs_to_driving(arm: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, search = ARMS[arm]
    kind = given[0].removeprefix("kind=")
    command = ["baseline", *given, *words, f"out={tmp_path / 'run'}"]
    assert main(command) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["kind"], report["decisions"], report["settings"]["learning_rate"]) == (kind, 12, 4e-5)
    assert (report["steps"], report["settings"]["warmup"]) == (2, 7 if arm == "D3" else 1000)
    assert report["validation"]["observation_loss"] > 0
    assert not (tmp_path / "run" / "checkpoints").exists()
    capsys.readouterr()
    assert main(command) == 0
    assert "complete already" in capsys.readouterr().out
    drive = [
        f"agent={kind}",
        f"baseline={tmp_path / 'run' / 'model'}",
        *search,
        "episodes=1",
        f"out={tmp_path / 'row'}",
    ]
    assert main(["drive", *drive]) == 0
    summary = json.loads((tmp_path / "row" / "summary.json").read_text())
    assert summary["failures"] == []
    assert summary["model"]["sha256"] == report["model_sha256"]
    sees = ("features", 128) if arm == "D3" else ("pixels", 16)
    assert (summary["model"]["sees"], summary["model"]["pixels"], summary["model"]["steps"]) == (*sees, 2)
    assert summary["planner"] == ("cem" if search else None)


def test_learning_online_writes_a_model_at_each_milestone(tmp_path: Path) -> None:
    toy = ["environments=2", "milestones=[32,60]", "size=1M", "learning_starts=20", "batch_size=2", "length=4"]
    toy += ["train_ratio=0.1"]
    out = tmp_path / "out"
    assert main(["bench", "suite=dreamerv3_online", f"out={out}", *(f"suite.{word}" for word in toy)]) == 0
    assert "privileged" in (out / "table.md").read_text()
    assert len((out / "curve.jsonl").read_text().splitlines()) == 4, "two environments, twice 15 decisions"
    weights = {(out / f"model-{point}" / "model.safetensors").read_bytes() for point in (32, 60)}
    assert len(weights) == 2
    drive = ["agent=dreamerv3", f"baseline={out / 'model-60'}", "episodes=1", f"out={tmp_path / 'row'}"]
    assert main(["drive", *drive]) == 0
    card = json.loads((tmp_path / "row" / "summary.json").read_text())["model"]
    assert (card["privileged"], card["decisions"]) == ("the task's reward", 60)


def test_the_gate_stands_beside_the_published_scores(tmp_path: Path) -> None:
    toy = ["steps=2040", "environments=2", "learning_starts=2020", "batch_size=2", "length=4", "train_ratio=0.1"]
    out = tmp_path / "out"
    assert main(["bench", "suite=dreamerv3_reacher", f"out={out}", *(f"suite.{word}" for word in toy)]) == 0
    lines = (out / "table.md").read_text().splitlines()
    assert "| 100000 | 30000 | 740 +- 196 | not run |" in lines
    curve = json.loads((out / "curve.json").read_text())["curve"]
    assert [step for step, _ in curve] == [2000, 2000], "two episodes of 1000 steps, in lockstep"
    assert all(0 <= value <= 1000 for _, value in curve)
