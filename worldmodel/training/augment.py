"""`worldmodel augment`: a finished model learns to say of pictures in other looks what it says of them as they are.

A frozen encoder that saw one look gives its read-outs no reason to know another one: in another light the hand and the
object are nowhere. So every part that reads features is fitted to its own answers (self-distillation; Hinton et al.
2015, arXiv 1503.02531) from pictures that were augmented; no label, no simulator. Dynamics and energies stay as they
are. Legend: n pictures, M encoder tokens, F their width, U all answers of a picture side by side.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from worldmodel.bundle import load, save
from worldmodel.data.cache import load_features
from worldmodel.data.load import Loaded, cache_of, load_table
from worldmodel.data.looks import Picked, RandomLooks
from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.projector import DOUBT
from worldmodel.storage import write_json
from worldmodel.training.device import choose_device
from worldmodel.training.folder import CHECKPOINTS, checkpoints_at, resume_folder
from worldmodel.training.learner import FitSettings, fit
from worldmodel.training.metrics import recorder
from worldmodel.training.run import REPORT, machine

Array = NDArray[Any]

NARROW = 0.1  # errors beyond this many standard deviations of an answer weigh linearly
PLAIN = 1 / 3  # share of a batch that is in the look of the data, so that nothing is forgotten
FINEST = 0.05  # least standard deviation of an answer that is told from none, in its own units (of places: 2.5 mm)
CHUNK = 256  # pictures read at once
DOUBTS = 1  # which of the answers they are


def augment(
    *,
    model: str,
    data: Sequence[str],
    out: str,
    pictures: int,
    looks: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    name: str | None = None,
    device: str = "auto",
    camera: str | None = None,
    skip_bad_episodes: bool = False,
) -> dict[str, Any]:
    """Fit the read-outs of `model` to their own answers on `pictures` of the data, each in `looks` random looks.

    model: by name, or a folder; it is left as it is, and the new one is `out`/model. name: None keeps the model's.
    camera, skip_bad_episodes: see `load_table`. The same call again resumes. Returns what report.json says.
    Raises BundleError, ConfigError, DataError, OutputError and TrainingError.
    """
    folder, chosen = Path(out), choose_device(device)
    known = load(model)
    if not isinstance(known, WorldModel):
        got = f"{known.name!r}, whose latents are the encoder's tokens"
        raise ConfigError(f"expected a compact model to augment, got {got}: train with predictor=compact")
    settings = FitSettings(steps, batch_size, learning_rate, seed, 1)
    side, skip = known.encoder.image_size, known.config.frame_skip
    loaded = load_table(list(data), camera=camera, frame_skip=skip, skip_bad_episodes=skip_bad_episodes, side=side)
    identity = {
        "settings": {**asdict(settings), "pictures": pictures, "looks": looks},
        "augmented_from": known.sha256,
        "data_sha256": loaded.sha256,
    }
    finished = resume_folder(folder, identity, REPORT)
    if finished is not None:
        return finished
    rows, held = _drawn(loaded.table, pictures, seed)
    table = _picked(loaded.table, rows)
    views = _views(known, table.frames, rows, RandomLooks(table.frames, looks, seed), cache_of(data), loaded, chosen)
    student = load(model)
    assert isinstance(student, WorldModel)
    checkpoints = folder / CHECKPOINTS
    report = recorder(folder, "augment", checkpoints_at(checkpoints), False)
    learner = SameAnswers(known, student, *views, np.flatnonzero(~held), chosen)
    fit(learner, table, views[0], settings, checkpoints, chosen, report, "augment")
    student.eval().requires_grad_(False)
    found = _compared(known, student, np.flatnonzero(held), *views)
    about = {**identity, "name": name or known.name, "validation": found, "machine": machine(chosen)}
    return _finish(student, about, folder, [Path(path).name for path in data])


def _drawn(table: Table, pictures: int, seed: int) -> tuple[Array, Array]:
    """Rows of so many pictures of training episodes, or all, and of a twentieth as many held out: [n], bool [n]."""
    rng = np.random.default_rng(seed)
    trained, held = (table.window_starts(1, episodes) for episodes in table.split())
    counts = min(pictures, len(trained)), min(pictures // 20 + 1, len(held))
    parts = [rng.choice(part, count, replace=False) for part, count in zip((trained, held), counts, strict=True)]
    rows: Array = np.sort(np.concatenate(parts))
    return rows, np.isin(rows, held)


def _picked(table: Table, rows: Array) -> Table:
    """Some rows of a table."""
    task = None if table.task is None else table.task[rows]
    columns = (table.actions[rows], table.proprio[rows], table.privileged[rows], table.episode[rows])
    return Table(Picked(table.frames, rows), *columns, task)


def _views(
    model: WorldModel, frames: Rows, rows: Array, looks: RandomLooks, folder: Path, data: Loaded, device: torch.device
) -> tuple[Rows, Rows]:
    """Normalised features of the pictures as they are [n,M,F], and in their looks [n x looks,M,F]; each made once."""
    model.encoder.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    model.encoder.to(device)
    made_from = f"{model.sha256} {data.sha256} {hashlib.sha256(rows.tobytes()).hexdigest()}"
    found = []
    for seen, look in ((frames, "as they are"), (looks, f"looks {looks.count} of seed {looks.seed}")):
        key = hashlib.sha256(f"{made_from} {look}".encode()).hexdigest()
        found.append(load_features(model.encoder, seen, key, folder, model.norm, device))
    model.encoder.to("cpu")
    return found[0], found[1]


class SameAnswers:
    """A model that learns to answer as it did before, as the training loop sees it."""

    def __init__(
        self, teacher: WorldModel, student: WorldModel, plain: Rows, looks: Rows, rows: Array, device: torch.device
    ) -> None:
        """What is to be said of the pictures is worked out here. rows: of those that it learns from."""
        self._student, self._looks, self._rows = student, looks, rows
        self._count = len(looks) // len(plain)
        wanted = [part.numpy() for part in _all_answers(teacher, plain, device)]
        wanted[DOUBTS] = wanted[DOUBTS].clip(*DOUBT)  # not the student's own, which would have no slope beyond
        scale = [np.full(part.shape[1], max(part.std(), FINEST), np.float32) for part in wanted]
        self._wanted = np.concatenate(wanted, axis=1) / np.concatenate(scale)
        self._scale = torch.from_numpy(np.concatenate(scale)).to(device)
        share = [np.full(part.shape[1], 1.0 / part.shape[1], np.float32) for part in wanted]
        self._share = torch.from_numpy(np.concatenate(share)).to(device)
        for part in self.trainable().values():
            part.requires_grad_(True)

    def trainable(self) -> Mapping[str, nn.Module]:
        """Whatever reads features."""
        return _readers(self._student)

    def draw(
        self, table: Table, features: Rows, starts: Array, rng: np.random.Generator, count: int
    ) -> tuple[Tensor, ...]:
        """Features of `count` pictures [n,M,F], a share of them as they are, and what is to be said of them [n,U].

        starts: not asked for, they would hold out other episodes than those of all the data.
        """
        rows = np.sort(rng.choice(self._rows, count))
        plain = rng.random(count) < PLAIN
        seen = np.empty((count, *features.shape[1:]), np.float32)
        seen[plain] = features[rows[plain]]
        seen[~plain] = self._looks[rows[~plain] * self._count + rng.integers(self._count, size=int((~plain).sum()))]
        return torch.from_numpy(seen), torch.from_numpy(self._wanted[rows])

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Mean Huber loss of each kind of answer in its standard deviations, summed over the kinds."""
        seen, wanted = batch
        self._student.projector.eval()  # its statistics are the data's
        said = torch.cat(answers(self._student, seen), dim=-1).float() / self._scale
        error = F.smooth_l1_loss(said, wanted, beta=NARROW, reduction="none")
        mean: Tensor = (error * self._share).sum(dim=-1).mean()
        return mean


def _readers(model: WorldModel) -> dict[str, nn.Module]:
    parts: dict[str, nn.Module] = {
        "places": model.tracker.body,
        "doubts": model.tracker.doubts,
        "pose": model.reader.body,
        "appearance": model.projector,
    }
    return parts if model.proposer is None else {**parts, "proposals": model.proposer.projector}


def answers(model: WorldModel, features: Tensor) -> list[Tensor]:
    """What each part that reads features [n,M,F] says of them, a list of [n,U of the part]."""
    return [part(features[:, None])[:, 0, 0] for part in _readers(model).values()]


@torch.no_grad()
def _all_answers(model: WorldModel, features: Rows, device: torch.device) -> list[Tensor]:
    """The same of all rows, on the CPU."""
    model.to(device)
    parts = []
    for start in tqdm(range(0, len(features), CHUNK), unit="chunk", desc="answers", mininterval=1.0):
        seen = torch.from_numpy(features[start : start + CHUNK]).float().to(device)
        parts.append([part.float().cpu() for part in answers(model, seen)])
    model.to("cpu")
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _compared(
    teacher: WorldModel, student: WorldModel, held: Array, plain: Rows, looks: Rows
) -> dict[str, dict[str, float]]:
    """How far [m] from the teacher's answers to held-out pictures as they are, in the median, the others are."""
    count = len(looks) // len(plain)
    truth = _where(teacher, Picked(plain, held))
    asked = {
        "in their looks, before": (teacher, Picked(looks, held * count)),
        "in their looks": (student, Picked(looks, held * count)),
        "as they are": (student, Picked(plain, held)),
    }
    found: dict[str, dict[str, float]] = {}
    for name, (model, features) in asked.items():
        gaps = [(a - b).norm(dim=-1).median() for a, b in zip(_where(model, features), truth, strict=True)]
        found[name] = {"object": float(gaps[0]), "hand": float(gaps[1])}
    return found


@torch.no_grad()
def _where(model: WorldModel, features: Rows) -> tuple[Tensor, Tensor]:
    """Objects [n,N,C] and hands [n,C] [m]."""
    parts = []
    for start in range(0, len(features), CHUNK):
        z = model.project(torch.from_numpy(features[start : start + CHUNK]).float()[:, None])[:, 0]
        parts.append((model.locate(model.place(z)), model.position(model.decode_proprio(z))))
    places, hands = zip(*parts, strict=True)
    return torch.cat(places), torch.cat(hands)


def _finish(model: WorldModel, report: dict[str, Any], folder: Path, data: Sequence[str]) -> dict[str, Any]:
    """Write the bundle, then the report that says that the run is complete."""
    print(json.dumps(report["validation"], indent=2))
    model.name = report["name"]
    shutil.rmtree(folder / "model", ignore_errors=True)  # of a run that was killed before its report
    gaps = report["validation"].items()
    rows = "\n".join(f"| {look} | {gap['object']:.4f} | {gap['hand']:.4f} |" for look, gap in gaps)
    card = f"""# {report["name"]}

A world model, made from one with sha256 `{report["augmented_from"]}` by `worldmodel augment` on {", ".join(data)} (data
sha256 `{report["data_sha256"]}`). Median distance [m] of what it says of held-out pictures from what that one said of
them as they are:

| pictures | object | hand |
|---|---|---|
{rows}

Machine: {json.dumps(report["machine"])}. Settings:

```json
{json.dumps(report["settings"], indent=2)}
```
"""
    report["model_sha256"] = save(model, folder / "model", card)
    write_json(folder / REPORT, report)
    shutil.rmtree(folder / CHECKPOINTS)
    return report
