"""Whole commands on the real environments: results, the settings beside them, refusals, interruptions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from worldmodel.cli import main
from worldmodel.cli_options import CONFIGS

ODD = "odd, a=b [ü] 'q' ${x}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == lines[-1:]
    assert not any("Traceback" in line for line in lines)
    return errors[0]


def test_drive_leaves_its_settings_and_refuses_to_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / ODD
    command = ["drive", f"out={out}", "agent=random", "task=jaco_reach", "episodes=1", "planner=mppi"]
    assert main(command) == 0
    kept = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert (kept["out"], kept["agent"], kept["episodes"], kept["seed"]) == (str(out), "random", 1, 100000)
    assert kept["planner"]["name"] == "mppi"
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["episodes"] == 1
    before = contents(out)
    capsys.readouterr()
    assert main([*command, "seed=7"]) == 2
    assert "which exists: choose another out=" in complaint(capsys)
    assert contents(out) == before


def test_collect_leaves_its_settings_and_refuses_other_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / ODD
    command = ["collect", f"out={out}", "task=jaco_push", "steps=3", "workers=1"]
    assert main([*command, "episodes=2"]) == 0
    assert "2 episodes, 6 frames of jaco_push" in capsys.readouterr().out
    assert yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))["task"]["name"] == "jaco_push"
    before = contents(out)
    assert main([*command, "episodes=3"]) == 2
    assert "episodes 2 there and 3 asked" in complaint(capsys)
    assert contents(out) == before


@pytest.mark.parametrize("name", ["file", "folder"])
def test_a_folder_in_use_is_left_alone(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.txt").write_text("mine")
    before = contents(tmp_path)
    for verb in ("drive", "collect"):
        assert main([verb, f"out={tmp_path / name}", "episodes=1"] + ["agent=hold"] * (verb == "drive")) == 2
        assert "choose another out=" in complaint(capsys)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agent=hold", "goal={file}"], "expected an image"),
        (["agent=hold", "goal={folder}/absent.png"], "absent.png"),
        (["agent=hold", "seed=99999", "episodes=2"], "expected all episode seeds in one of the ranges"),
        (["agent=planning", "model={folder}"], "{folder}"),
        (["agent=planning", "model={folder}/absent"], "{folder}/absent"),
        (["agent=planning", "model=jako"], "jako"),
    ],
)
def test_bad_input_to_drive(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "not an image.png").write_text("no")
    places = {"file": tmp_path / "not an image.png", "folder": folder}
    assert main(["drive", f"out={tmp_path / 'out'}", *(word.format(**places) for word in words)]) == 2
    assert message.format(**places) in complaint(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["drive", "collect"])
@pytest.mark.parametrize(
    "hostile", [{"MUJOCO_GL": "bogus"}, {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"}]
)
def test_without_opengl_one_line_says_what_to_do(verb: str, hostile: dict[str, str], tmp_path: Path) -> None:
    arguments = [verb, f"out={tmp_path / 'out'}", "episodes=1"] + ["agent=hold"] * (verb == "drive")
    done = subprocess.run(command(arguments), env=environment(**hostile), capture_output=True, text=True)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search("install Mesa|unset it", errors[0])
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/config.yaml").exists() or verb == "collect"


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["collect", f"out={out}", "episodes=500", "steps=2", "workers=1"]
    process = subprocess.Popen(command(arguments), env=environment(), stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    seen = b""
    while not re.search(rb" [1-9]\d*/1000 ", seen):
        more = os.read(process.stderr.fileno(), 4096)
        assert more, seen
        seen += more
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the parent and its workers
    rest = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 130
    assert rest.endswith("interrupted, kept: all that is finished; the same command again goes on from there\n")
    assert "Traceback" not in rest
    assert yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))["episodes"] == 500
    assert list((out / "meta/collect").glob("episode-*.json"))


def test_info_prints_facts_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  torch: \d", text, re.MULTILINE)
    assert main(["info", "json=true"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["mujoco"] in text
    assert facts["gl"].startswith(("egl: ", "osmesa: ", "glfw: ", "cgl: "))


def command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "worldmodel.cli", *arguments]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CONFIGS.parent), **extra}


def test_a_suite_is_rows_of_drive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "['task=jaco_reach agent=hold','task=jaco_push agent=random episodes=1']"
    words = ["bench", "suite=smoke", f"suite.rows={rows}", f"out={tmp_path / 'rows'}", "threads=1"]
    assert main(words) == 0
    table = (tmp_path / "rows" / "table.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[-2] for line in table] == ["2", "1"]
    kept = [path.read_text() for path in sorted((tmp_path / "rows").glob("*/config.yaml"))]
    assert all(text.startswith("# worldmodel drive task=jaco_") and "parallel=2" in text for text in kept)
    capsys.readouterr()
    assert main([*words, "shard=2/2"]) == 2
    assert "expected shard=i/n" in capsys.readouterr().err
    assert main(["bench", "suite=smoke", "suite.rows=['task=jaco_rech']", f"out={tmp_path / 'none'}"]) == 2
    assert "did you mean 'jaco_reach'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
