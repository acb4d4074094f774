"""How long a decision takes, and how much of that is not the model: planners against the bare rollouts in them.

All rows take turns within one run, so that a slow moment of the machine hits them alike. The floor is measured inside
the search: right before or after the cost of some candidates, the model's rollout of the same candidates runs once
more, alone; the time of that is the floor's and is taken off the planner's. The clock waits for an accelerator.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import worldmodel
from benchmarks.latency_subjects import (
    Search,
    Subject,
    Toy,
    act_solver,
    compact_subjects,
    has_swm,
    transformer_subjects,
)
from benchmarks.latency_table import lines, targets
from benchmarks.machine import machine, versions
from worldmodel.candidates import Chunked
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.precision import multiplies_bf16
from worldmodel.storage import atomic_file, new_folder, write_json
from worldmodel.training.device import choose_device

PLANNERS = ("cem", "icem", "mppi")
LATENCY = "latency.json"
FOREIGN = "stable-worldmodel cem"
WHOLE = "whole decision"  # from the picture to the action


@dataclass
class Row:
    """One line of the table: seconds of each decision, and of the bare rollouts in it where there is such a thing."""

    model: str
    planner: str
    mode: str
    decide: Callable[[Row], None]
    seconds: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    calls: int = 0
    chunking: dict[str, int] | None = None

    def card(self) -> dict[str, Any]:
        """For latency.json."""
        return {key: value for key, value in vars(self).items() if key != "decide"}


def latency(
    *,
    out: str | Path,
    model: str | Path = "jaco",
    planners: Sequence[str] = PLANNERS,
    repeats: int = 20,
    enough: float = 30.0,
    threads: int | None = None,
    device: str = "auto",
    num_samples: int = 300,
    num_elites: int = 30,
    num_iterations: int = 10,
    horizon: int = 5,
    tokens: int = 16,
    width: int = 192,
    depth: int = 4,
    memory: float = 2.0,
    seed: int = 0,
    config: str | None = None,
) -> dict[str, Any]:
    """Measure `repeats` decisions of every row and write table.md and latency.json to the new folder `out`.

    enough: seconds after which a row is not repeated any more, if it decided twice. model: by name, or a folder.
    device: of both models. tokens, width, depth: of the transformer. memory: GiB that its candidates may take. The
    other settings are those of the planners. An interruption keeps what every row has.

    Raises ConfigError, OutputError, BundleError and PlanningError.
    """
    _check(planners)
    if threads is not None:
        torch.set_num_threads(threads)
    search = Search(num_samples, num_elites, num_iterations, horizon)
    loaded = worldmodel.load(model).to(choose_device(device))
    if not isinstance(loaded, WorldModel):
        raise ConfigError(f"expected a model that train wrote, got {loaded.name!r} in another form: name model=jaco")
    rows = _rows(loaded, planners, search, Toy(tokens, width, depth, memory * 2**30), seed)
    folder = new_folder(Path(out))
    if config is not None:
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    settings = {
        "planners": list(planners), "repeats": repeats, "enough": enough, **vars(search),
        "tokens": tokens, "width": width, "depth": depth, "memory": memory, "seed": seed,
    }  # fmt: skip
    measured: dict[str, Any] = {}
    try:
        _measure(rows, repeats, enough, seed)
    finally:
        if all(row.seconds for row in rows):
            card = {"name": loaded.name, "sha256": loaded.sha256}
            found = _results(rows, loaded.device())
            measured = {"suite": "latency", "model": card, "settings": settings, **found}
            _write(folder, measured)
    return measured


def _results(rows: Sequence[Row], device: torch.device) -> dict[str, Any]:
    """What was measured, and on what."""
    return {
        "machine": {**machine(), "device": str(device), "bf16": multiplies_bf16(device)},
        "versions": versions(),
        "rows": [row.card() for row in rows],
        "targets": targets(rows),
        "notes": _notes(device),
    }


def _check(planners: Sequence[str]) -> None:
    unknown = [name for name in planners if name not in PLANNERS]
    if unknown or not planners:
        raise ConfigError(
            f"expected planners to be some of {', '.join(PLANNERS)}, got {list(planners)}: write planners=[cem,mppi]"
        )


def _rows(model: WorldModel, planners: Sequence[str], search: Search, toy: Toy, seed: int) -> list[Row]:
    rows: list[Row] = []
    device, clock = model.device(), clock_of(model.device())
    for subject in (*compact_subjects(model, search.horizon, seed), *transformer_subjects(toy, search, seed, device)):
        for planner in planners:
            decide = _paired(subject, search.solver(planner, subject.action_dim, device), clock)
            rows.append(Row(subject.model, planner, subject.mode, decide))
        if has_swm():
            decide = _paired(subject, search.foreign_solver(subject.action_dim, device), clock)
            rows.append(Row(subject.model, FOREIGN, subject.mode, decide))
    for planner in planners:
        rows.append(Row(model.name, planner, WHOLE, _whole(act_solver(model, planner, search, seed), clock)))
    return rows


def clock_of(device: torch.device) -> Callable[[], float]:
    """A clock [s] that waits until an accelerator has done what it was given to do."""
    if device.type == "cpu":
        return time.perf_counter

    def clock() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return clock


def _paired(
    subject: Subject, solve: Callable[[Callable[[Tensor], Tensor]], object], clock: Callable[[], float]
) -> Callable[[Row], None]:
    """A decision whose every call of the cost is paired with the bare rollout of the same candidates."""

    def decide(row: Row) -> None:
        alone = 0.0
        row.calls = 0

        def both(actions: Tensor) -> Tensor:
            nonlocal alone
            row.calls += 1
            found = cost(actions) if row.calls % 2 else None
            started = clock()
            bare(actions)
            alone += clock() - started
            return cost(actions) if found is None else found

        started = clock()
        cost, bare = subject.prepare()
        solve(both)
        row.seconds.append(clock() - started - alone)
        row.floor.append(alone)
        if isinstance(cost, Chunked):
            row.chunking = {"size": cost.size, "halvings": cost.halvings, "calls": cost.calls}

    return decide


def _whole(act: Callable[[], object], clock: Callable[[], float]) -> Callable[[Row], None]:
    def decide(row: Row) -> None:
        started = clock()
        act()
        row.seconds.append(clock() - started)

    return decide


def _measure(rows: Sequence[Row], repeats: int, enough: float, seed: int) -> None:
    """One round to warm up, then `repeats` rounds in which rows decide once each, every round in another order."""
    order = random.Random(seed)
    with tqdm(total=(repeats + 1) * len(rows), desc="latency", unit="decision", dynamic_ncols=True) as bar:
        for turn in range(repeats + 1):
            for row in order.sample(rows, len(rows)):
                bar.set_postfix_str(f"{row.model}, {row.planner}, {row.mode}")
                if len(row.seconds) < 2 or sum(row.seconds) + sum(row.floor) < enough:
                    with torch.no_grad():
                        row.decide(row)
                bar.update()
            if turn == 0:
                for row in rows:
                    row.seconds.clear()
                    row.floor.clear()


def _notes(device: torch.device) -> list[str]:
    notes = ["compact: one latent and no context, so there is nothing to cache and nothing to run again"]
    if not multiplies_bf16(device):
        notes.append(f"no rows in bf16: this {device.type.upper()} does not multiply it faster than float32")
    if not has_swm():
        notes.append(f"no rows of {FOREIGN}: it is not installed (pip install -e .[interop])")
    return notes


def _write(folder: Path, measured: dict[str, Any]) -> None:
    write_json(folder / LATENCY, measured)
    text = "\n".join(lines(measured))
    with atomic_file(folder / "table.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)
