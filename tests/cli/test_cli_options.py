"""Mistakes in a command: one line that names the way out, exit code 2, nothing touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worldmodel.cli import VERBS, main
from worldmodel.cli_options import CONFIGS, LIMITS, Options, check_value, flatten, is_fixed

MISTAKES = [
    (["dirve"], "did you mean 'drive'?"),
    (["drive"], "option 'out' of drive is missing: give out=DIR"),
    (["train", "out=x", "data=y"], "option 'encoder' of train is missing"),
    (["drive", "out=new", "epsodes=3"], "unknown option 'epsodes' for drive: did you mean 'episodes'?"),
    (["drive", "out=new", "--episodes=3"], "did you mean 'episodes'?"),
    (["drive", "out=new", "+episodes=3"], "did you mean 'episodes'?"),
    (["drive", "out=new", "episodes"], "expected key=value after drive, got 'episodes': did you mean 'episodes=...'?"),
    (["drive", "out=new", "--fast"], "expected key=value after drive, got '--fast'"),
    (["drive", "out=new", ""], "expected key=value after drive, got ''"),
    (["drive", "out=new", "=3"], "unknown option '' for drive"),
    (["drive", "out=new", "num_sampels=3"], "did you mean 'planner.num_samples'?"),
    (["drive", "out=new", "planner.num_sample=3"], "did you mean 'planner.num_samples'?"),
    (["drive", "out=new", "planner=cem", "planner.temperature=1"], "unknown option 'planner.temperature'"),
    (["drive", "out=new", "planner.name=mppi"], "did you mean 'planner'?"),
    (["drive", "out=new", "hydra.verbose=true"], "unknown option 'hydra.verbose' for drive"),
    (
        ["drive", "out=new", "task=jaco_raech"],
        "did you mean 'jaco_reach'? (dmc_reacher | jaco_place | jaco_push | jaco_reach | jaco_rearrange | navigate)",
    ),
    (["drive", "out=new", "task=../task/jaco_reach"], "unknown task '../task/jaco_reach' for drive"),
    (["drive", "out=new", "task="], "unknown task '' for drive"),
    (["drive", "out=new", "planner=ppi"], "did you mean 'mppi'?"),
    (["drive", "out=new", "agent=oracel"], "did you mean 'oracle'?"),
    (["drive", "out=new", "agent=random,hold"], "expected planning | oracle | random | hold | behaviour_cloning |"),
    (["drive", "out=new", "episodes=abc"], "expected a whole number >= 1 for 'episodes' of drive, got 'abc'"),
    (["drive", "out=new", "episodes=0"], "expected a whole number >= 1"),
    (["drive", "out=new", "episodes=1.5"], "expected a whole number >= 1"),
    (["drive", "out=new", "episodes=true"], "expected a whole number >= 1"),
    (["drive", "out=new", "episodes=null"], "expected a whole number >= 1"),
    (["drive", "out=new", "episodes="], "expected a whole number >= 1"),
    (["drive", "out=new", "episodes=[1"], "expected a whole number >= 1"),
    (["drive", "out=new", "episodes=1,2"], "expected a whole number >= 1"),
    (["drive", "out=new", "episodes=${seed}"], "expected a whole number >= 1"),
    (["drive", "out=new", "seed=-1"], "expected a whole number >= 0 for 'seed'"),
    (["drive", "out=new", "video=yes"], "expected true or false for 'video' of drive, got 'yes'"),
    (["drive", "out=new", "threads=many"], "expected a whole number >= 1 or null for 'threads'"),
    (["drive", "out=new", "planner.momentum=nan"], "expected a number for 'planner.momentum'"),
    (["drive", "out=new", "planner.deadline=-1"], "expected a number >= 0.001 or null"),
    (["drive", "out=new", "oracle.rest=-1"], "expected a number >= 0 for 'oracle.rest' of drive, got '-1'"),
    (["drive", "out=new", "planning.rest=0.02"], "expected true or false or null for 'planning.rest' of drive"),
    (["drive", "out=new", "seed=1", "seed=2"], "option 'seed' of drive is given twice"),
    (["drive", "out=new", "task=jaco_reach", "task=jaco_push"], "option 'task' of drive is given twice"),
    (["drive", "out="], "expected a path for 'out' of drive, got ''"),
    (["drive", "out=a\nb"], "expected a path for 'out' of drive"),
    (["drive", "out=\udcff"], "expected a path for 'out' of drive"),
    (["collect", "out=new", "randomize_visuals=2"], "expected a number >= 0 and <= 1 for 'randomize_visuals'"),
    (["pretrain", "data=a", "out=new", "device=gpu"], "expected auto | cpu | cuda | mps for 'device'"),
    (["pretrain", "data=a", "out=new", "learning_rate=0"], "expected a number"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=str)
def test_a_mistake_is_one_line_and_touches_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_costs_no_heavy_import(tmp_path: Path) -> None:
    script = (
        "import sys; from worldmodel.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CONFIGS.parent)}
    command = [sys.executable, "-c", script, "drive", "out=new", "epsodes=3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: unknown option 'epsodes' for drive: did you mean 'episodes'?\n"
    assert not {"torch", "mujoco", "transformers", "gymnasium", "dm_control", "numpy"} & set(done.stdout.split())


def test_traceback_is_there_for_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drive", "--traceback"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("error: option 'out' of drive is missing")


def every_option() -> Iterator[tuple[Options, str, Any]]:
    """Each option of each verb under each choice of its groups, and its default."""
    for options in (verb.options for verb in VERBS.values()):
        for group in options.groups():
            for choice in options.choices(group):
                for key, value in flatten(options.compose([f"{group}={choice}"])):
                    yield options, key, value


def test_every_option_without_a_default_kind_has_a_limit() -> None:
    for options, key, value in every_option():
        path = key in options.paths + options.path_lists
        limit = LIMITS.get(key) or LIMITS.get(key.rpartition(".")[2])
        limited = limit is not None and limit.kind is not None
        assert path or limited or value is not None, f"{options.verb}: {key}"


def test_every_default_can_be_typed() -> None:
    """One limit for two options of one name would refuse what one of them has: check_value raises."""
    for options, key, value in every_option():
        if isinstance(value, bool | int | float) and not is_fixed(key):
            check_value(options, key, str(value).lower(), value)
