"""One whole row: what lies in the folder afterwards, also when it was interrupted or could not start."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_model

from benchmarks.agents import HoldAgent, OracleAgent
from benchmarks.drive import drive
from benchmarks.protocol import protocol_sha256
from benchmarks.run import Subject, run
from benchmarks.stats import wilson_interval
from tests.benchmarks.tiny_env import HomingAgent, TinyEnv, maker
from worldmodel.bundle import save
from worldmodel.cli import main
from worldmodel.cli_options import Options
from worldmodel.errors import ConfigError, ImageError, OutputError
from worldmodel.model import WorldModel
from worldmodel.training.device import choose_device

SEED = 1_000_000


def subject(make_agent: Callable[[Any], Any] = lambda env: HomingAgent(), **options: Any) -> Subject:
    return Subject(
        env_id="tests/Tiny-v0",
        task="tiny",
        make_env=maker(**options),
        agent="planning",
        make_agent=make_agent,
        planner="cem",
        model={"name": "homing", "sha256": "0" * 64},
        settings={"num_samples": 3},
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_a_row_has_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "row"
    options = {"fault": "raises", "fault_seed": SEED + 2}
    summary = run(subject(**options), episodes=5, seed=SEED, out=out, parallel=2, config="task: tiny\n")
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [line["seed"] for line in lines(out)] == [SEED + i for i in range(5)]
    assert (summary["successes"], summary["success_rate"], summary["held"], summary["held_rate"]) == (4, 0.8, 4, 0.8)
    assert summary["success_ci95"] == pytest.approx(wilson_interval(4, 5), abs=1e-4)
    error = "environment at decision 3: RuntimeError: the world broke"
    assert summary["failures"] == [{"seed": SEED + 2, "error": error}]
    distances = [line["final_distance_m"] for line in lines(out)]
    assert distances[2] is None
    finite = [distance for distance in distances if distance is not None]
    assert summary["final_distance_m"] == {
        "mean": pytest.approx(np.mean(finite), abs=1e-6),
        "median": pytest.approx(sorted(finite)[2], abs=1e-6),  # the failure counts as the farthest of five
        "measured": 4,
    }
    assert summary["seeds"] == {"first": SEED, "last": SEED + 4, "range": "test"}
    assert summary["protocol"] == {"version": 2, "sha256": protocol_sha256()}
    assert set(summary["versions"]) == {"python", "torch", "mujoco", "dm_control", "numpy", "gymnasium", "gl"}
    assert set(summary["machine"]) == {"cpu", "cores", "threads", "device"}
    assert summary["model"] == {"name": "homing", "sha256": "0" * 64}
    assert (summary["task"], summary["planner"], summary["agent"]) == ("tiny", "cem", "planning")
    seconds = summary["seconds_per_decision"]
    assert 0 < seconds["p50"] <= seconds["p95"]
    assert summary["interrupted"] is False
    assert (out / "config.yaml").read_text() == "task: tiny\n"
    shown = capsys.readouterr()
    assert "reached         4/5" in shown.out
    assert f"seed {SEED + 2}: {error}" in shown.out
    assert str(out / "index.html") in shown.out
    assert "tiny · planning (cem): 100%" in shown.err
    assert "success 4/5, failed 1" in shown.err


def test_seconds_are_shared_by_the_episodes_of_a_batch(tmp_path: Path) -> None:
    summary = run(subject(), episodes=4, seed=SEED, out=tmp_path, parallel=4)
    assert summary["seconds_per_decision"]["p50"] == pytest.approx(summary["seconds_per_act"]["p50"] / 4, abs=1e-6)


class Interrupter(HomingAgent):
    """Ctrl-C in the middle of the third episode."""

    episodes = 0

    def reset(self, goals: Any, seeds: Any) -> None:
        super().reset(goals, seeds)
        self.episodes += 1

    def act(self, observations: Any) -> Any:
        if self.episodes == 3:
            raise KeyboardInterrupt
        return super().act(observations)


def test_an_interruption_keeps_what_is_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(subject(lambda env: Interrupter()), episodes=5, seed=SEED, out=tmp_path, video=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["interrupted"] is True
    assert (summary["episodes"], summary["successes"], summary["success_rate"]) == (2, 2, 1.0)
    assert [line["seed"] for line in lines(tmp_path)] == [SEED, SEED + 1]
    assert "Interrupted after 2 of 5 episodes." in (tmp_path / "index.html").read_text()
    videos = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert videos == sorted(f"{seed}.{kind}" for seed in (SEED, SEED + 1) for kind in ("mp4", "png"))


def test_an_interruption_before_the_first_episode_ends(tmp_path: Path) -> None:
    def interrupted(env: Any) -> Any:
        agent = Interrupter()
        agent.episodes = 2
        return agent

    with pytest.raises(KeyboardInterrupt):
        run(subject(interrupted), episodes=5, seed=SEED, out=tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["episodes"], summary["success_rate"], summary["success_ci95"]) == (0, None, None)


def test_a_goal_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = Image.new("RGB", (96, 64), "black")
    picture.paste((255, 255, 255), (44, 28, 52, 36))
    picture.save(tmp_path / "goal.png")
    summary = run(subject(), episodes=2, seed=SEED, out=tmp_path / "row", goal=tmp_path / "goal.png", video=True)
    keys = ("successes", "success_rate", "success_ci95", "held", "held_rate", "held_ci95")
    assert [summary[key] for key in keys] == [None] * 6
    assert summary["final_distance_m"]["median"] is None
    assert "unknown" in summary["success_unknown"]
    assert "96 x 64 px, centre-cropped to 64 x 64, resized to 32 x 32" in capsys.readouterr().out
    assert all(line["reached"] is None and line["error"] is None for line in lines(tmp_path / "row"))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"episodes": 0}, ConfigError, "expected episodes and parallel >= 1, got 0 and 1"),
        ({"parallel": 0}, ConfigError, "got 1 and 0"),
        ({"seed": 199_999, "episodes": 2}, ConfigError, "got 199999 to 200000"),
        ({"goal": Path("absent.png")}, ImageError, "absent.png"),
    ],
)
def test_what_cannot_start_leaves_nothing(tmp_path: Path, change: dict[str, Any], error: type, said: str) -> None:
    settings: dict[str, Any] = {"episodes": 1, "seed": SEED, "out": tmp_path / "row", **change}
    with pytest.raises(error, match=said):
        run(subject(), **settings)
    assert not (tmp_path / "row").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="choose another out="):
        run(subject(), episodes=1, seed=SEED, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_world_that_does_not_start_at_all_is_the_users_to_hear(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="would not start"):
        run(subject(fault="raises_at_reset"), episodes=1, seed=SEED, out=tmp_path / "row")
    assert not (tmp_path / "row").exists()


def test_a_task_that_differs_from_the_protocol_is_refused(tmp_path: Path) -> None:
    import dataclasses

    with pytest.raises(ConfigError, match=f"got {TinyEnv.budget} and {TinyEnv.success_radius} m"):
        run(
            dataclasses.replace(subject(), env_id="worldmodel/JacoPush-v0"), episodes=1, seed=SEED, out=tmp_path / "row"
        )


def test_agents_with_resources_are_closed(tmp_path: Path) -> None:
    from functools import partial

    from planners import cem

    agents: list[OracleAgent] = []

    def make(env: Any) -> OracleAgent:
        agents.append(OracleAgent(maker(), partial(cem, num_samples=8, num_elites=2, num_iterations=1), horizon=2))
        return agents[0]

    run(subject(make), episodes=1, seed=SEED, out=tmp_path)
    assert agents[0]._mirrors == []


DRIVE = Options("drive").compose()


@pytest.mark.parametrize("agent", ["random", "hold"])
def test_the_command_drives_the_real_arm(tmp_path: Path, agent: str) -> None:
    summary = drive(**{**DRIVE, "agent": agent, "episodes": 1, "out": tmp_path, "video": agent == "hold"})
    assert (summary["agent"], summary["planner"], summary["model"]["name"]) == (agent, None, None)
    assert summary["failures"] == []
    assert summary["budget"] == 15
    assert "OpenGL" in summary["versions"]["gl"]
    assert summary["trespasses"] is None


def test_the_oracle_searches_as_far_as_it_is_told(tmp_path: Path) -> None:
    short = {"horizon": 2, "initial_std": 0.2, "num_samples": 5, "num_elites": 2, "num_iterations": 2, "rest": 0.001}
    summary = drive(**{**DRIVE, "agent": "oracle", "episodes": 1, "out": tmp_path, "oracle": short})
    assert summary["planner_settings"].items() >= short.items()
    assert summary["failures"] == []
    candidates = 2 * (5 + 2)  # per iteration the samples, standing still and the rest of the last plan
    assert lines(tmp_path)[0]["candidate_steps"][-1] <= candidates * 2


def reddish(folder: Path) -> int:
    """How many pixels of the camera's panel in the first picture of the film are of the colour of forbidden edges."""
    with av.open(str(folder / "videos" / "100000.mp4")) as film:
        panel = next(film.decode(video=0)).to_ndarray(format="rgb24")[:, :420].astype(int)
    return int(((panel[..., 0] > 180) & (panel[..., 1] < 150) & (panel[..., 2] < 150)).sum())


def test_what_the_hand_does_in_a_forbidden_box_is_counted_and_drawn(tmp_path: Path) -> None:
    limits = {**DRIVE["guardrails"], "keep_out": 0.3, "hard": False, "weight": 0.0}
    small = {**DRIVE["planner"], "num_samples": 64, "num_elites": 8}
    settings = {**DRIVE, "planner": small, "episodes": 1, "guardrails": limits, "video": True}
    careless = drive(**{**settings, "out": tmp_path / "careless"})
    assert careless["trespasses"] > 0
    careful = drive(**{**settings, "out": tmp_path / "careful", "guardrails": {**limits, "hard": True, "weight": 10.0}})
    assert careful["trespasses"] == 0
    assert careful["planner_settings"]["guardrails"]["hard"]
    drive(**{**settings, "out": tmp_path / "free", "guardrails": {**limits, "keep_out": 0.0}})
    assert reddish(tmp_path / "careful") > reddish(tmp_path / "free") + 300


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"agent": "planing"}, "expected agent to be one of planning, oracle, .*got 'planing'"),
        ({"agent": "oracle", "planner": {"name": "cme"}}, "expected planner to be one of cem, icem"),
        ({"agent": "oracle", "goal": "goal.png"}, "use agent=planning"),
    ],
)
def test_the_command_refuses(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        drive(**{**DRIVE, "episodes": 1, "out": tmp_path / "row", **change})
    assert not (tmp_path / "row").exists()


@pytest.mark.parametrize(
    ("sizes", "got"),
    [({"action_dim": 7, "proprio_dim": 7}, "7 and 7"), ({"action_dim": 6, "frame_skip": 1}, "6 and 3")],
)
def test_a_model_of_another_robot_is_refused_before_it_drives(
    sizes: dict[str, int], got: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tiny_model()
    other = WorldModel(small.encoder, dataclasses.replace(small.config, **sizes), name="other")
    save(other, tmp_path / "model", "")
    command = ["drive", "task=jaco_reach", "episodes=1", f"model={tmp_path / 'model'}", f"out={tmp_path / 'row'}"]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(
        f"error: expected a model of the task's 3 action and 3 proprioception numbers, got {got}"
    )
    assert not (tmp_path / "row").exists()


def test_a_model_that_skips_frames_drives_where_it_was_trained(tmp_path: Path) -> None:
    small = tiny_model()
    save(
        WorldModel(small.encoder, dataclasses.replace(small.config, action_dim=6, frame_skip=2)), tmp_path / "model", ""
    )
    summary = drive(**{**DRIVE, "episodes": 1, "model": tmp_path / "model", "out": tmp_path / "row"})
    assert summary["failures"] == []
    assert summary["machine"]["device"].partition(":")[0] == choose_device("auto").type


def test_a_device_that_is_not_here_is_refused(tmp_path: Path) -> None:
    absent = "cuda" if choose_device("auto").type != "cuda" else "mps"
    with pytest.raises(ConfigError, match=f"expected a device that is here, got '{absent}'"):
        drive(**{**DRIVE, "episodes": 1, "out": tmp_path / "row", "device": absent})
    assert not (tmp_path / "row").exists()


def test_hold_agents_never_leave_the_start(tmp_path: Path) -> None:
    summary = run(subject(lambda env: HoldAgent(3)), episodes=3, seed=SEED, out=tmp_path)
    assert summary["successes"] == 0
    assert summary["success_ci95"][0] == 0
    for line in lines(tmp_path):
        assert line["final_distance_m"] == line["distances_m"][0]
