"""`worldmodel baseline`: the same rollouts and the same frozen encoder as `train`, something simpler out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.baselines.bundle import DREAMERS, KINDS, Baseline, save_baseline
from worldmodel.baselines.dreamer_fit import fit_dreamer
from worldmodel.baselines.dreamer_policy import DreamerBaseline, new_dreamer
from worldmodel.baselines.pixels import PixelConfig, PixelPredictor
from worldmodel.baselines.policy import GoalPolicy, PolicyConfig
from worldmodel.baselines.strip import STRIP, write_strip
from worldmodel.data.load import cache_of, load_table
from worldmodel.data.rows import Rows
from worldmodel.data.table import Table, action_range
from worldmodel.encoders import load_encoder
from worldmodel.errors import ConfigError, DataError
from worldmodel.pretrain.fit import Metrics
from worldmodel.storage import write_json
from worldmodel.training.device import choose_device
from worldmodel.training.folder import CHECKPOINTS, checkpoints_at, resume_folder
from worldmodel.training.learner import FitSettings, fit
from worldmodel.training.run import REPORT, SPLIT, machine

Array = NDArray[Any]

SKIPPING = ("behaviour_cloning", "inverse_dynamics")  # the policies, which do several actions at a look if told so
OF_TRAINING = ("name", "batch_size", "warmup")  # what a kind says beside the fields of its network's config


def baseline(
    *,
    kind: Mapping[str, Any],
    data: Sequence[str],
    encoder: str,
    out: str,
    steps: int,
    learning_rate: float | None,
    seed: int,
    configurations_tried: int = 1,
    device: str = "auto",
    camera: str | None = None,
    frame_skip: int = 1,
    skip_bad_episodes: bool = False,
) -> dict[str, Any]:
    """Train one baseline on the episodes that `train` trains on, and write it to `out`/model.

    kind: {"name" (one of KINDS), "batch_size", of DreamerV3 "warmup", and the fields of PolicyConfig, PixelConfig or
    DreamerConfig that the data does not decide}. encoder: of the policies; pixel_prediction has none, and also writes
    forecast.png, its forecasts beside the truth. learning_rate: None is the kind's own. configurations_tried: settings
    that were tried, these included; in every result. camera, frame_skip, skip_bad_episodes: see `load_table`; only the
    policies have a frame skip.
    The same call again resumes. Returns the report that is written as report.json.
    Raises ConfigError, DataError, EncoderError or TrainingError.
    """
    folder, chosen = Path(out), choose_device(device)
    sizes = {key: value for key, value in kind.items() if key not in OF_TRAINING}
    _check(str(kind["name"]), frame_skip)
    loaded = load_table(list(data), camera=camera, frame_skip=frame_skip, skip_bad_episodes=skip_bad_episodes)
    known = loaded.table.actions[np.isin(loaded.table.episode, loaded.table.split()[0])]
    sizes["action_range"] = action_range(known, frame_skip)
    if kind["name"] in SKIPPING:
        sizes["frame_skip"] = frame_skip
    model = _new(str(kind["name"]), sizes, encoder, loaded.table, seed, chosen)
    actions = model.config.normalise(torch.from_numpy(loaded.table.actions)).numpy()
    table = replace(loaded.table, actions=actions)
    settings = _settings(model, kind, steps, learning_rate, seed)
    _require_windows(table, settings.window, data)
    identity = {
        "kind": kind["name"],
        "settings": asdict(settings),
        "network": asdict(model.config),
        "encoder_sha256": _encoder_sha256(model),
        "data_sha256": loaded.sha256,
        "configurations_tried": configurations_tried,
    }
    finished = resume_folder(folder, identity, REPORT)
    if finished is not None:
        return finished
    loaded.store_split(folder / SPLIT)
    features = model.features(table, cache_of(data), loaded.sha256, chosen)
    validation = _train(model, table, features, settings, folder, chosen)
    about = {
        "parameters": sum(weight.numel() for part in model.trainable().values() for weight in part.parameters()),
        "decisions": len(known),
        "steps": steps,
        "configurations_tried": configurations_tried,
    }
    found = {"camera": camera, "frame_skip": frame_skip, "data": loaded.about(), "validation": validation}
    return _finish(model, about, {**identity, **about, **found, "machine": machine(chosen)}, folder, data)


def _check(kind: str, frame_skip: int) -> None:
    if kind not in KINDS:
        raise ConfigError(f"expected kind to be one of {', '.join(KINDS)}, got {kind!r}: choose one of them")
    if frame_skip != 1 and kind not in SKIPPING:
        raise ConfigError(
            f"expected frame_skip=1 for kind={kind}, got {frame_skip}: leave it away, or choose one of those "
            f"that do several actions at a look, {' or '.join(SKIPPING)}"
        )


def _settings(
    model: Baseline, kind: Mapping[str, Any], steps: int, learning_rate: float | None, seed: int
) -> FitSettings:
    """How it is trained; DreamerV3 as published, unless told otherwise."""
    batch_size = int(kind["batch_size"])
    if isinstance(model, DreamerBaseline):
        rate, warmup = 4e-5 if learning_rate is None else learning_rate, int(kind["warmup"])
        return FitSettings(steps, batch_size, rate, seed, model.config.length, weight_decay=0.0, warmup=warmup)
    window = model.config.window + 1 if isinstance(model, PixelPredictor) else 2
    return FitSettings(steps, batch_size, 1e-3 if learning_rate is None else learning_rate, seed, window)


def _encoder_sha256(model: Baseline) -> str | None:
    encoder = None if isinstance(model, PixelPredictor) else model.encoder
    return None if encoder is None else encoder.sha256()


def _new(kind: str, sizes: Mapping[str, Any], encoder: str, table: Table, seed: int, device: torch.device) -> Baseline:
    """A network with the dimensions of the data."""
    dims = (table.actions.shape[1], table.proprio.shape[1])
    frozen = None if kind == "pixel_prediction" else load_encoder(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if frozen is None:
            return PixelPredictor(PixelConfig(*dims, **sizes))
        if kind in DREAMERS:
            return new_dreamer(frozen, dims, {"reward": "none", **sizes}, device)
        target = "action" if kind == "behaviour_cloning" else "displacement"
        return GoalPolicy(frozen, PolicyConfig(*dims, target, **sizes))


def _train(
    model: Baseline, table: Table, features: Rows, settings: FitSettings, folder: Path, device: torch.device
) -> dict[str, Any]:
    """Train in place; what held-out episodes say, and for a generator the picture of it."""
    train, held_out = table.split()
    model.fit_statistics(table, train)
    checkpoints = folder / CHECKPOINTS
    report = Metrics(folder / "metrics.jsonl", checkpoints_at(checkpoints))
    if isinstance(model, DreamerBaseline):
        fit_dreamer(model, table, features, settings, checkpoints, report)
    else:
        fit(model, table, features, settings, checkpoints, device, report)
    validation = model.validate(table, features, held_out)
    if isinstance(model, PixelPredictor):
        frames, drawn = model.forecast(table, features, held_out, 1)
        write_strip(folder / STRIP, frames[0], drawn[0], validation["sharpness"])
    return validation


def _require_windows(table: Table, window: int, data: Sequence[str]) -> None:
    for episodes, name in zip(table.split(), ("training", "held-out"), strict=True):
        if len(table.window_starts(window, episodes)) == 0:
            got = f"at most {np.bincount(table.episode)[episodes].max()} in {', '.join(data)}"
            raise DataError(f"expected {name} episodes of at least {window} frames, got {got}: record longer ones")


def _finish(
    model: Baseline, about: dict[str, Any], report: dict[str, Any], folder: Path, data: Sequence[str]
) -> dict[str, Any]:
    """Write the baseline, then the report that says that the run is complete."""
    print(f"held out: {json.dumps(report['validation'])}")
    facts = {key: report[key] for key in ("settings", "network", "data_sha256", "encoder_sha256", "validation")}
    names = ", ".join(Path(path).name for path in data)
    card = f"# {report['kind']}\n\nA baseline, trained on {names}.\n\n```json\n{json.dumps(facts, indent=2)}\n```\n"
    picture = folder / STRIP if (folder / STRIP).is_file() else None
    shutil.rmtree(folder / "model", ignore_errors=True)
    report["model_sha256"] = save_baseline(model, report["kind"], about, folder / "model", card, picture)
    write_json(folder / REPORT, report)
    shutil.rmtree(folder / CHECKPOINTS)
    return report
