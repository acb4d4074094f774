"""The table of looks: every agent in its standard look, and beside it in those that training data does not have."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report import rate_cell
from benchmarks.report_rows import Measured, alike, pairs, who

Cell = tuple[str, float | str | None]
ABOUT = (
    "Reached in % with Wilson 95% intervals; same starts, goals and physics in every look, and goal images in the look "
    "of the episode. p: exact McNemar test against the same agent in the standard look, on the seeds that both have."
)


def shifts(rows: Sequence[Measured]) -> tuple[list[str], list[list[Cell]], str]:
    """Head, cells (HTML, and the value they are sorted by) and caption; no cells where no row has another look."""
    looks = list(dict.fromkeys(row.shift for row in rows if row.shift is not None))
    found: dict[str, dict[str | None, Measured]] = {}
    for row in rows:
        found.setdefault(alike(row, but_for="shift"), {})[row.shift] = row
    body = [_line(own, looks) for own in found.values() if len(own) > 1]
    return ["task", "agent", "standard", *looks], body, ABOUT


def _line(own: dict[str | None, Measured], looks: Sequence[str]) -> list[Cell]:
    first = next(iter(own.values())).summary
    cells: list[Cell] = [(str(first["task"]), str(first["task"])), (who(first), who(first))]
    return cells + [_cell(own.get(look), own.get(None)) for look in (None, *looks)]


def _cell(row: Measured | None, standard: Measured | None) -> Cell:
    if row is None:
        return "", None
    text = rate_cell(row.rate, row.summary["success_ci95"])
    for pair in pairs([row, standard]) if standard is not None and row is not standard else []:
        text += f"<small>p {pair.success.p_value:.2g}</small>"
    return text, row.rate
