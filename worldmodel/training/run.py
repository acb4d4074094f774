"""`worldmodel train`: rollouts and a frozen encoder in, a model that can drive out."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel.bundle import save
from worldmodel.data.load import Loaded, cache_of, load_table
from worldmodel.data.rows import Rows
from worldmodel.data.table import Table, action_range
from worldmodel.encoders import FrozenEncoder, load_encoder
from worldmodel.errors import ConfigError, DataError, TrainingError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.storage import atomic_file, write_json
from worldmodel.tokens import TokenConfig, TokenModel
from worldmodel.training.assumptions import doubts
from worldmodel.training.card import model_card
from worldmodel.training.device import choose_device
from worldmodel.training.distributed import first_alone, joined, rank, require_shares, size
from worldmodel.training.features import cached_features
from worldmodel.training.fit import TrainSettings
from worldmodel.training.folder import CHECKPOINTS, resume_folder
from worldmodel.training.frames import Places, TrackSettings
from worldmodel.training.losses import Weights
from worldmodel.training.stages import Stages, run_stages
from worldmodel.training.tokens import TokenLoss, TokenStages, run_token_stages, validate_tokens
from worldmodel.training.validate import validate
from worldmodel.units import ActionUnits

REPORT = "report.json"
SPLIT = "split.json"
VALIDATED = 8  # decisions that `validate` predicts at once


def train(
    *,
    data: Sequence[str],
    encoder: str,
    out: str,
    predictor: Mapping[str, Any],
    objective: Mapping[str, Any],
    planning: Mapping[str, Any],
    window: int,
    steps: int,
    track_steps: int,
    track_rounds: int,
    places: Places,
    refine_steps: int,
    propose_steps: int,
    time_steps: int,
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

    predictor: sizes (fields of ModelConfig, or of TokenConfig). objective: of the losses (Weights, or TokenLoss).
    planning: the agent's defaults. camera, frame_skip, skip_bad_episodes: see `load_table`. ema, pose_steps: see
    Fitting. drive: measures how well the bundle plans. The same call again resumes. Under torchrun each process takes
    its share of a batch. Returns what report.json says. Raises DataError, EncoderError, ConfigError, TrainingError."""
    settings = TrainSettings(steps, batch_size, learning_rate, seed, window)
    tracking = TrackSettings(track_steps, track_rounds, learning_rate, seed, places=places)
    shared = {"joint": settings, "tracking": tracking, "ema": ema, "pose_steps": pose_steps, "tensorboard": tensorboard}
    compact = {"refine_steps": refine_steps, "propose_steps": propose_steps, "time_steps": time_steps}
    stages = _stages(predictor, objective, compact, shared)
    folder = Path(out)
    with joined(choose_device(device)) as chosen:
        require_shares(*stages.batches)
        with first_alone():
            frozen = load_encoder(encoder)
            fingerprint = frozen.sha256()
            loaded = _loaded(frozen, stages.least_frames, predictor, data, camera, frame_skip, skip_bad_episodes)
            sizes = stages.sizes(predictor, loaded.table)
            identity = stages.identity(sizes, fingerprint, loaded.sha256)
            report = resume_folder(folder, identity, REPORT)
            if report is None:
                loaded.store_split(folder / SPLIT)
                model = _new_model(stages, frozen, loaded, {**sizes, "planning": dict(planning)}, frame_skip, name)
                table = _normalised(loaded.table, model.config)
                features = cached_features(model, table, cache_of(data), fingerprint, loaded.sha256, chosen)
        if report is None:
            _run(model, table, features, stages, folder, chosen)
            selected = {"camera": camera, "frame_skip": frame_skip, "data": loaded.about(), "machine": machine(chosen)}
            report = _finish(model, table, features, {**identity, **selected}, folder, data)
        return report if drive is None else _driven(report, folder, drive)


def _stages(
    predictor: Mapping[str, Any],
    objective: Mapping[str, Any],
    compact: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> Stages | TokenStages:
    """The stages of the form that the predictor's settings describe; only the transformer has a layout.

    shared: settings of both forms. compact: those of the compact one.
    """
    tokens = "layout" in predictor
    known = {field.name for field in dataclasses.fields(TokenLoss if tokens else Weights)}
    if not known >= set(objective):
        wrong, mend = ", ".join(sorted(set(objective) - known)), "tokens" if tokens else "standard"
        raise ConfigError(f"expected an objective for this predictor, got one with {wrong}: give objective={mend}")
    if tokens:
        return TokenStages(losses=TokenLoss(**objective), **shared)
    return Stages(weights=Weights(**objective), **compact, **shared)


def _new_model(
    stages: Stages | TokenStages,
    frozen: FrozenEncoder,
    loaded: Loaded,
    sizes: Mapping[str, Any],
    frame_skip: int,
    name: str,
) -> WorldModel | TokenModel:
    """A model with the dimensions of the data; says what in the data is not as training takes it for granted."""
    table = loaded.table
    known = np.isin(table.episode, table.split()[0])
    units: dict[str, Any] = {
        "action_range": action_range(table.actions[known], frame_skip),
        "frame_skip": frame_skip,
    }
    settings = {"action_dim": table.actions.shape[1], "proprio_dim": table.proprio.shape[1], **units, **sizes}
    config: ModelConfig | TokenConfig
    if isinstance(stages, TokenStages):
        config = TokenConfig(**settings)
        place_dim, linear = 0, config.kinematics == "fitted"
    else:
        config = ModelConfig(**settings)
        place_dim, linear = config.place_dim, config.motion_hidden == 0
    for note in doubts(table, loaded.proprio_names, place_dim, linear=linear):
        print(note)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stages.joint.seed)
        model: WorldModel | TokenModel
        if isinstance(config, ModelConfig):
            model = WorldModel(frozen, config, name=name)
        else:
            model = TokenModel(frozen, config, name=name)
        model.agent()  # refuses a planning that it cannot do before anything is trained
        return model


def _run(
    model: WorldModel | TokenModel,
    table: Table,
    features: Rows,
    stages: Stages | TokenStages,
    folder: Path,
    device: torch.device,
) -> None:
    """Train a model of either form in place. Raises TrainingError where that changed its encoder."""
    frozen = model.encoder.sha256()
    if isinstance(model, TokenModel) and isinstance(stages, TokenStages):
        run_token_stages(model, table, features, stages, folder, device)
    elif isinstance(model, WorldModel) and isinstance(stages, Stages):
        run_stages(model, table, features, stages, folder, device)
    if model.encoder.sha256() != frozen:
        raise TrainingError("expected a frozen encoder, got one whose weights changed in training: report this")


def _normalised(table: Table, config: ActionUnits) -> Table:
    """The same with actions in the units of the model."""
    return dataclasses.replace(table, actions=config.normalise(torch.from_numpy(table.actions)).numpy())


@first_alone()
def _finish(
    model: WorldModel | TokenModel,
    table: Table,
    features: Rows,
    about: Mapping[str, Any],
    folder: Path,
    data: Sequence[str],
) -> dict[str, Any]:
    """Write the bundle, then the report that says that the run is complete; of several processes the first one does."""
    if rank() == 0:
        found: Mapping[str, float | None]
        if isinstance(model, TokenModel):
            found = validate_tokens(model, table, features, VALIDATED)
        else:
            found = validate(model, table, features, VALIDATED)
        report = {**about, "validation": found}
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


def _loaded(
    frozen: FrozenEncoder,
    least: int,
    predictor: Mapping[str, Any],
    data: Sequence[str],
    camera: str | None,
    frame_skip: int,
    skip: bool,
) -> Loaded:
    """The data, pictures no larger than the encoder sees them. Raises DataError where there is too little of it."""
    loaded = load_table(data, camera=camera, frame_skip=frame_skip, skip_bad_episodes=skip, side=frozen.image_size)
    measured = min(VALIDATED, predictor.get("context", VALIDATED)) + 1
    _require_windows(loaded.table, (least, measured), data)
    return loaded


def _require_windows(table: Table, leasts: tuple[int, int], data: Sequence[str]) -> None:
    """Some episode to train on, and one held out, is long enough; those that are not are counted and left unused.

    leasts: frames, for each of the training stages, and to be measured.
    """
    for kind, episodes, least in zip(("training", "validation"), table.split(), leasts, strict=True):
        lengths = np.bincount(table.episode)[episodes]
        if (lengths < least).all():
            got = f"at most {lengths.max()} in {', '.join(data)}"
            mend = "record longer ones, or lower frame_skip or window"
            raise DataError(f"expected {kind} episodes of at least {least} frames, got {got}: {mend}")
        if (lengths < least).any():
            print(f"{(lengths < least).sum()} of {len(lengths)} {kind} episodes have fewer than {least} frames")


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
