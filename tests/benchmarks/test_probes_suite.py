"""`worldmodel bench suite=probes`: centimetres from the model, and success over how far away the goals are."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tiny_model import tiny_model

from benchmarks.drive import drive
from benchmarks.probes import draw_logs, probe, write_curves
from benchmarks.report_probes import horizons, probes
from benchmarks.report_rows import pairs, read_rows
from benchmarks.report_suite import write_suite_report
from benchmarks.run import run
from tests.benchmarks.test_evaluation_page import Page
from tests.benchmarks.test_evaluation_run import DRIVE, SEED, lines, subject
from tests.benchmarks.test_report_suite import holding
from worldmodel.bundle import save
from worldmodel.cli import VERBS, driven, main
from worldmodel.errors import ConfigError

TOY = {"logs": 4, "log_steps": 14, "log_seed": 150_000, "windows": 8, "horizon": 3}
REACH = {"name": "jaco_reach", "id": "worldmodel/JacoReach-v0"}
PUSH = {"name": "jaco_push", "id": "worldmodel/JacoPush-v0"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save(tiny_model(), path, "# card")
    return path


def test_the_suite(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"task=jaco_reach agent=hold goal_after={far}" for far in (5, 10)]
    toy = [f"suite.{key}={value}" for key, value in {**TOY, "episodes": 1}.items()]
    words = ["bench", "suite=probes", f"model={model}", f"out={tmp_path}", f"suite.rows={rows}", "threads=1", *toy]
    assert main(words) == 0
    assert capsys.readouterr().out.count("probes of jaco_reach") == 1
    (path,) = tmp_path.glob("probes-*.json")
    found = json.loads(path.read_text())
    assert set(found["probe_errors_cm"]) == {"hand"}  # nothing is moved in this task
    assert set(found["k_step_errors_cm"]) == {"hand"}
    assert all(0 < error < 100 for error in found["probe_errors_cm"]["hand"].values())
    assert len(found["k_step_errors_cm"]["hand"]["model"]) == TOY["horizon"]
    assert (tmp_path / "plannable_horizon-jaco_reach.svg").read_text().startswith("<?xml")
    assert len((tmp_path / "table.md").read_text().splitlines()) == 4
    page = Page((tmp_path / "index.html").read_text().replace("<script>", "<style>").replace("</script>", "</style>"))
    assert "Probes" in page.text
    assert "Goals further away" in page.text
    assert main(words) == 0  # and nothing is measured twice
    assert "probes of" not in capsys.readouterr().out


def test_another_model_or_setting_has_a_file_of_its_own(model: Path, tmp_path: Path) -> None:
    changed, out = tiny_model(), tmp_path / "out"
    changed.tracker.origin.add_(1.0)
    save(changed, tmp_path / "other", "# card")
    for path, settings in ((model, TOY), (tmp_path / "other", TOY), (model, {**TOY, "horizon": 2}), (model, TOY)):
        probe([REACH], out, path, **settings)
    found = [json.loads(path.read_text()) for path in out.glob("probes-*.json")]
    assert len(found) == 3
    head, body, _ = probes(out)
    hands = [dict(zip(head, (text for text, _ in line), strict=True)) for line in body if line[2][0] == "hand"]
    assert len({each["model"] for each in hands}) == 2
    assert head[6:9] == ["after 1", "after 2", "after 3"]
    assert sorted(each["after 3"] == "" for each in hands) == [False, False, True]


def test_logs_are_those_of_the_seeds(tmp_path: Path) -> None:
    table = draw_logs(PUSH["id"], 2, 6, 150_000)
    assert table.frames.shape == (12, 128, 128, 3)
    assert table.privileged.shape == (12, 3)
    assert table.episode.tolist() == [0] * 6 + [1] * 6
    env: Any = gymnasium.make(PUSH["id"]).unwrapped
    for episode in (0, 1):
        observation, _ = env.reset(seed=150_000 + episode, options={"explore": True})
        np.testing.assert_array_equal(table.frames[6 * episode], observation["pixels"])
        for row in range(6 * episode, 6 * episode + 5):
            observation = env.step(table.actions[row])[0]
            np.testing.assert_array_equal(table.proprio[row + 1], observation["proprio"])
    assert np.isnan(draw_logs(REACH["id"], 1, 2, 150_000).privileged).all()
    env.close()


def test_seeds_of_no_range_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got 199999 to 200002"):
        probe([PUSH], tmp_path / "out", model, **{**TOY, "log_seed": 199_999})
    assert not (tmp_path / "out").exists()


def test_the_curve_is_success_over_the_distance_of_the_goals(tmp_path: Path) -> None:
    for far, made in (
        (10, subject(fault="raises", fault_seed=SEED)),
        (5, subject()),
        (20, holding()),
        (None, subject()),
    ):
        rows = dataclasses.replace(made, variant={"goal_after": far})
        run(rows, episodes=2, seed=SEED, out=tmp_path / f"{far}")
    found = horizons(read_rows(tmp_path))
    assert {name: [far for far, _ in rows] for name, rows in found["tiny"].items()} == {"planning (cem)": [5, 10]}
    assert [row.rate for _, row in found["tiny"]["planning (cem)"]] == [1.0, 0.5]
    assert pairs(read_rows(tmp_path)) == []  # other goals are other episodes
    for far in (5, 10):
        other = dataclasses.replace(subject(), variant={"goal_after": far}, settings={"num_samples": 3, "horizon": 3})
        run(other, episodes=2, seed=SEED, out=tmp_path / f"other-{far}")
    assert set(horizons(read_rows(tmp_path))["tiny"]) == {"planning (cem)", "planning (cem), horizon 3"}
    assert [path.name for path in write_curves(tmp_path)] == ["plannable_horizon-tiny.svg"]
    assert "goal_after 5" in write_suite_report(tmp_path).read_text()


def test_the_command_drives_to_logged_goals(tmp_path: Path) -> None:
    settings = {**DRIVE, "agent": "hold", "episodes": 2, "seed": 100_000}
    done = drive(**{**settings, "out": tmp_path / "far", "goal_after": 20})
    assert done["variant"] == {"shift": None, "goal_after": 20}
    assert (done["budget"], done["successes"], done["failures"]) == (15, 0, [])
    env: Any = gymnasium.make("worldmodel/JacoReach-v0")
    for line in lines(tmp_path / "far"):
        _, info = env.reset(seed=line["seed"], options={"goal_after": 20})
        assert line["distances_m"][0] == pytest.approx(info["distance"], abs=1e-6)
    env.close()
    for wrong in ({"shift": "camera"}, {"goal": "goal.png"}, {"guardrails": {**DRIVE["guardrails"], "keep_out": 0.1}}):
        with pytest.raises(ConfigError, match="expected goal_after=20 without"):
            drive(**{**settings, "out": tmp_path / "none", "goal_after": 20, **wrong})


def test_the_settings_are_those_of_the_suite() -> None:
    suite = VERBS["bench"].options.compose(["suite=probes"])["suite"]
    common = {key: suite.pop(key) for key in ("episodes", "seed", "parallel")}
    taken = inspect.signature(probe).parameters
    assert set(suite) - {"name", "rows"} == {name for name, each in taken.items() if each.kind is each.KEYWORD_ONLY}
    planned = [driven(words, common, None)["settings"] for words in suite["rows"] if "agent=" not in words]
    far = {(each["task"]["name"], each["goal_after"]) for each in planned}
    assert far == {(task, far) for task in ("jaco_reach", "jaco_push") for far in range(5, 31, 5)}
