"""The page of a folder that holds one result, or several in folders of their own: `python -m benchmarks.report DIR`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.protocol import PROTOCOL, steps_of
from benchmarks.report_style import STYLE
from benchmarks.summary import read_lines
from worldmodel.errors import ConfigError, WorldModelError
from worldmodel.storage import atomic_file

MOST_CARDS = 200  # a page with more videos than this opens badly
COLUMNS = (
    ("task and agent", "reached", "held", "final distance", "per decision", "episodes", "failures"),
    "rates with Wilson 95% intervals; final distance: median and mean; seconds per decision: p50 and p95",
)


def write_report(folder: Path) -> Path:
    """Write folder/index.html over folder/summary.json and folder/*/summary.json; returns its path.

    Raises ConfigError where there is no result.
    """
    found = [
        path.parent for path in (folder / "summary.json", *sorted(folder.glob("*/summary.json"))) if path.is_file()
    ]
    if not found:
        raise ConfigError(f"expected a folder with summary.json in it or one level below, got {folder}: drive first")
    results = [(path, json.loads((path / "summary.json").read_text(encoding="utf-8"))) for path in found]
    page = folder / "index.html"
    with atomic_file(page) as temporary:
        temporary.write_text(_page(folder, results), encoding="utf-8")
    return page


def _page(folder: Path, results: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    rows = "\n".join(_row(summary) for _, summary in results)
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS[0])
    sections = "\n".join(_section(folder, path, summary) for path, summary in results)
    tasks = ", ".join(dict.fromkeys(str(summary["task"]) for _, summary in results))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(tasks)}: results</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Driving to goal images</h1>
<p class="lead">The agent sees a picture of where things should be and acts until the budget of decisions is spent.
<em>Reached</em>: {escape(PROTOCOL.reached)}. <em>Held</em>: {escape(PROTOCOL.held)}.</p>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="about">{escape(COLUMNS[1])}.</p>
{sections}
{footer(results)}
</main>
</body>
</html>
"""


def _row(summary: Mapping[str, Any]) -> str:
    distance, seconds = summary["final_distance_m"], summary["seconds_per_decision"]
    cells = [
        f"<strong>{escape(str(summary['task']))}</strong><small>{escape(_who(summary))}</small>{badges(summary['model'])}",
        rate_cell(summary["success_rate"], summary["success_ci95"]),
        rate_cell(summary["held_rate"], summary["held_ci95"]),
        f"{number(distance['median'], 100, 'cm')}<small>mean {number(distance['mean'], 100, 'cm')}</small>",
        f"{number(seconds['p50'], 1, 's')}<small>p95 {number(seconds['p95'], 1, 's')}</small>",
        str(summary["episodes"]),
        str(len(summary["failures"])),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _section(folder: Path, path: Path, summary: Mapping[str, Any]) -> str:
    lines = read_lines(path / "episodes.jsonl")
    seeds = summary["seeds"]
    notices = []
    if summary["interrupted"]:
        notices.append(f"Interrupted after {len(lines)} of {seeds['last'] - seeds['first'] + 1} episodes.")
    if "success_unknown" in summary:
        notices.append(f"Success is unknown: {summary['success_unknown']}.")
    if len(lines) > MOST_CARDS:
        notices.append(f"The first {MOST_CARDS} of {len(lines)} episodes are shown; episodes.jsonl has them all.")
    about = (
        f"{summary['env_id']}, {seeds['range']} seeds {seeds['first']} to {seeds['last']}, budget {summary['budget']} "
        f"{steps_of(summary['env_id'])}, success within {100 * summary['success_radius_m']:g} cm"
    )
    cards = "\n".join(_card(folder, path, line) for line in lines[:MOST_CARDS])
    notes = "".join(f'<p class="notice">{escape(notice)}</p>' for notice in notices)
    return (
        f"<section>\n<h2>{escape(str(summary['task']))} <small>{escape(_who(summary))}</small></h2>\n"
        f'<p class="about">{escape(about)}</p>\n{notes}<div class="cards">\n{cards}\n</div>\n</section>'
    )


def _card(folder: Path, path: Path, line: Mapping[str, Any]) -> str:
    film, strip = path / "videos" / f"{line['seed']}.mp4", path / "videos" / f"{line['seed']}.png"
    parts = []
    if film.is_file():
        parts.append(f'<video controls muted loop playsinline preload="metadata" src="{_link(folder, film)}"></video>')
    parts.append(
        f'<header><b>seed {line["seed"]}</b>{tag(line)}<span class="far">{escape(distances(line))}</span></header>'
    )
    if line["error"] is not None:
        parts.append(f'<p class="error">{escape(line["error"])}</p>')
    if strip.is_file():
        parts.append(f'<img src="{_link(folder, strip)}" alt="start, goal and final picture" loading="lazy">')
    return f'<article class="card">{"".join(parts)}</article>'


def badges(model: Mapping[str, Any]) -> str:
    """Labels of what a model sees, was rewarded for, its size and training, and of what no other agent was given."""
    sees, pixels, steps = model.get("sees"), model.get("pixels"), model.get("steps")
    words = [
        sees and (str(sees) if pixels is None else f"{sees}, {pixels} px"),
        model.get("reward") and f"reward {model['reward']}",
        model.get("size") and f"size {model['size']}",
        steps and f"{steps:,} steps",
    ]
    found = [f'<span class="tag none">{escape(word)}</span>' for word in words if word]
    if model.get("privileged"):
        found.append(f'<span class="tag bad">privileged: {escape(str(model["privileged"]))}</span>')
    return f'<span class="badges">{"".join(found)}</span>' if found else ""


def tag(line: Mapping[str, Any]) -> str:
    if line["error"] is not None:
        return '<span class="tag bad">failed</span>'
    if line["reached"] is None:
        return '<span class="tag none">success unknown</span>'
    if line["held"]:
        return f'<span class="tag good">held</span><span>reached at decision {line["first_reached"]}</span>'
    if line["reached"]:
        return f'<span class="tag good">reached</span><span>at decision {line["first_reached"]}, not held</span>'
    return '<span class="tag bad">not reached</span>'


def distances(line: Mapping[str, Any]) -> str:
    if not line["distances_m"]:
        return f"{line['decisions']} decisions"
    start, end = line["distances_m"][0], line["final_distance_m"]
    return f"{100 * start:.1f} cm to {number(end, 100, 'cm')}"


def footer(results: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    """What the numbers rest on; a fact that differs between the results is given for each."""
    facts: dict[str, list[str]] = {}
    for _, summary in results:
        model, computer = summary["model"], summary["machine"]
        shown = {
            "protocol": f"version {summary['protocol']['version']}, sha256 {summary['protocol']['sha256']}",
            "model": "none" if model["name"] is None else f"{model['name']}, sha256 {model['sha256']}",
            "versions": ", ".join(f"{name} {value}" for name, value in summary["versions"].items()),
            "machine": f"{computer['cpu']}, {computer['cores']} cores, torch threads {computer['threads']}",
        }
        for name, value in shown.items():
            facts.setdefault(name, []).append(value)
    items = [
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, values in facts.items()
        for value in dict.fromkeys(values)
    ]
    return f"<footer><dl>{''.join(items)}</dl></footer>"


def _who(summary: Mapping[str, Any]) -> str:
    return summary["agent"] if summary["planner"] is None else f"{summary['agent']} ({summary['planner']})"


def rate_cell(rate: float | None, interval: Sequence[float] | None) -> str:
    if rate is None or interval is None:
        return "unknown"
    return f"<strong>{100 * rate:.0f}%</strong><small>{100 * interval[0]:.0f} to {100 * interval[1]:.0f}</small>"


def number(value: float | None, factor: float, unit: str) -> str:
    return "-" if value is None else f"{factor * value:.{1 if factor == 100 else 2}f} {unit}"


def _link(folder: Path, path: Path) -> str:
    return escape(quote(path.relative_to(folder).as_posix()))


def main(arguments: Sequence[str]) -> int:
    """One folder in, the place of its page out."""
    if len(arguments) != 1:
        print("error: expected one folder: python -m benchmarks.report DIR", file=sys.stderr)
        return 2
    try:
        print(write_report(Path(arguments[0])))
    except WorldModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
