"""From nothing to a driving arm with toy sizes: the four commands a user types, as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "worldmodel.cli", *words], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_collect_pretrain_train_drive(tmp_path: Path) -> None:
    data, encoder, model, out = (str(tmp_path / name) for name in ("data", "encoder", "model", "out"))
    run("collect", "task=jaco_push", "episodes=8", "steps=12", f"out={data}")
    run("pretrain", f"data={data}", f"out={encoder}", "encoder=tiny", "steps=60", "learning_rate=1e-3", "batch_size=8")
    control = str(tmp_path / "control")
    run("pretrain", f"data={data}", f"out={control}", "encoder=tiny", "steps=0")
    health = json.loads((tmp_path / "control" / "health.json").read_text())
    spreads = [health[name]["spread"] for name in ("random", "pretrained")]
    assert abs(spreads[0] - spreads[1]) < 1e-4, "no steps: the random network itself"
    sizes = ("predictor=tiny", "steps=40", "track_steps=20", "track_rounds=1", "refine_steps=40", "batch_size=8")
    run("train", f"data={data}", f"encoder={encoder}/encoder", f"out={model}", *sizes)
    again = run("train", f"data={data}", f"encoder={encoder}/encoder", f"out={model}", *sizes)
    assert "complete already" in again
    search = ("planner.num_samples=16", "planner.num_iterations=2", "planner.num_elites=4")
    run("drive", "task=jaco_push", f"model={model}/model", f"out={out}", "episodes=1", *search)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["episodes"] == 1
    assert summary["failures"] == []
    assert summary["model"]["sha256"] == json.loads((tmp_path / "model" / "report.json").read_text())["model_sha256"]
