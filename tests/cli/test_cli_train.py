"""Options of `train` that reach beyond the loop: driving at the end, averaged weights, curves for TensorBoard."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE, TRAIN

import worldmodel
from worldmodel.bundle import fingerprint
from worldmodel.cli import main
from worldmodel.data.layout import Layout
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training.descent import Average

SIDE, LENGTH = 16, 12


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A training command of seconds, for an arm of three axes, without out=."""
    folder, rng, records = tmp_path_factory.mktemp("train"), np.random.default_rng(0), []
    build_model(ARCHITECTURE, 0).save_pretrained(folder / "encoder")
    layout = Layout(5, 3, 3, {"front": (SIDE, SIDE)})
    for episode in range(3):
        pictures = rng.integers(0, 255, (LENGTH, SIDE, SIDE, 3), dtype=np.uint8)
        proprio, actions = rng.uniform(-0.2, 0.2, (2, LENGTH, 3)).astype(np.float32)
        rollout = Rollout({"front": pictures}, proprio, actions)
        records.append(
            write_episode(folder / "data", layout, rollout, episode=episode, start=LENGTH * episode, task="go")
        )
    finalize(folder / "data", layout, records, tasks=["go"], extra={})
    return ["train", f"data={folder / 'data'}", f"encoder={folder / 'encoder'}", *TRAIN]


def test_the_finished_model_is_driven_on_validation_goals(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [*words, f"out={out}", "validate_task=jaco_reach", "validate_episodes=1"]
    assert main(command) == 0
    report = json.loads((out / "report.json").read_text())
    assert (report["planning"]["task"], report["planning"]["episodes"]) == ("jaco_reach", 1)
    assert report["planning"]["seeds"]["first"] == 100_000
    assert (out / "validation" / "index.html").is_file()
    assert "Driven on validation goals of jaco_reach (seeds 100000 to 100000" in (out / "model/README.md").read_text()
    assert fingerprint(out / "model") == report["model_sha256"] == worldmodel.load(out / "model").sha256
    assert main(command) == 0, "complete already"
    assert json.loads((out / "report.json").read_text()) == report


def test_a_task_that_does_not_exist_is_refused_before_anything_is_trained(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"out={tmp_path / 'run'}", "validate_task=jaco_pusch"]) == 2
    assert "did you mean 'jaco_push'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_averaged_weights_differ_from_the_last(words: list[str], tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 1)
    average = Average({"layer": layer}, 0.5)
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update()
    average.finish()
    assert layer.weight.tolist() == [[2.75, 2.75]], "1, then 1.5, then 2.75"
    runs = {}
    for ema in ("0.0", "0.5"):
        torch.manual_seed(0)
        assert main([*words, f"out={tmp_path / ema}", f"ema={ema}"]) == 0
        runs[ema] = json.loads((tmp_path / ema / "report.json").read_text())
    assert "ema" not in runs["0.0"]["settings"]
    assert runs["0.5"]["settings"]["ema"] == 0.5
    assert runs["0.0"]["model_sha256"] != runs["0.5"]["model_sha256"]


def test_tensorboard_that_is_not_installed_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    assert main([*words, f"out={tmp_path / 'run'}", "tensorboard=true"]) == 2
    assert "error: expected the package tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
