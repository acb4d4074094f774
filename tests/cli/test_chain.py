"""From nothing to a driving arm with toy sizes: the commands of the tutorial, as processes of their own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from worldmodel.cli import VERBS
from worldmodel.cli_options import settings_from
from worldmodel.data.hdf5 import DEFAULTS

TUTORIAL = (Path(__file__).parent.parent.parent / "docs" / "own_data.md").read_text(encoding="utf-8")


def commands(folder: str = "runs/own") -> list[list[str]]:
    """Every command of the page, word by word, with another folder in place of runs/own."""
    text = TUTORIAL.replace("\\\n", " ").replace("runs/own", folder)
    return [shlex.split(line) for line in re.findall(r"^worldmodel (.*)$", text, re.MULTILINE)]


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "worldmodel.cli", *words], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_collect_check_pretrain_train_drive(tmp_path: Path) -> None:
    chain = commands(str(tmp_path))[:5]
    assert [words[0] for words in chain] == ["collect", "check", "pretrain", "train", "drive"]
    printed = {words[0]: run(*words) for words in chain}
    assert printed["check"].endswith("\nno defects\n")
    control = str(tmp_path / "control")
    run("pretrain", f"data={tmp_path / 'data'}", f"out={control}", "encoder=tiny", "steps=0")
    health = json.loads((tmp_path / "control" / "health.json").read_text())
    spreads = [health[name]["spread"] for name in ("random", "pretrained")]
    assert abs(spreads[0] - spreads[1]) < 1e-4, "no steps: the random network itself"
    assert "complete already" in run(*chain[3])
    summary = json.loads((tmp_path / "drive" / "summary.json").read_text())
    assert summary["episodes"] == 1
    assert summary["failures"] == []
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert summary["model"]["sha256"] == report["model_sha256"]
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert sorted(split["train"] + split["validation"]) == list(range(8))


def test_every_command_of_the_tutorial_is_legal() -> None:
    for verb, *arguments in commands():
        assert settings_from(VERBS[verb].options, arguments)


def test_the_tutorials_mapping_names_what_there_is_to_name() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", TUTORIAL, re.DOTALL)
    assert set(yaml.safe_load(text)) == set(DEFAULTS["robomimic"].__dataclass_fields__)
