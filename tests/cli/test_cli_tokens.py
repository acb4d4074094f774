"""From a folder of logs to a driving model with predictor=tokens_tiny, as processes of the command line would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_model import ARCHITECTURE

import worldmodel
from worldmodel.bundle import fingerprint
from worldmodel.cli import VERBS, main
from worldmodel.cli_options import settings_from
from worldmodel.data.layout import Layout
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.pretrain.vjepa import build_model

SIDE, LENGTH = 16, 12
TOY = ["steps=2", "pose_steps=2", "batch_size=2", "device=cpu", "predictor=tokens_tiny"]
QUICK = ["episodes=1", "planner.num_samples=4", "planner.num_elites=2", "planner.num_iterations=1"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A training command of seconds, for an arm of three axes, without out=."""
    folder, rng, records = tmp_path_factory.mktemp("tokens"), np.random.default_rng(0), []
    build_model(ARCHITECTURE, 0).save_pretrained(folder / "encoder")
    layout = Layout(5, 3, 3, {"front": (SIDE, SIDE)})
    for episode in range(3):
        pictures = rng.integers(0, 255, (LENGTH, SIDE, SIDE, 3), dtype=np.uint8)
        actions = rng.uniform(-1.0, 1.0, (LENGTH, 3)).astype(np.float32)
        rollout = Rollout({"front": pictures}, np.cumsum(0.05 * actions, axis=0, dtype=np.float32), actions)
        records.append(
            write_episode(folder / "data", layout, rollout, episode=episode, start=LENGTH * episode, task="go")
        )
    finalize(folder / "data", layout, records, tasks=["go"], extra={})
    return ["train", f"data={folder / 'data'}", f"encoder={folder / 'encoder'}", *TOY]


def test_train_and_drive(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ["planning.proprio_weight=0.5", "planning.horizon=2", "objective.rollout_steps=3", "objective.detach=true"]
    assert main([*words, f"out={out}", *given]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["objective"] == {"loss": "l1", "rollout_steps": 3, "rollout_weight": 1.0, "detach": True}
    assert report["model_sha256"] == fingerprint(out / "model")
    assert {"tokens_after_8", "tokens_still_8", "pose_now_m", "pose_after_8_m"} < set(report["validation"])
    assert "a transformer on its tokens" in (out / "model" / "README.md").read_text()
    lines = [json.loads(line) for line in (out / "tokens.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0]
    model = worldmodel.load(out / "model")
    assert isinstance(model, worldmodel.TokenModel)
    assert (model.predictor.latent_tokens, model.config.planning["horizon"]) == (4, 2)
    assert main([*words, f"out={out}", *given]) == 0, "complete already"
    drive = ["drive", "task=jaco_reach", f"model={out / 'model'}", *QUICK]
    assert main([*drive, f"out={tmp_path / 'own'}"]) == 0
    assert main([*drive, f"out={tmp_path / 'told'}", "planning=tokens", "planning.distance=cosine"]) == 0
    for name in ("own", "told"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["failures"] == []
        assert summary["model"]["sha256"] == report["model_sha256"]


def test_a_choice_brings_what_goes_with_it_unless_told_otherwise() -> None:
    common = ["data=a", "encoder=b", "out=c"]
    plain, tokens, chosen = (
        settings_from(VERBS["train"].options, [*common, *more])
        for more in ([], ["predictor=transformer"], ["predictor=transformer", "planning=standard"])
    )
    assert "distance" in plain["planning"]
    assert "place_weight" in plain["planning"]
    assert "rollout_steps" in tokens["objective"]
    assert "chunk" in tokens["planning"]
    assert chosen["planning"] == plain["planning"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["objective=standard"], "give objective=tokens"),
        (["planning=standard"], "expected a setting of"),
        (["window=9"], "expected rollout_steps <= window <= predictor.context, got 2, 9 and 8"),
        (["objective.rollout_steps=4", "window=3"], "got 4, 3 and 8"),
        (["predictor.heads=5"], "multiple"),
        (["predictor.kinematics=pose"], "use fitted"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    more: list[str], message: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"out={tmp_path / 'run'}", *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run" / "model").exists()
