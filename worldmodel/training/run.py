"""`worldmodel train`: rollouts and a frozen encoder in, a model that can drive out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from worldmodel.bundle import save
from worldmodel.data.cache import encode_rows, load_features
from worldmodel.data.load import Loaded, load_table
from worldmodel.data.table import Table
from worldmodel.encoders import FrozenEncoder, load_encoder
from worldmodel.errors import DataError, TrainingError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.fit import Metrics
from worldmodel.storage import write_json
from worldmodel.training.assumptions import doubts
from worldmodel.training.card import model_card
from worldmodel.training.device import choose_device
from worldmodel.training.fit import TrainSettings, fit, fit_statistics
from worldmodel.training.folder import resume_folder
from worldmodel.training.losses import Weights
from worldmodel.training.refine import refine
from worldmodel.training.tracking import SPAN, TrackSettings, fit_tracker
from worldmodel.training.validate import latents, validate

REPORT = "report.json"
SPLIT = "split.json"
CHECKPOINTS = "checkpoints"
STATISTICS_ROWS = 3000
REFINE_BATCH, REFINE_WINDOW = 256, 8


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
) -> dict[str, Any]:
    """Train projector, dynamics and read-outs on cached features of a frozen encoder; write the bundle to `out`/model.

    predictor: sizes (fields of ModelConfig). objective: weights of the losses. planning: the agent's defaults, shipped
    with the model. camera, frame_skip, skip_bad_episodes: see `load_table`.
    The same call again resumes. Returns the report that is written as report.json.
    Raises DataError, EncoderError or TrainingError.
    """
    settings = TrainSettings(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, window=window)
    tracking = TrackSettings(steps=track_steps, rounds=track_rounds, learning_rate=learning_rate, seed=seed)
    folder, chosen = Path(out), choose_device(device)
    frozen = load_encoder(encoder)
    loaded = load_table(list(data), camera=camera, frame_skip=frame_skip, skip_bad_episodes=skip_bad_episodes)
    table, data_sha256 = loaded.table, loaded.sha256
    _require_windows(table, window, data)
    predictor = {**predictor, "place_dim": min(predictor["place_dim"], table.proprio.shape[1])}
    fingerprint = parameters_sha256(frozen)
    identity = {
        "settings": {**dataclasses.asdict(settings), "refine_steps": refine_steps},
        "tracking": dataclasses.asdict(tracking),
        "predictor": dict(predictor),
        "objective": dict(objective),
        "encoder_sha256": fingerprint,
        "data_sha256": data_sha256,
    }
    finished = resume_folder(folder, identity, REPORT)
    if finished is not None:
        return finished
    loaded.store_split(folder / SPLIT)
    model = _new_model(frozen, loaded, {**predictor, "planning": dict(planning)}, name, seed)
    cache = Path(data[0]).resolve().parent / ".cache"
    features = cached_features(model, table, cache, fingerprint, data_sha256, chosen)
    fit_statistics(model, table, table.split()[0])
    _stages(model, table, features, (settings, tracking, refine_steps), Weights(**objective), folder, chosen)
    if parameters_sha256(frozen) != fingerprint:
        raise TrainingError("expected a frozen encoder, got one whose weights changed in training: report this")
    selected = {"camera": camera, "frame_skip": frame_skip, "data": loaded.about()}
    report = {**identity, **selected, "validation": validate(model, table, features), "machine": machine(chosen)}
    return _finish(model, report, folder, data)


def _new_model(frozen: FrozenEncoder, loaded: Loaded, sizes: Mapping[str, Any], name: str, seed: int) -> WorldModel:
    """A model with the dimensions of the data; says what in the data is not as training takes it for granted."""
    config = ModelConfig(loaded.table.actions.shape[1], loaded.table.proprio.shape[1], **sizes)
    for note in doubts(loaded.table, loaded.proprio_names, config.place_dim):
        print(note)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WorldModel(frozen, config, name=name)


def _finish(model: WorldModel, report: dict[str, Any], folder: Path, data: Sequence[str]) -> dict[str, Any]:
    """Write the bundle, then the report that says that the run is complete."""
    print(json.dumps(report["validation"], indent=2))
    report["model_sha256"] = save(model, folder / "model", model_card(model.name, report, list(data)))
    write_json(folder / REPORT, report)
    shutil.rmtree(folder / CHECKPOINTS)
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


def _stages(
    model: WorldModel,
    table: Table,
    features: np.ndarray[Any, Any],
    settings: tuple[TrainSettings, TrackSettings, int],
    weights: Weights,
    folder: Path,
    device: torch.device,
) -> None:
    """What changes besides the arm; where the object is; how it moves."""
    joint, tracking, refine_steps = settings
    stages = [folder / CHECKPOINTS / name for name in ("joint", "track", "refine")]
    done = []
    for stage in stages:
        stage.mkdir(parents=True, exist_ok=True)
        done.append(max((int(path.name[5:]) for path in stage.glob("step-????????")), default=0))
    fit(model, table, features, joint, weights, stages[0], device, Metrics(folder / "joint.jsonl", done[0]))
    model.to("cpu")
    scene = model.scene(latents(model, table, features, np.arange(len(table))))
    seen = Metrics(folder / "track.jsonl", done[1] * tracking.steps)
    places = fit_tracker(model.tracker, table, features, scene, tracking, stages[1], device, seen)
    model.to("cpu")
    refine(
        model,
        table,
        places,
        steps=refine_steps,
        batch_size=REFINE_BATCH,
        learning_rate=joint.learning_rate,
        window=REFINE_WINDOW,
        seed=joint.seed,
        folder=stages[2],
        device=device,
        report=Metrics(folder / "refine.jsonl", done[2]),
    )
    model.to("cpu")


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
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
