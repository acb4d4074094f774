"""Stopped at a checkpoint and resumed, training ends with the same weights as without a stop, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE

from worldmodel.data.table import Table
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import OutputError, TrainingError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.fit import PretrainSettings
from worldmodel.pretrain.fit import fit as pretrain_fit
from worldmodel.pretrain.masks import block_masks
from worldmodel.pretrain.vjepa import VJEPA, build_model, encode_visible
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.fit import TrainSettings, fit, fit_statistics
from worldmodel.training.folder import resume_folder
from worldmodel.training.losses import Weights
from worldmodel.training.refine import refine
from worldmodel.training.schedule import warmup_cosine

CPU = torch.device("cpu")


def table() -> Table:
    rng = np.random.default_rng(0)
    rows, length = 120, 12
    actions = rng.uniform(-1, 1, (rows, 3)).astype(np.float32)
    proprio = np.cumsum(0.05 * actions, axis=0).astype(np.float32)
    frames = rng.integers(0, 255, (rows, 32, 32, 3), dtype=np.uint8)
    truth = np.full((rows, 3), np.nan, np.float32)
    return Table(frames, actions, proprio, truth, np.repeat(np.arange(rows // length), length))


def weights_of(module: torch.nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def nothing(values: dict[str, float]) -> None:
    """Metrics nobody reads."""


class StopError(Exception):
    """What a kill is to a process, an exception is to a function."""


def stop_at(step: int) -> Callable[[dict[str, float]], None]:
    def report(values: dict[str, float]) -> None:
        if values["step"] >= step:
            raise StopError

    return report


def test_pretraining_resumes_exactly(tmp_path: Path) -> None:
    settings = PretrainSettings(steps=45, batch_size=2, learning_rate=1e-3, seed=0, checkpoint_every=10)
    whole = VJEPA(build_model(ARCHITECTURE, 0))
    pretrain_fit(whole, table(), settings, tmp_path / "a", CPU, nothing)
    with pytest.raises(StopError):
        pretrain_fit(VJEPA(build_model(ARCHITECTURE, 0)), table(), settings, tmp_path / "b", CPU, stop_at(40))
    resumed = VJEPA(build_model(ARCHITECTURE, 5))  # other weights: everything must come from the checkpoint
    pretrain_fit(resumed, table(), settings, tmp_path / "b", CPU, nothing)
    assert equal(weights_of(whole), weights_of(resumed))


def trained(folder: Path, stop: bool) -> WorldModel:
    data = table()
    features = np.random.default_rng(1).normal(size=(len(data), 16, 24)).astype(np.float16)
    settings = TrainSettings(steps=65, batch_size=4, learning_rate=1e-3, seed=0, window=3, checkpoint_every=20)
    for attempt in range(2 if stop else 1):
        torch.manual_seed(attempt if stop and attempt else 0)
        model = WorldModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1))
        fit_statistics(model, data, data.split()[0])
        try:
            report = stop_at(50) if stop and attempt == 0 else nothing
            fit(model, data, features, settings, Weights(), folder, CPU, report)
        except StopError:
            continue
    return model


def test_joint_training_resumes_exactly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole, resumed = trained(tmp_path / "a", stop=False), trained(tmp_path / "b", stop=True)
    assert equal(weights_of(whole.projector), weights_of(resumed.projector))
    assert equal(weights_of(whole.inverse), weights_of(resumed.inverse))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_refining_trains_every_member_and_resumes_exactly(ema: float, tmp_path: Path) -> None:
    data, z = table(), torch.randn(120, 1, 2, generator=torch.Generator().manual_seed(0))
    settings = {"batch_size": 8, "learning_rate": 1e-3, "window": 3, "seed": 0, "device": CPU, "checkpoint_every": 20}
    settings |= {"ema": ema}
    models = []
    for name in ("a", "b"):
        torch.manual_seed(0)
        model = WorldModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1))
        fit_statistics(model, data, data.split()[0])
        before = weights_of(model.members)
        folder = tmp_path / name
        if name == "b":
            with pytest.raises(StopError):
                refine(model, data, z, steps=65, folder=folder, report=stop_at(50), **settings)
        refine(model, data, z, steps=65, folder=folder, report=nothing, **settings)
        assert not equal(before, weights_of(model.members))
        models.append(model)
    assert equal(weights_of(models[0].members), weights_of(models[1].members))
    first, second = (weights_of(member) for member in models[0].members)
    assert not equal(first, second)


def test_a_damaged_checkpoint_is_skipped_and_all_damaged_is_an_error(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = {}
    for step in (1, 2, 3):
        with torch.no_grad():
            layer.weight.fill_(float(step))
        save_checkpoint(tmp_path, step, {"layer": layer}, optimizer, {})
        saved[step] = layer.weight.clone()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    target = tmp_path / "step-00000003" / "tensors.safetensors"
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="step-00000003"):
        state = load_checkpoint(tmp_path, {"layer": layer}, optimizer)
    assert state == {"step": 2}
    assert torch.equal(layer.weight, saved[2])
    (tmp_path / "step-00000002" / "MANIFEST.json").unlink()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(TrainingError, match="2 damaged"):
        load_checkpoint(tmp_path, {"layer": layer}, optimizer)


def test_poisoned_weights_are_never_saved(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.inf
    with pytest.raises(TrainingError, match="layer/weight"):
        save_checkpoint(tmp_path, 1, {"layer": layer}, torch.optim.AdamW(layer.parameters()), {})
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    assert resume_folder(tmp_path / "run", {"steps": 1}, "report.json") is None
    assert resume_folder(tmp_path / "run", {"steps": 1}, "report.json") is None
    with pytest.raises(OutputError, match="another steps"):
        resume_folder(tmp_path / "run", {"steps": 2}, "report.json")


def test_masks_partition_the_grid_and_the_encoder_sees_only_what_is_visible() -> None:
    visible, hidden = block_masks(np.random.default_rng(0), 5, 4, 0.7)
    assert visible.shape == (5, 5)
    assert hidden.shape == (5, 11)
    for seen, unseen in zip(visible, hidden, strict=True):
        assert sorted([*seen.tolist(), *unseen.tolist()]) == list(range(16))
    encoder = build_model(ARCHITECTURE, 0).encoder.eval()
    clips = torch.randn(5, 2, 3, 32, 32)
    everything = torch.arange(16).expand(5, 16)
    with torch.no_grad():
        assert torch.allclose(encode_visible(encoder, clips, everything), encoder(clips).last_hidden_state, atol=1e-5)
        changed = clips.clone()
        row, column = divmod(int(hidden[0, 0]), 4)
        changed[0, :, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 3.0
        assert torch.equal(encode_visible(encoder, clips, visible), encode_visible(encoder, changed, visible))


def test_the_schedule_warms_up_and_comes_down() -> None:
    rates = [warmup_cosine(step, 100, 1.0) for step in range(100)]
    assert rates[0] < rates[2] < rates[4] == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(rates[5:]))
    assert rates[-1] < 0.05
