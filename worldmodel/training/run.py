"""`worldmodel train`: rollouts and a frozen encoder in, a model that can drive out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from worldmodel.bundle import save
from worldmodel.data.cache import encode_rows, load_features
from worldmodel.data.load import Loaded, cache_of, load_table
from worldmodel.data.table import Table, action_range
from worldmodel.encoders import FrozenEncoder, load_encoder
from worldmodel.errors import DataError, TrainingError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.storage import atomic_file, write_json
from worldmodel.training.assumptions import doubts
from worldmodel.training.card import model_card
from worldmodel.training.device import choose_device
from worldmodel.training.distributed import first_alone, joined, rank, size
from worldmodel.training.fit import TrainSettings
from worldmodel.training.folder import CHECKPOINTS, resume_folder
from worldmodel.training.frames import TrackSettings
from worldmodel.training.losses import Weights
from worldmodel.training.stages import REFINE_WINDOW, Stages, run_stages
from worldmodel.training.tracking import SPAN
from worldmodel.training.validate import validate

REPORT = "report.json"
SPLIT = "split.json"
STATISTICS_ROWS = 3000


def train(
    *,
    data: Sequence[str],
    encoder: str,
    out: str,
    predictor: Mapping[str, Any],
    objective: Mapping[str, float],
    planning: Mapping[str, Any],
    window: int,
    steps: int,
    track_steps: int,
    track_rounds: int,
    refine_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    name: str = "model",
    device: str = "auto",
    camera: str | None = None,
    frame_skip: int = 1,
    skip_bad_episodes: bool = False,
    ema: float = 0.0,
    pose_steps: int | None = None,
    tensorboard: bool = False,
    drive: Callable[[Path], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Train projector, dynamics and read-outs on cached features of a frozen encoder; write the bundle to `out`/model.

    predictor: sizes (fields of ModelConfig). objective: weights of the losses. planning: the agent's defaults, shipped
    with the model. camera, frame_skip, skip_bad_episodes: see `load_table`. ema: decay of the average of the weights
    that the model takes in the end; 0 takes the last ones. pose_steps: of the fits of where the robot is and how it
    moves; None: as track_steps. drive: measures how well the finished bundle plans, for the report and the card.
    The same call again resumes. Under torchrun every process takes its share of each batch. Returns the report that is
    written as report.json. Raises DataError, EncoderError, ConfigError or TrainingError.
    """
    settings = TrainSettings(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, window=window)
    tracking = TrackSettings(steps=track_steps, rounds=track_rounds, learning_rate=learning_rate, seed=seed)
    stages = Stages(settings, tracking, refine_steps, Weights(**objective), ema, pose_steps, tensorboard)
    folder = Path(out)
    with joined(choose_device(device)) as chosen:
        with first_alone():
            frozen = load_encoder(encoder)
            fingerprint = parameters_sha256(frozen)
            loaded = load_table(list(data), camera=camera, frame_skip=frame_skip, skip_bad_episodes=skip_bad_episodes)
            _require_windows(loaded.table, window, data)
            sizes = {**predictor, "place_dim": min(predictor["place_dim"], loaded.table.proprio.shape[1])}
            identity = stages.identity(sizes, fingerprint, loaded.sha256)
            report = resume_folder(folder, identity, REPORT)
            if report is None:
                loaded.store_split(folder / SPLIT)
                model = _new_model(frozen, loaded, {**sizes, "planning": dict(planning)}, frame_skip, name, seed)
                table = _normalised(loaded.table, model.config)
                features = cached_features(model, table, cache_of(data), fingerprint, loaded.sha256, chosen)
        if report is None:
            run_stages(model, table, features, stages, folder, chosen)
            _require_frozen(frozen, fingerprint)
            selected = {"camera": camera, "frame_skip": frame_skip, "data": loaded.about(), "machine": machine(chosen)}
            with first_alone():
                report = _finish(model, table, features, {**identity, **selected}, folder, data)
        return report if drive is None else _driven(report, folder, drive)


def _require_frozen(frozen: FrozenEncoder, fingerprint: str) -> None:
    if parameters_sha256(frozen) != fingerprint:
        raise TrainingError("expected a frozen encoder, got one whose weights changed in training: report this")


def _new_model(
    frozen: FrozenEncoder, loaded: Loaded, sizes: Mapping[str, Any], frame_skip: int, name: str, seed: int
) -> WorldModel:
    """A model with the dimensions of the data; says what in the data is not as training takes it for granted."""
    table = loaded.table
    known = np.isin(table.episode, table.split()[0])
    units: dict[str, Any] = {
        "action_range": action_range(table.actions[known], frame_skip),
        "frame_skip": frame_skip,
    }
    config = ModelConfig(table.actions.shape[1], table.proprio.shape[1], **units, **sizes)
    for note in doubts(table, loaded.proprio_names, config.place_dim, linear=config.motion_hidden == 0):
        print(note)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WorldModel(frozen, config, name=name)


def _normalised(table: Table, config: ModelConfig) -> Table:
    """The same with actions in the units of the model."""
    return dataclasses.replace(table, actions=config.normalise(torch.from_numpy(table.actions)).numpy())


def _finish(
    model: WorldModel,
    table: Table,
    features: np.ndarray[Any, Any],
    about: Mapping[str, Any],
    folder: Path,
    data: Sequence[str],
) -> dict[str, Any]:
    """Write the bundle, then the report that says that the run is complete; of several processes the first one does."""
    if rank() == 0:
        report = {**about, "validation": validate(model, table, features)}
        print(json.dumps(report["validation"], indent=2))
        names = [Path(path).name for path in data]
        report["model"] = {"name": model.name, "data": names}
        shutil.rmtree(folder / "model", ignore_errors=True)  # of a run that was killed before its report
        report["model_sha256"] = save(model, folder / "model", model_card(report))
        write_json(folder / REPORT, report)
        shutil.rmtree(folder / CHECKPOINTS)
    written: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return written


def _driven(report: dict[str, Any], folder: Path, drive: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Add to the report and the card how well the finished model plans, unless that is known."""
    if rank() == 0 and "planning" not in report:
        report["planning"] = dict(drive(folder / "model"))
        with atomic_file(folder / "model" / "README.md") as temporary:
            temporary.write_text(model_card(report), encoding="utf-8")
        write_json(folder / REPORT, report)
    return report


def _require_windows(table: Table, window: int, data: Sequence[str]) -> None:
    """Some training episode is long enough for each of the stages; those that are not are counted and left unused."""
    training = table.split()[0]
    least = max(window, SPAN, REFINE_WINDOW) + 1
    lengths = np.bincount(table.episode)[training]
    if (lengths < least).all():
        got = f"at most {lengths.max()} in {', '.join(data)}"
        mend = "record longer ones, or lower frame_skip or window"
        raise DataError(f"expected training episodes of at least {least} frames, got {got}: {mend}")
    if (lengths < least).any():
        print(f"{(lengths < least).sum()} of {len(lengths)} training episodes have fewer than {least} frames")


def cached_features(
    model: WorldModel, table: Table, folder: Path, encoder_sha256: str, data_sha256: str, device: torch.device
) -> np.ndarray[Any, Any]:
    """Normalised features of all rows, a memory map in `folder`; fits the model's feature norm on a sample of rows."""
    encoder = model.encoder
    # Below about fifty tokens, and on a CPU in general at this size, plain softmax attention beats the fused kernel.
    encoder.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    encoder.to(device)
    rows = np.sort(np.random.default_rng(0).choice(len(table), min(STATISTICS_ROWS, len(table)), replace=False))
    model.norm.fit(encode_rows(encoder, table.frames[rows], device))
    made_from = f"{encoder_sha256} {encoder.image_size} {encoder.pool} {data_sha256}"
    name = hashlib.sha256(made_from.encode()).hexdigest()
    features = load_features(encoder, table, name, folder, model.norm, device)
    encoder.to("cpu")
    return features


def parameters_sha256(module: nn.Module) -> str:
    """Hex digest over the names and bytes of all parameters."""
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def machine(device: torch.device) -> dict[str, Any]:
    """Where it was trained."""
    return {
        "device": str(device),
        "processes": size(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
