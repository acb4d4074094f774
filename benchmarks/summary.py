"""From the lines of episodes.jsonl to the numbers of one row."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.protocol import PROTOCOL, protocol_sha256
from benchmarks.stats import percentile, wilson_interval

Line = Mapping[str, Any]
GOAL_UNKNOWN = "the goal is an image of the user's own: where it lies in the world is unknown"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The finished episodes."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summarise(lines: Sequence[Line], goal_known: bool) -> dict[str, Any]:
    """Rates with intervals, distances, cost per decision and the failures.

    A failed episode has no final distance: the median takes it as infinitely far (None when it is itself infinite),
    the mean leaves it out, and `measured` says how many episodes it is over. Seconds per decision are those of an
    `act` call divided by the episodes it served; `seconds_per_act` is what one robot waits.
    """
    measured = [line["final_distance_m"] for line in lines if line["final_distance_m"] is not None]
    endless = [*measured, *[float("inf")] * (len(lines) - len(measured))]
    acts = [second for line in lines for second in line["seconds"]]
    shared = [second / line["parallel"] for line in lines for second in line["seconds"]]
    first = [line["first_reached"] for line in lines if line["first_reached"] is not None]
    return {
        "episodes": len(lines),
        **_rate(lines, "reached", "successes", "success_rate", "success_ci95", goal_known),
        **_rate(lines, "held", "held", "held_rate", "held_ci95", goal_known),
        **({} if goal_known else {"success_unknown": GOAL_UNKNOWN}),
        "final_distance_m": {
            "mean": _rounded(statistics.fmean(measured) if measured else None),
            "median": _rounded(percentile(endless, 50) if goal_known else None),
            "measured": len(measured),
        },
        "decisions_to_success": {"median": percentile(first, 50), "p95": percentile(first, 95)},
        "seconds_per_decision": {"p50": _rounded(percentile(shared, 50)), "p95": _rounded(percentile(shared, 95))},
        "seconds_per_act": {"p50": _rounded(percentile(acts, 50)), "p95": _rounded(percentile(acts, 95))},
        "model_calls_per_decision": _mean([count for line in lines for count in line["model_calls"]]),
        "candidate_steps_per_decision": _mean(
            [count / line["parallel"] for line in lines for count in line["candidate_steps"]]
        ),
        "blocked_decisions": sum(line["blocked"] for line in lines),
        "trespasses": _total([line["trespasses"] for line in lines]),
        "failures": [{"seed": line["seed"], "error": line["error"]} for line in lines if line["error"] is not None],
    }


def protocol_card() -> dict[str, Any]:
    """Version and hash of the protocol."""
    return {"version": PROTOCOL.version, "sha256": protocol_sha256()}


def table(summary: Mapping[str, Any]) -> str:
    """The short table for the terminal."""
    seeds = summary["seeds"]
    who = summary["agent"] if summary["planner"] is None else f"{summary['agent']} ({summary['planner']})"
    distance, seconds = summary["final_distance_m"], summary["seconds_per_decision"]
    rows = [
        ("reached", _rate_text(summary, "successes", "success_rate", "success_ci95")),
        ("held", _rate_text(summary, "held", "held_rate", "held_ci95")),
        ("final distance", f"median {_unit(distance['median'], 100, 'cm')}, mean {_unit(distance['mean'], 100, 'cm')}"),
        ("per decision", f"p50 {_unit(seconds['p50'], 1, 's')}, p95 {_unit(seconds['p95'], 1, 's')}"),
        *([] if summary["trespasses"] is None else [("trespasses", _trespass_text(summary))]),
        ("failures", str(len(summary["failures"]))),
    ]
    head = (
        f"{summary['task']} · {who} · {summary['episodes']} episodes, {seeds['range']} seeds "
        f"{seeds['first']} to {seeds['last']}, protocol version {summary['protocol']['version']}"
    )
    errors = [f"  seed {failure['seed']}: {failure['error']}" for failure in summary["failures"][:5]]
    return "\n".join([head, *(f"  {name:<16}{text}" for name, text in rows), *errors])


def _rate(lines: Sequence[Line], key: str, count: str, rate: str, interval: str, known: bool) -> dict[str, Any]:
    if not known or not lines:
        return {count: None if not known else 0, rate: None, interval: None}
    successes = sum(line[key] is True for line in lines)
    low, high = wilson_interval(successes, len(lines))
    return {count: successes, rate: successes / len(lines), interval: [round(low, 4), round(high, 4)]}


def _rate_text(summary: Mapping[str, Any], count: str, rate: str, interval: str) -> str:
    if summary[rate] is None:
        return "unknown" if "success_unknown" in summary else "no episode"
    low, high = summary[interval]
    share = f"{summary[count]}/{summary['episodes']}"
    return f"{share:<9}{100 * summary[rate]:.0f}%  (95%: {100 * low:.0f} to {100 * high:.0f})"


def _unit(value: float | None, factor: float, unit: str) -> str:
    return "-" if value is None else f"{factor * value:.3g} {unit}"


def _trespass_text(summary: Mapping[str, Any]) -> str:
    return f"{summary['trespasses']} decisions; {summary['blocked_decisions']} more in which no plan was allowed"


def _total(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.fmean(values), 2) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
