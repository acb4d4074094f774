"""Two processes that share each batch do what one does with all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import one_of_several
import pytest
import torch
from safetensors.torch import load_file
from tiny_model import ARCHITECTURE, TRAIN

import worldmodel
from tests.data.spoil import write_noise
from worldmodel.cli import VERBS, main
from worldmodel.cli_options import settings_from
from worldmodel.errors import ConfigError
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training import distributed
from worldmodel.training.run import train

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folders one and two of what one and two processes did, and what the two printed."""
    folder = tmp_path_factory.mktemp("both")
    build_model(ARCHITECTURE, 0).save_pretrained(folder / "encoder")
    words = ["train", f"data={write_noise(folder / 'data', 12, 16)}", f"encoder={folder / 'encoder'}", *TRAIN]
    for name in ("one", "two"):
        (folder / name).mkdir()
    paths = os.pathsep.join(map(str, (ROOT, HERE.parent, HERE)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(HERE / "one_of_several.py"), str(folder / "two"), *words, f"out={folder / 'two' / 'run'}"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one_of_several.main(folder / "one")
    assert main([*words, f"out={folder / 'one' / 'run'}"]) == 0
    return folder, done.stdout


def test_loss_gradients_and_weights_are_those_of_one_process(both: tuple[Path, str]) -> None:
    alone, shared = (load_file(both[0] / name / "found.safetensors") for name in ("one", "two"))
    assert set(alone) == set(shared)
    assert len(alone) > 60
    for name, value in alone.items():
        # Refining and imitating multiply in bf16, as training does.
        coarse = name.startswith(("members", "refine", "proposer"))
        tolerance = {"rtol": 2e-2, "atol": 2e-3} if coarse else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(shared[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_the_whole_command_runs_under_torchrun(both: tuple[Path, str]) -> None:
    folder, printed = both
    assert printed.count("pose_now_m") == 1, "only the first process speaks"
    reports = [json.loads((folder / name / "run/report.json").read_text()) for name in ("one", "two")]
    assert [report["machine"]["processes"] for report in reports] == [1, 2]
    first = [json.loads((folder / name / "run/joint.jsonl").read_text().splitlines()[0]) for name in ("one", "two")]
    assert first[0] == pytest.approx(first[1], rel=2e-2, abs=2e-3)
    assert worldmodel.load(folder / "two/run/model").sha256 == reports[1]["model_sha256"]


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "size", lambda: 3)
    with pytest.raises(ConfigError, match="expected batches of 4 to fit 3 processes"):
        distributed.share(torch.zeros(4).numpy())


@pytest.mark.parametrize(("batch_size", "wrong"), [(4, 4), (6, 256)])
def test_the_batches_of_every_stage_are_looked_at_before_anything_else(
    batch_size: int, wrong: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(distributed, "size", lambda: 3)
    words = [f"data={tmp_path / 'none'}", f"encoder={tmp_path / 'none'}", f"out={tmp_path / 'run'}", "device=cpu"]
    settings = settings_from(VERBS["train"].options, [*words, "predictor=tiny", f"batch_size={batch_size}"])
    del settings["validate_task"], settings["validate_episodes"]
    with pytest.raises(ConfigError, match=f"expected batches of {wrong} to fit 3 processes"):
        train(**settings)
    assert not (tmp_path / "run").exists()
