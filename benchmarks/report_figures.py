"""The figures of a suite's page: SVG inside the page, in colours that are seen on a light and on a dark ground."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report_rows import Measured

INK, LINE = "#7d8590", "#8b949e"
COLOURS = ("#2f81f7", "#e3702e", "#2da44e", "#a371f7", "#d29922", "#db61a2", "#1b9e9e", "#8c6d46", "#6e7781", "#f85149")
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
    points = []
    for colour, row in zip(_colours(rows), rows, strict=True):
        seconds = max(FASTEST, row.summary["seconds_per_decision"]["p50"] or 0.0)
        rate, (low, high) = float(row.rate or 0.0), row.summary["success_ci95"]
        error = [[100 * max(0.0, rate - low)], [100 * max(0.0, high - rate)]]
        axes.errorbar([seconds], [100 * rate], yerr=error, fmt="o", color=colour, capsize=3, label=row.name)
        points.append((seconds, 100 * rate))
    front = pareto(points)
    axes.step([x for x, _ in front], [y for _, y in front], where="post", color=LINE, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(-2, 102)
    return _image(figure, axes, "success over seconds per decision")


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


def _image(figure: Figure, axes: Axes, about: str) -> str:
    """An <img> with the picture inside, the same bytes for the same data."""
    names = axes.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "worldmodel"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(about)}">'
