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
from worldmodel.baselines.run import SKIPPING, baseline
from worldmodel.errors import ConfigError
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


def trained(kind: str, data: Path, folder: Path, frame_skip: int) -> Baseline:
    build_model(ARCHITECTURE, 0).save_pretrained(folder / "encoder")
    settings = {"kind": {"name": kind, **KINDS[kind]}, "steps": 2, "learning_rate": 1e-3, "seed": 0}
    out, encoder = folder / "run", str(folder / "encoder")
    baseline(data=[str(data)], encoder=encoder, out=str(out), device="cpu", frame_skip=frame_skip, **settings)
    return load_baseline(out / "model", kind)[0]


@pytest.mark.parametrize("kind", SKIPPING)
def test_a_policy_with_a_frame_skip_looks_once_and_does_its_actions_one_by_one(kind: str, tmp_path: Path) -> None:
    model = trained(kind, record(tmp_path / "data", UNIT), tmp_path, 2)
    pictures = np.random.default_rng(0).integers(0, 255, (4, 2, SIDE, SIDE, 3), dtype=np.uint8)
    agent, seen = acting(model), [{"pixels": each, "proprio": np.zeros((2, 2), np.float32)} for each in pictures[1:]]
    agent.reset(pictures[0], [0, 1])
    first, second, third = (agent.act(each) for each in seen)
    assert first.shape == second.shape == third.shape == (2, 4)
    agent.reset(pictures[0], [0, 1])
    again, whatever_it_sees = agent.act(seen[0]), agent.act(seen[2])
    assert np.array_equal(first, again)
    assert np.array_equal(second, whatever_it_sees)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, third)
    agent.act(seen[1])
    agent.reset(pictures[0], [0, 1])  # forgets what was left
    assert np.array_equal(agent.act(seen[0]), first)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - set(SKIPPING)))
def test_a_frame_skip_that_could_not_be_driven_is_refused_before_the_logs_are_read(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"for kind={kind}, got 5: leave it away, or .* behaviour_cloning or"):
        trained(kind, tmp_path / "not there", tmp_path, 5)
