"""What suite=probes adds to the page: how well a model's latents are read and predicted, and success over far goals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.report_rows import Measured, alike, labels, variant

Cell = tuple[str, float | str | None]
FILE = "probes-*.json"
ABOUT = (
    "Mean errors [cm] on exploratory logs of validation seeds. Linear, MLP: probes that read the position off one "
    "latent, fitted on other episodes; mean: without looking. After 1, 2, ... decisions: of the prediction from the "
    "first picture and the logged actions; still: of saying that nothing moves. The object is measured where it moved."
)


def probes(folder: Path) -> tuple[list[str], list[list[Cell]], str]:
    """Head, cells (HTML, and the value they are sorted by) and caption of folder/probes-*.json; no cells for none."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(FILE))]
    steps = sorted({step for each in found for step in _steps(each["settings"]["horizon"])})
    head = ["task", "model", "of", "linear", "MLP", "mean", *(f"after {step}" for step in steps), "still", "windows"]
    body: list[list[Cell]] = []
    for each in found:
        read, predicted = each["probe_errors_cm"], each["k_step_errors_cm"]
        for name in {**read, **predicted}:
            words = (each["task"], str(each["model"]["sha256"])[:8], name)
            errors = predicted.get(name, {"model": [], "still": []})
            numbers = [read.get(name, {}).get(kind) for kind in ("linear", "mlp", "mean")]
            numbers += [errors["model"][step - 1] if step <= len(errors["model"]) else None for step in steps]
            numbers += errors["still"][-1:] or [None]
            count = each["moved"] if name == "object" else each["windows"]
            cells: list[Cell] = [(escape(word), word) for word in words]
            cells += [("" if number is None else f"{number:.1f}", number) for number in numbers]
            body.append([*cells, (str(count), count)])
    return head, body, ABOUT


def _steps(horizon: int) -> list[int]:
    """1, 2, 4, ... and the last."""
    return [*(2**power for power in range(horizon.bit_length()) if 2**power < horizon), horizon]


def horizons(rows: Sequence[Measured]) -> dict[str, dict[str, list[tuple[int, Measured]]]]:
    """Task -> agent, and what sets it apart -> its rows by how many decisions away their goals are, if several."""
    groups: dict[str, list[tuple[int, Measured]]] = {}
    for row in rows:
        far = variant(row.summary)["goal_after"]
        if far is not None and row.lines and row.rate is not None:
            groups.setdefault(alike(row, but_for="goal_after"), []).append((int(far), row))
    several = [sorted(group, key=lambda pair: pair[0]) for group in groups.values() if len(group) > 1]
    named = labels([{**group[0][1].summary, "variant": {}} for group in several])
    found: dict[str, dict[str, list[tuple[int, Measured]]]] = {}
    for label, group in zip(named, several, strict=True):
        found.setdefault(str(group[0][1].summary["task"]), {})[label] = group
    return found
