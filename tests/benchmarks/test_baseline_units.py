"""Baselines on logs of any unit: they learn and search in [-1, 1], and act in the units of the logs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE

from benchmarks.agents import DreamerAgent, DreamerPlanningAgent, PixelPredictionAgent, PolicyAgent
from planners import cem
from tests.training.test_action_units import SIDE, record
from worldmodel.baselines.bundle import Baseline, load_baseline
from worldmodel.baselines.dreamer_policy import DreamerBaseline
from worldmodel.baselines.pixels import PixelPredictor
from worldmodel.baselines.run import baseline
from worldmodel.pretrain.vjepa import build_model
from worldmodel.types import Agent

POLICY = {"latent_dim": 8, "token_width": 4, "projector_hidden": 16, "hidden": 16, "blocks": 1, "batch_size": 4}
DREAMER = {"length": 6, "batch_size": 2, "warmup": 0}
KINDS: dict[str, dict[str, Any]] = {
    "behaviour_cloning": POLICY,
    "inverse_dynamics": {**POLICY, "span": 4},
    "pixel_prediction": {"side": 16, "channels": 4, "hidden": 16, "blocks": 1, "window": 3, "batch_size": 4},
    "dreamerv3": {**DREAMER, "reward": "success"},
    "dreamerv3_planning": DREAMER,
}
UNIT = np.array([1 / 16, 1 / 16, 8.0, 1 / 2], np.float32)  # powers of two, so that not a bit is lost


def acting(model: Baseline) -> Agent:
    search = partial(cem, num_samples=8, num_elites=3, num_iterations=2)
    if isinstance(model, PixelPredictor):
        return PixelPredictionAgent(model, search, horizon=2)
    if isinstance(model, DreamerBaseline):
        return DreamerPlanningAgent(model, search, horizon=2) if model.config.plans else DreamerAgent(model)
    return PolicyAgent(model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_changes_nothing_but_the_unit(kind: str, tmp_path: Path) -> None:
    if kind.startswith("dreamerv3"):
        pytest.importorskip("sheeprl", reason="needs the extra: see docs/dreamerv3.md")
    build_model(ARCHITECTURE, 0).save_pretrained(tmp_path / "encoder")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (2, 2, SIDE, SIDE, 3), dtype=np.uint8)
    models, actions = [], []
    for name, unit in (("plain", np.ones(4, np.float32)), ("scaled", UNIT)):
        data, out = record(tmp_path / name, unit), tmp_path / f"run-{name}"
        settings = {"kind": {"name": kind, **KINDS[kind]}, "steps": 2, "learning_rate": 1e-3, "seed": 0}
        torch.manual_seed(0)
        baseline(data=[str(data)], encoder=str(tmp_path / "encoder"), out=str(out), device="cpu", **settings)
        models.append(load_baseline(out / "model", kind)[0])
        agent = acting(models[-1])
        agent.reset(pictures[0], [0, 1])
        actions.append(agent.act({"pixels": pictures[1], "proprio": np.zeros((2, 2), np.float32)}))
    assert models[0].config.action_range is None
    assert models[1].config.action_range == [list(-UNIT), list(UNIT)]
    for (part, a), b in zip(models[0].trainable().items(), models[1].trainable().values(), strict=True):
        for first, second in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert torch.equal(first, second), part
    assert actions[0].any()
    assert np.array_equal(actions[0] * UNIT, actions[1])
