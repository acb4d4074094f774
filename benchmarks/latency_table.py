"""The latency suite's page: one table of rows, and the targets beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchmarks.stats import percentile

HEAD = (
    "| model | planner | mode | decisions | s per decision, p50 | p95 | floor: bare rollouts, p50 | planner / floor |",
    "|---|---|---|---|---|---|---|---|",
)
OURS = ("cem", "icem", "mppi")


class Measured(Protocol):
    """A row with paired seconds of decisions and of the bare rollouts in them."""

    model: str
    planner: str
    mode: str
    seconds: list[float]
    floor: list[float]


def lines(measured: Mapping[str, Any]) -> list[str]:
    """Markdown: what was measured on what, the table, the targets, the notes."""
    machine, settings = measured["machine"], measured["settings"]
    return [
        f"Model {measured['model']['name']}, and a transformer. "
        f"{machine['cpu']}, {machine['threads']} threads on {machine['cores']} cores, device {machine['device']} "
        f"{'with' if machine['bf16'] else 'without'} bf16; torch {measured['versions']['torch']}",
        f"K = {settings['num_samples']}, H = {settings['horizon']}, {settings['num_iterations']} iterations; "
        f"transformer: {settings['tokens']} tokens of {settings['width']}, depth {settings['depth']}, random weights; "
        "the rows take turns",
        "",
        *HEAD,
        *(_line(row) for row in measured["rows"]),
        "",
        *(_target(target) for target in measured["targets"]),
        "",
        *(f"* {note}" for note in measured["notes"]),
    ]


def targets(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    """The targets that these rows bear on: {"what", "limit", "at_most", "measured", "met"}."""
    found = []
    for model in dict.fromkeys(row.model for row in rows):
        ratios = {f"{row.planner}, {row.mode}": ratio(row.seconds, row.floor) for row in _floored(rows, model)}
        where = max(ratios, key=ratios.__getitem__)
        found.append(_against(f"planner / floor on {model}, the largest ({where})", ratios[where], 1.05, True))
    first = rows[0].planner
    by_mode = {row.mode: row.seconds for row in rows if row.planner == first}
    for mode, limit in (("cached", 3.0), ("cached bf16", 8.0)):
        if mode in by_mode:
            faster = statistics.median(by_mode["full re-run"]) / statistics.median(by_mode[mode])
            found.append(_against(f"transformer, {first}: full re-run / {mode}", faster, limit, False))
    whole = percentile(by_mode["whole decision"], 50)
    assert whole is not None
    found.append(_against(f"{rows[0].model}, {first}: s per whole decision, p50", whole, 0.15, True))
    return found


def ratio(seconds: Sequence[float], floor: Sequence[float]) -> float:
    """Median of the paired ratios."""
    return statistics.median(one / other for one, other in zip(seconds, floor, strict=True))


def _floored(rows: Sequence[Measured], model: str) -> list[Measured]:
    return [row for row in rows if row.model == model and row.floor and row.planner in OURS]


def _against(what: str, value: float, limit: float, at_most: bool) -> dict[str, Any]:
    met = value <= limit if at_most else value >= limit
    return {"what": what, "limit": limit, "at_most": at_most, "measured": round(value, 4), "met": met}


def _line(row: Mapping[str, Any]) -> str:
    p50, p95, floor = (
        percentile(row[key], percent) for key, percent in (("seconds", 50), ("seconds", 95), ("floor", 50))
    )
    over = "-" if floor is None else f"{ratio(row['seconds'], row['floor']):.3f}"
    words = [row["model"], row["planner"], row["mode"], str(len(row["seconds"]))]
    cells = [*words, *(_seconds(value) for value in (p50, p95, floor)), over]
    return f"| {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _target(target: Mapping[str, Any]) -> str:
    sign = "<=" if target["at_most"] else ">="
    verdict = "met" if target["met"] else "missed"
    return f"* {target['what']}: {target['measured']:.3f}, target {sign} {target['limit']:g}: {verdict}"
