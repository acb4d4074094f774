"""`worldmodel pretrain`: frames in, a frozen V-JEPA encoder with a report on its health out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.cache import encode_rows
from worldmodel.data.load import load_table
from worldmodel.data.table import Table
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import DataError, TrainingError
from worldmodel.pretrain.fit import Metrics, PretrainSettings, fit
from worldmodel.pretrain.health import effective_rank, probe_error, spread
from worldmodel.pretrain.vjepa import VJEPA, build_model
from worldmodel.storage import atomic_dir, sha256_file, write_json
from worldmodel.training.device import choose_device
from worldmodel.training.folder import CHECKPOINTS, checkpoints_at, resume_folder

REPORT = "health.json"
SPLIT = "split.json"
PROBE_TRAIN, PROBE_HELD_OUT = 2500, 800
LEAST_SPREAD = 0.01  # below this the content is lost in the rounding of half precision
LEAST_RANK = 2.0  # an effective rank of one says the same thing of every picture
MOST_ERROR = 0.9  # of a linear probe of the proprioception, beside that of guessing the mean


def pretrain(
    *,
    data: Sequence[str],
    out: str,
    encoder: Mapping[str, Any],
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str = "auto",
    camera: str | None = None,
    skip_bad_episodes: bool = False,
) -> dict[str, Any]:
    """Pretrain an encoder of the architecture `encoder` (fields of VJEPA2Config) and write it to `out`.

    camera, skip_bad_episodes: see `load_table`. The same call again resumes from the newest checkpoint.
    Returns the report that is written as health.json.
    Raises TrainingError where the latents have collapsed, DataError for unusable data.
    """
    settings = PretrainSettings(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    folder = Path(out)
    side = encoder.get("crop_size")
    loaded = load_table(list(data), camera=camera, skip_bad_episodes=skip_bad_episodes, side=side)
    table, data_sha256 = loaded.table, loaded.sha256
    if len(table.window_starts(2, table.split()[0])) == 0:
        raise DataError(f"expected episodes of at least two frames, got none in {', '.join(data)}: collect longer ones")
    identity = {"settings": asdict(settings), "architecture": dict(encoder), "data_sha256": data_sha256}
    finished = resume_folder(folder, identity, REPORT)
    if finished is not None:
        return finished
    loaded.store_split(folder / SPLIT)
    learner = VJEPA(build_model(encoder, seed))
    before = measure(VJEPAEncoder(learner.frozen()), table)
    print(f"random weights: {_line(before)}")
    checkpoints = folder / CHECKPOINTS
    metrics = Metrics(folder / "metrics.jsonl", checkpoints_at(checkpoints))
    fit(learner, table, settings, checkpoints, choose_device(device), metrics)
    model = learner.to("cpu").frozen()
    after = measure(VJEPAEncoder(model), table)
    print(f"pretrained:     {_line(after)}")
    report = {**identity, "camera": camera, "data": loaded.about(), "random": before, "pretrained": after}
    shutil.rmtree(folder / "encoder", ignore_errors=True)  # of a run that was killed before its report
    with atomic_dir(folder / "encoder") as temporary:
        model.save_pretrained(temporary)
    report["sha256"] = sha256_file(folder / "encoder" / "model.safetensors")
    complain(after, before)
    write_json(folder / REPORT, report)
    shutil.rmtree(checkpoints)
    return report


def measure(encoder: VJEPAEncoder, table: Table) -> dict[str, float | None]:
    """Spread and effective rank of the content; held-out errors of probes and, beside them, of predicting the mean.

    Raises TrainingError for latents that are not finite.
    """
    train, held_out = table.split()
    rng = np.random.default_rng(0)
    rows = [
        _sample(table, episodes, count, rng) for episodes, count in ((train, PROBE_TRAIN), (held_out, PROBE_HELD_OUT))
    ]
    device = torch.device("cpu")
    features = [encode_rows(encoder, table.frames[each], device) for each in rows]
    if not all(bool(torch.isfinite(part).all()) for part in features):
        raise TrainingError("expected finite latents, got NaN or infinity: lower learning_rate")
    centre = features[0].mean(dim=0)
    values: dict[str, float | None] = {"spread": spread(features[0]), "effective_rank": effective_rank(features[0])}
    for name, column in (("proprio", table.proprio), ("object", table.privileged)):
        known = [np.isfinite(column[each]).all(axis=1) for each in rows]
        if all(mask.sum() >= 10 for mask in known):
            pairs: list[tuple[Tensor, Tensor]] = [
                (part[torch.from_numpy(mask)] - centre, torch.from_numpy(column[each][mask]))
                for part, mask, each in zip(features, known, rows, strict=True)
            ]
            values[f"probe_{name}"], values[f"mean_{name}"] = probe_error(pairs[0], pairs[1])
        else:
            values[f"probe_{name}"] = values[f"mean_{name}"] = None
    return values


def _sample(table: Table, episodes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    rows = table.window_starts(1, episodes)
    return np.sort(rng.choice(rows, min(count, len(rows)), replace=False))


def complain(after: Mapping[str, float | None], before: Mapping[str, float | None]) -> None:
    """Raise TrainingError where the latents died: no spread, no rank, or a probe no better than guessing the mean."""
    # NaN compares false with everything, so each line asks whether all is well.
    if not float(after["spread"] or 0.0) >= LEAST_SPREAD:
        raise TrainingError(
            f"expected a latent spread of at least {LEAST_SPREAD}, got {after['spread']:.4f}: collapsed; train longer"
        )
    if not float(after["effective_rank"] or 0.0) >= LEAST_RANK:
        rank = f"{after['effective_rank']:.2f}"
        raise TrainingError(
            f"expected an effective rank of at least {LEAST_RANK}, got {rank}: it collapsed; train longer"
        )
    error, mean = after["probe_proprio"], after["mean_proprio"]
    if error is not None and mean is not None and not error <= MOST_ERROR * mean:
        most = f"{MOST_ERROR * mean:.4f}, {MOST_ERROR} of the mean's"
        raise TrainingError(
            f"expected a probe's error of at most {most}, got {error:.4f}: the latent says nothing; train longer"
        )


def _line(values: Mapping[str, float | None]) -> str:
    parts = [f"spread {values['spread']:.3f}", f"effective rank {values['effective_rank']:.1f}"]
    for name in ("proprio", "object"):
        if values[f"probe_{name}"] is not None:
            parts.append(f"probe {name} {values[f'probe_{name}']:.4f} (mean {values[f'mean_{name}']:.4f})")
    return ", ".join(parts)
