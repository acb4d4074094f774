"""A gradient that is not finite stops training in one line, before it reaches the weights; so do dead latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training_resume import CPU, equal, nothing, table, weights_of
from tiny_model import ARCHITECTURE

from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import TrainingError
from worldmodel.pretrain.fit import PretrainSettings, fit
from worldmodel.pretrain.run import complain, measure
from worldmodel.pretrain.vjepa import VJEPA, build_model
from worldmodel.training.descent import descend
from worldmodel.training.frames import TrackSettings, fit_part

HEALTHY: dict[str, float | None] = {"spread": 1.0, "effective_rank": 9.0, "probe_proprio": 0.1, "mean_proprio": 1.0}


def joint(layer: torch.nn.Linear, step: int) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    descend(layer(torch.ones(2, 3)).sum(), optimizer, list(layer.parameters()), 1.0, step)


def tracking(layer: torch.nn.Linear, step: int) -> None:
    settings = TrackSettings(steps=1, rounds=0, learning_rate=1e-3, seed=0)
    fit_part(layer, lambda rng: layer(torch.ones(2, 3)).sum(), settings, 0, "toy", nothing)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("train", [joint, tracking])
def test_no_step_is_made_with_a_gradient_that_is_not_finite(
    train: Callable[[torch.nn.Linear, int], None], value: float
) -> None:
    layer = torch.nn.Linear(3, 1)
    layer.weight.register_hook(lambda gradient: gradient * value)
    before = weights_of(layer)
    with pytest.raises(TrainingError, match=r"expected a finite norm of the gradient, got (nan|inf) at step 0: lower"):
        train(layer, 0)
    assert equal(weights_of(layer), before)


def test_pretraining_makes_no_step_with_it_either(tmp_path: Path) -> None:
    settings = PretrainSettings(steps=3, batch_size=2, learning_rate=1e-3, seed=0)
    learner = VJEPA(build_model(ARCHITECTURE, 0))
    next(learner.model.encoder.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    before = weights_of(learner)
    with pytest.raises(TrainingError, match="expected a finite norm of the gradient"):
        fit(learner, table(), settings, tmp_path, CPU, nothing)
    assert equal(weights_of(learner), before)


def test_latents_that_are_not_finite_are_said_in_one_line() -> None:
    encoder = VJEPAEncoder(build_model(ARCHITECTURE, 0))
    with torch.no_grad():
        next(encoder.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError, match="expected finite latents"):
        measure(encoder, table())


@pytest.mark.parametrize("name", list(HEALTHY))
def test_a_measure_that_is_no_number_is_a_complaint(name: str) -> None:
    complain(HEALTHY, HEALTHY)
    with pytest.raises(TrainingError, match="nan"):
        complain(HEALTHY | {name: np.nan}, HEALTHY)
