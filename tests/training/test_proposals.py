"""What the logs would do: what is imitated, that it is learned, and that a stop changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_training_resume import CPU, StopError, equal, nothing, table, weights_of
from worldmodel.data.table import Table
from worldmodel.heads import Proposer
from worldmodel.training.hindsight import hindsight
from worldmodel.training.proposals import AFTERWARDS, _Imitation, fit_proposer

STEPS = 4
STILL = np.array([0.0, -1.0, 0.5], np.float32)  # of one-sided actions, in the units of the model


def proposer(seed: int = 0) -> Proposer:
    torch.manual_seed(seed)
    sizes = {"latent_dim": 16, "token_width": 8, "projector_hidden": 32, "hidden": 32, "blocks": 1}
    return Proposer(16, 24, 3, 3, STEPS, **sizes)


def noise(rows: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(rows, 16, 24)).astype(np.float16)


def test_what_is_imitated_ends_at_the_goal() -> None:
    data, features = table(), noise(120)
    starts = data.window_starts(2, data.split()[0])
    seen, wanted, proprio, actions, weights = _Imitation(proposer(), STILL).draw(
        data, features, starts, np.random.default_rng(0), 200
    )
    rows, goals = hindsight(data, starts, np.random.default_rng(0), 200, None)
    assert np.array_equal(seen.numpy(), features[rows].astype(np.float32))
    assert np.array_equal(wanted.numpy(), features[goals].astype(np.float32))
    assert np.array_equal(proprio.numpy(), data.proprio[rows])
    for at, (row, goal) in enumerate(zip(rows, goals, strict=True)):
        length = min(STEPS, goal - row)
        assert np.array_equal(actions[at, :length].numpy(), data.actions[row : row + length])
        assert (actions[at, length:].numpy() == STILL).all()
        assert weights[at].tolist() == pytest.approx([1.0] * length + [AFTERWARDS] * (STEPS - length))


def fitted(folder: Path, seed: int = 0) -> Proposer:
    model, settings = proposer(seed), {"steps": 30, "learning_rate": 1e-3, "seed": 0, "checkpoint_every": 10}
    fit_proposer(model, table(), noise(120), STILL, folder=folder, device=CPU, report=nothing, **settings)
    return model


def test_sequences_towards_a_goal_are_learned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pace = rng.uniform(-1, 1, (250, 1, 3)).astype(np.float32)  # each episode goes straight on
    actions = np.repeat(pace, 12, axis=1)
    proprio = (
        (0.05 * np.cumsum(actions, axis=1) + rng.uniform(-0.3, 0.3, (250, 1, 3))).reshape(-1, 3).astype(np.float32)
    )
    data = Table(
        np.zeros((3000, 1, 1, 3), np.uint8), actions.reshape(-1, 3), proprio, proprio, np.repeat(np.arange(250), 12)
    )
    features = (4 * proprio @ rng.normal(size=(3, 16 * 24)).astype(np.float32)).reshape(-1, 16, 24)
    model = proposer()
    fit_proposer(
        model, data, features, STILL, steps=200, learning_rate=3e-3, seed=0, folder=tmp_path, device=CPU, report=nothing
    )
    starts = data.window_starts(2, data.split()[1])
    batch = _Imitation(model, STILL).draw(data, features, starts, np.random.default_rng(0), 500)
    with torch.no_grad():
        error = float(_Imitation(model, STILL).loss(batch))
    assert error < 0.5 * float(batch[3].square().mean())


def test_a_stop_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(tmp_path / "whole")
    loss, count = _Imitation.loss, iter(range(25))

    def interrupted(self: _Imitation, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if next(count, None) is None:
            raise StopError
        return loss(self, batch)

    with monkeypatch.context() as broken:
        broken.setattr(_Imitation, "loss", interrupted)
        with pytest.raises(StopError):
            fitted(tmp_path / "stopped")
    again = fitted(tmp_path / "stopped", seed=7)
    assert equal(weights_of(whole), weights_of(again))
    assert not equal(weights_of(whole), weights_of(proposer()))
