"""The figures of a suite's page: SVG inside the page, in colours that are seen on a light and on a dark ground."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.report_rows import Measured

Curves = Mapping[str, Sequence[tuple[int, Measured]]]
"""An agent's rows by how many decisions of the log its goals are away."""
INK, LINE = "#7d8590", "#8b949e"
COLOURS = ("#2f81f7", "#e3702e", "#2da44e", "#a371f7", "#d29922", "#db61a2", "#1b9e9e", "#8c6d46", "#6e7781", "#f85149")
LONG = 26  # letters of a name of which two do not stand side by side
FASTEST = 1e-6  # [s] what is faster is shown as this


def over_decisions(rows: Sequence[Measured]) -> str:
    """The share of episodes that had reached the goal, over the decisions used."""
    figure, axes = _axes("decisions used", "reached [%]")
    for colour, row in zip(_colours(rows), rows, strict=True):
        shares = [100 * share for share in row.reached_within()]
        axes.step(range(len(shares)), shares, where="post", color=colour, linewidth=2, label=row.name)
    axes.set_ylim(-2, 102)
    return _image(figure, axes, "share of episodes that reached the goal, over the decisions used")


def over_latency(rows: Sequence[Measured]) -> str:
    """Success with Wilson intervals over the median seconds per decision; the line joins what nothing else beats."""
    figure, axes = _axes("seconds per decision, median", "reached [%]")
    seconds = [max(FASTEST, row.summary["seconds_per_decision"]["p50"] or 0.0) for row in rows]
    points = _points(axes, rows, seconds)
    front = pareto(points)
    axes.step([x for x, _ in front], [y for _, y in front], where="post", color=LINE, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(-2, 102)
    return _image(figure, axes, "success over seconds per decision")


def over_interactions(rows: Sequence[Measured]) -> str:
    """Success with Wilson intervals over the decisions in the environment that the agent was trained on."""
    figure, axes = _axes("decisions trained on", "reached [%]")
    _points(axes, rows, [float(row.interactions or 0) for row in rows])
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    axes.set_xlim(low / 3, 3 * high)
    axes.set_ylim(-2, 102)
    return _image(figure, axes, "success over environment interactions")


def _points(axes: Axes, rows: Sequence[Measured], across: Sequence[float]) -> list[tuple[float, float]]:
    """Success of every row [%] at its place across, with its interval."""
    points = []
    for colour, row, x in zip(_colours(rows), rows, across, strict=True):
        rate, (low, high) = float(row.rate or 0.0), row.summary["success_ci95"]
        error = [[100 * max(0.0, rate - low)], [100 * max(0.0, high - rate)]]
        axes.errorbar([x], [100 * rate], yerr=error, fmt="o", color=colour, capsize=3, label=row.name)
        points.append((x, 100 * rate))
    return points


def latencies(rows: Sequence[Measured]) -> str:
    """How long decisions took: shares of the decisions in logarithmic bins."""
    figure, axes = _axes("seconds per decision", "decisions [%]")
    everything = [max(FASTEST, second) for row in rows for second in row.seconds]
    low, high = math.log10(min(everything)), math.log10(max(everything))
    bins = np.logspace(low - 0.05, high + 0.05, 48).tolist()
    for colour, row in zip(_colours(rows), rows, strict=True):
        seconds = [max(FASTEST, second) for second in row.seconds]
        weights = [100 / max(1, len(seconds))] * len(seconds)
        axes.hist(seconds, bins, weights=weights, histtype="stepfilled", color=colour, alpha=0.55, label=row.name)
    axes.set_xscale("log")
    return _image(figure, axes, "histogram of seconds per decision")


def over_goals(curves: Curves) -> str:
    """Success with Wilson intervals over how many decisions of the log lie between start and goal."""
    return _image(*_goals(curves), "success over the distance of the goal in decisions of the log")


def goals_svg(curves: Curves) -> bytes:
    """The same as a file."""
    return _svg(*_goals(curves))


def _goals(curves: Curves) -> tuple[Figure, Axes]:
    figure, axes = _axes("decisions of the log from start to goal", "reached [%]")
    for colour, (name, rows) in zip(itertools.cycle(COLOURS), curves.items(), strict=False):
        rates = [100 * float(row.rate or 0.0) for _, row in rows]
        ends = [[100 * end for end in row.summary["success_ci95"]] for _, row in rows]
        error = [
            [rate - low for rate, (low, _) in zip(rates, ends, strict=True)],
            [high - rate for rate, (_, high) in zip(rates, ends, strict=True)],
        ]
        far = [decisions for decisions, _ in rows]
        axes.errorbar(far, rates, yerr=error, color=colour, marker="o", linewidth=2, capsize=3, label=name)
    axes.set_xlim(left=0)
    axes.set_ylim(-2, 102)
    return figure, axes


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats, lower x and higher y being better, by x."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def _colours(rows: Sequence[Measured]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(rows))]


def _axes(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot(facecolor="none")
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.tick_params(colors=INK, which="both")
    axes.grid(color=LINE, alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    return figure, axes


def _svg(figure: Figure, axes: Axes) -> bytes:
    """The same bytes for the same data."""
    names = axes.get_legend_handles_labels()
    columns = 1 if max(map(len, names[1]), default=0) > LONG else 2
    figure.legend(*names, loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "worldmodel"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _image(figure: Figure, axes: Axes, about: str) -> str:
    """An <img> with the picture inside."""
    data = base64.b64encode(_svg(figure, axes)).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(about)}">'
