"""The page of a suite: one file that needs no other, for a browser or the appendix of a paper."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from itertools import groupby
from pathlib import Path

from PIL import Image

from benchmarks.protocol import PROTOCOL, protocol_sha256, steps_of
from benchmarks.report import badges, distances, footer, rate_cell, tag, write_report
from benchmarks.report_figures import latencies, over_decisions, over_goals, over_interactions, over_latency
from benchmarks.report_probes import horizons, probes
from benchmarks.report_rows import Measured, Pair, pairs, read_rows
from benchmarks.report_shifts import shifts
from benchmarks.report_style import SORT, STYLE, SUITE_STYLE
from benchmarks.summary import Line
from worldmodel.baselines.strip import STRIP
from worldmodel.storage import atomic_file

STRIPS = 12  # of a row, the worst first
COLUMNS = (
    "agent", "reached", "held", "distance [cm]", "decisions", "s per decision", "candidate steps", "episodes",
    "failures", "parameters", "sees [px]", "trained on", "encoder on", "tried", "model",
)  # fmt: skip
MOST_ERRORS = 10
ABOUT = (
    "Reached, held: rates in % with Wilson 95% intervals. Distance: the final one, median (a failed episode counts as "
    "infinitely far) and mean of the others. Decisions: median until the goal is reached, of the episodes that did. "
    "Seconds per decision: an episode's share of its batch, median and 95th percentile. Candidate steps: what the "
    "planner looked at, per decision. Parameters: without those of a frozen encoder. Sees: the side of the pictures it "
    "is given or, with features, its encoder is. Trained on: decisions of the logs it could learn from, those held out "
    "not counted; encoder on: the same of its encoder. Tried: configurations, the chosen one included. Empty: not "
    "recorded, or there is none. A click on a head sorts."
)
PAIRED = ("task", "first", "second", "seeds", "only first", "only second", "p", "distance, first - second [cm]")
ABOUT_PAIRS = (
    "Success on the same seeds: episodes that only one of the two solved, and the exact two-sided McNemar test of "
    "them, not corrected for the number of comparisons. Distance: mean difference with a bootstrap 95% interval, over "
    "the seeds on which neither failed."
)


def report(*, data: str | Path) -> Path:
    """Write data/index.html: of a suite's folder this page, of a single result the one with its films.

    Raises ConfigError where there is no result.
    """
    folder = Path(data)
    return write_report(folder) if (folder / "summary.json").is_file() else write_suite_report(folder)


def write_suite_report(folder: Path) -> Path:
    """Write folder/index.html over folder/*/summary.json; returns its path. Raises ConfigError for no result."""
    rows = read_rows(folder)
    page = folder / "index.html"
    with atomic_file(page) as temporary:
        temporary.write_text(_page(folder, rows), encoding="utf-8")
    return page


def _page(folder: Path, rows: Sequence[Measured]) -> str:
    tasks = [(task, list(own)) for task, own in groupby(rows, key=lambda row: str(row.summary["task"]))]
    names = ", ".join(task for task, _ in tasks)
    compared = pairs(rows)
    sections = "\n".join(_task(task, own) for task, own in tasks)
    tests = _paired(compared) if compared else ""
    more = "\n".join(
        f'<h2>{title}</h2>\n<p class="about">{escape(about)}</p>\n{_table(head, body)}'
        for title, (head, body, about) in (("Looks", shifts(rows)), ("Probes", probes(folder)))
        if body
    )
    details = "\n".join(_row_section(index, row) for index, row in enumerate(rows))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(names)}: benchmark</title>
<style>{STYLE}{SUITE_STYLE}</style>
</head>
<body>
<main>
<h1>Driving to goal images: {escape(names)}</h1>
<p class="lead">The agent sees a picture of where things should be and acts until the budget of decisions is spent.
<em>Reached</em>: {escape(PROTOCOL.reached)}. <em>Held</em>: {escape(PROTOCOL.held)}. A failure:
{escape(PROTOCOL.failure)}.</p>
{sections}
<p class="about">{escape(ABOUT)}</p>
{more}
{tests}
<h2>Rows</h2>
{details}
{_protocol(rows)}
{footer([(row.folder, row.summary) for row in rows])}
</main>
<script>{SORT}</script>
</body>
</html>
"""


def _task(task: str, rows: Sequence[Measured]) -> str:
    """Table and figures of one task."""
    first = rows[0].summary
    ranges = sorted({f"{row.summary['seeds']['range']} seeds from {row.summary['seeds']['first']}" for row in rows})
    about = (
        f"{first['env_id']}, {', '.join(ranges)}; budget {first['budget']} {steps_of(first['env_id'])}; "
        f"success within {100 * first['success_radius_m']:g} cm"
    )
    known = [row for row in rows if row.rate is not None and row.lines]
    timed = [row for row in known if row.seconds]
    drawn = [("Reached within so many decisions", over_decisions, known)]
    drawn += [("Success and time", over_latency, timed), ("Time per decision", latencies, timed)]
    drawn.append(("Success and interactions", over_interactions, [row for row in known if row.interactions]))
    figures = "".join(
        f"<figure>{draw(own)}<figcaption>{escape(title)}</figcaption></figure>" for title, draw, own in drawn if own
    )
    figures += "".join(
        f"<figure>{over_goals(curves)}<figcaption>Goals further away</figcaption></figure>"
        for curves in horizons(rows).values()
    )
    body = [_cells(row) for row in rows]
    return (
        f'<section>\n<h2>{escape(task)}</h2>\n<p class="about">{escape(about)}</p>\n{_table(COLUMNS, body)}\n'
        f'<div class="figures">{figures}</div>\n</section>'
    )


def _cells(row: Measured) -> list[tuple[str, float | str | None]]:
    """HTML and the value it is sorted by, of every column of the main table."""
    summary, model = row.summary, row.summary["model"]
    distance, seconds = summary["final_distance_m"], summary["seconds_per_decision"]
    reached = summary["decisions_to_success"]["median"]
    plain = [
        (summary["candidate_steps_per_decision"], ",.0f"), (summary["episodes"], "d"), (len(summary["failures"]), "d"),
        (model.get("parameters"), ",d"), (model.get("pixels"), "d"), (model.get("decisions"), ",d"),
        (model.get("encoder_decisions"), ",d"),
    ]  # fmt: skip
    tried, least = model.get("configurations_tried"), model.get("configurations_tried_at_least")
    short = "" if model["sha256"] is None else str(model["sha256"])[:8]
    return [
        (f"<strong>{escape(row.name)}</strong>{badges(model)}", row.name),
        (rate_cell(summary["success_rate"], summary["success_ci95"]), summary["success_rate"]),
        (rate_cell(summary["held_rate"], summary["held_ci95"]), summary["held_rate"]),
        (_two(distance["median"], distance["mean"], "mean", 100, ".1f"), distance["median"]),
        ("" if reached is None else f"{reached:g}", reached),
        (_two(seconds["p50"], seconds["p95"], "p95", 1, ".2g"), seconds["p50"]),
        *(("" if value is None else f"{value:{form}}", value) for value, form in plain),
        (str(tried or (least and f"at least {least}") or ""), tried or least),
        (escape(short), short),
    ]


def _two(value: float | None, other: float | None, name: str, factor: float, form: str) -> str:
    """A number, and beside it a smaller one with its name."""
    shown = ["-" if each is None else f"{factor * each:{form}}" for each in (value, other)]
    return f"{shown[0]}<small>{name} {shown[1]}</small>"


def _table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, float | str | None]]]) -> str:
    """A table that sorts at a click on its head."""
    words = [' class="word"' if isinstance(value, str) else "" for _, value in rows[0]]
    titles = "".join(
        f'<th{word} aria-sort="none"><button type="button">{escape(title)}</button></th>'
        for title, word in zip(head, words, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td{word} data-value="{escape("" if value is None else str(value))}">{cell}</td>'
            for (cell, value), word in zip(row, words, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="sortable">\n<thead><tr>{titles}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _paired(compared: Sequence[Pair]) -> str:
    body = []
    for pair in compared:
        test, far = pair.success, pair.distance
        cells: list[tuple[str, float | str | None]] = [
            (escape(text), text) for text in (str(pair.first.summary["task"]), pair.first.name, pair.second.name)
        ]
        cells += [(str(count), count) for count in (pair.seeds, test.only_first, test.only_second)]
        cells.append((f"{test.p_value:.2g}", test.p_value))
        numbers = () if far is None else (100 * far.mean, 100 * far.low, 100 * far.high)
        text = "{:+.1f}<small>{:+.1f} to {:+.1f}</small>".format(*numbers) if numbers else ""
        cells.append((text, numbers[0] if numbers else None))
        body.append(cells)
    return f'<h2>Paired comparisons</h2>\n<p class="about">{escape(ABOUT_PAIRS)}</p>\n{_table(PAIRED, body)}'


def _row_section(index: int, row: Measured) -> str:
    """Command, failures, forecast and the worst films' strips of one row."""
    summary, parts = row.summary, []
    config = row.folder / "config.yaml"
    if config.is_file():
        command = config.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        parts.append(f"<pre>{escape(command)}</pre>")
    if "effort" in summary["model"]:
        parts.append(f'<p class="about">{escape(summary["model"]["effort"])}</p>')
    if summary["interrupted"]:
        parts.append(f'<p class="notice">Interrupted after {len(row.lines)} episodes.</p>')
    if "success_unknown" in summary:
        parts.append(f'<p class="notice">Success is unknown: {escape(summary["success_unknown"])}.</p>')
    errors = [f'<p class="error">seed {each["seed"]}: {escape(each["error"])}</p>' for each in summary["failures"]]
    parts += errors[:MOST_ERRORS]
    if len(errors) > MOST_ERRORS:
        parts.append(f'<p class="error">and {len(errors) - MOST_ERRORS} more in episodes.jsonl</p>')
    if (row.folder / STRIP).is_file():
        about = "the pictures it predicts, beside the true ones"
        parts.append(f"<figure>{_embedded(row.folder / STRIP, about)}<figcaption>{about}</figcaption></figure>")
    strips = [(line, row.folder / "videos" / f"{line['seed']}.png") for line in sorted(row.lines, key=_worst)]
    shown = [_strip(line, path) for line, path in strips if path.is_file()]
    if len(shown) > STRIPS:
        parts.append(f'<p class="about">{STRIPS} of {len(shown)} episodes, the failed ones first.</p>')
    parts.append(f'<div class="cards">{"".join(shown[:STRIPS])}</div>' if shown else "")
    title = f"{escape(str(summary['task']))} <small>{escape(row.name)}</small>"
    return f'<section id="row-{index}"><h3>{title}</h3>\n{"".join(parts)}</section>'


def _worst(line: Line) -> tuple[int, float]:
    """Failed episodes first, then those that did not reach, then those that did not hold; far before near."""
    rank = 0 if line["error"] is not None else 1 if not line["reached"] else 2 if not line["held"] else 3
    return rank, -(line["final_distance_m"] or 0.0)


def _strip(line: Line, path: Path) -> str:
    far = f'<span class="far">{escape(distances(line))}</span>'
    error = "" if line["error"] is None else f'<p class="error">{escape(line["error"])}</p>'
    header = f"<header><b>seed {line['seed']}</b>{tag(line)}{far}</header>"
    return f'<article class="card">{header}{error}{_embedded(path, "start, goal and final picture")}</article>'


def _embedded(path: Path, about: str) -> str:
    """An <img> with the picture inside; JPEG, so that a page of many stays small."""
    stream = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(stream, format="jpeg", quality=85)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(about)}">'


def _protocol(rows: Sequence[Measured]) -> str:
    """The protocol in full, where all rows were measured under the present one; a warning otherwise."""
    if {row.summary["protocol"]["sha256"] for row in rows} != {protocol_sha256()}:
        return '<p class="notice">Not all rows were measured under the present protocol: see the hashes below.</p>'
    text = json.dumps(asdict(PROTOCOL), indent=1, ensure_ascii=False)
    return f"<details><summary>The protocol, version {PROTOCOL.version}</summary><pre>{escape(text)}</pre></details>"
