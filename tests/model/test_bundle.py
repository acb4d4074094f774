"""A model on disk: the same model comes back, and nothing damaged or foreign does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import tiny_model

from worldmodel.bundle import load, save
from worldmodel.encoders import load_encoder
from worldmodel.errors import BundleError, ConfigError, EncoderError, WorldModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save(tiny_model(), path, "# card")
    return path


def frames(batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (batch, 48, 48, 3), dtype=np.uint8)


def test_the_same_model_comes_back(folder: Path) -> None:
    model, again = tiny_model(), load(folder)
    pictures = torch.from_numpy(frames(2))[:, None]
    assert torch.equal(model.encode(pictures), again.encode(pictures))
    assert again.config == model.config
    assert again.sha256 == load(folder).sha256
    assert len(again.sha256) == 64


def test_an_agent_acts_in_the_box_for_several_episodes_and_repeats_itself(folder: Path) -> None:
    actions = []
    for _ in range(2):
        agent = load(folder).agent(planner="cem", num_elites=5)
        agent.reset(frames(3), [1, 2, 3])
        state = torch.random.get_rng_state()
        actions.append(agent.act({"pixels": frames(3), "proprio": np.zeros((3, 3), np.float32)}))
        assert torch.equal(state, torch.random.get_rng_state())
        assert agent.decision.path is not None
        assert agent.decision.path.shape == (3, 3, 3)
    assert actions[0].shape == (3, 3)
    assert actions[0].dtype == np.float32
    assert float(np.abs(actions[0]).max()) <= 1.0
    assert np.array_equal(actions[0], actions[1])


@pytest.mark.parametrize("planner", ["icem", "mppi", "random_shooting", "gradient"])
def test_every_planner_drives_the_model(folder: Path, planner: str) -> None:
    settings = {"num_samples": 8, "num_iterations": 2}
    agent = load(folder).agent(planner=planner, policy_candidates=False, **settings)
    agent.reset(frames(1), [1])
    action = agent.act({"pixels": frames(1), "proprio": np.zeros((1, 3), np.float32)})
    assert np.isfinite(action).all()


def test_a_damaged_or_foreign_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        target = tmp_path / name
        save(tiny_model(), target, "")
        return target

    flipped = copy("flipped")
    raw = bytearray((flipped / "model.safetensors").read_bytes())
    raw[-3] ^= 1
    (flipped / "model.safetensors").write_bytes(raw)
    missing = copy("missing")
    (missing / "config.json").unlink()
    foreign = copy("foreign")
    (foreign / "MANIFEST.json").write_text(json.dumps({"a": "b"}))
    unlisted = copy("unlisted")  # its proposals may be anything
    manifest = json.loads((unlisted / "MANIFEST.json").read_text())
    del manifest["proposals.safetensors"]
    (unlisted / "MANIFEST.json").write_text(json.dumps(manifest))
    wrong = ((flipped, "expected sha256"), (missing, "expected the file"), (foreign, "to list"), (unlisted, "to list"))
    for path, says in wrong:
        with pytest.raises(BundleError, match=says) as caught:
            load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(BundleError, match="without one"):
        load(tmp_path)


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        next(model.inverse.parameters())[0, 0] = torch.nan
    with pytest.raises(BundleError, match="NaN"):
        save(model, tmp_path / "bad", "")
    assert not (tmp_path / "bad").exists()


def test_misuse_says_what_was_expected(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    with pytest.raises(ConfigError, match="expected planner to be one of"):
        model.agent(planner="ceem")
    with pytest.raises(WorldModelError, match="expected reset before act"):
        model.agent().act({"pixels": frames(1), "proprio": np.zeros((1, 3), np.float32)})
    with pytest.raises(EncoderError, match="no such folder"):
        load_encoder(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EncoderError, match="expected model_type vjepa2"):
        load_encoder(tmp_path)


def test_the_encoder_is_frozen_and_resizes_pictures(folder: Path) -> None:
    encoder = load_encoder(folder / "encoder")
    encoder.train()
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    out = encoder(torch.from_numpy(frames(2))[:, None])
    assert out.shape == (2, 1, 16, 24)
    with pytest.raises(EncoderError, match="expected uint8 frames"):
        encoder(torch.rand(1, 1, 32, 32, 3))
