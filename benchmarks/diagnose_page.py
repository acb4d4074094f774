"""The page of a diagnosis: verdicts first, each with its numbers and its figure, all in one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure

from benchmarks.plot import DISTANCE, ENERGY, GRID, MUTED, REACHED
from benchmarks.report_style import STYLE

COLOURS = (ENERGY, DISTANCE, REACHED, MUTED, "#bc8cff", "#ff7b72", "#39c5cf")


@dataclass(frozen=True)
class Finding:
    """One question to the model. good: None where there is no verdict. rows: a table, its head first."""

    title: str
    good: bool | None
    verdict: str
    rows: Sequence[Sequence[str]] = ()
    figure: str = ""


def figure(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], across: str, up: str, *, bars: bool = False
) -> str:
    """An <img> with the picture inside: name -> (x, y), drawn as lines or bars."""
    picture = Figure(figsize=(7.0, 3.2), layout="constrained")
    picture.patch.set_alpha(0.0)
    axes = picture.add_subplot(facecolor="none")
    for colour, (name, (x, y)) in zip(COLOURS * (1 + len(curves) // len(COLOURS)), curves.items(), strict=False):
        if bars:
            axes.bar(x, y, label=name, color=colour)
        else:
            axes.plot(x, y, label=name, color=colour, linewidth=2)
    axes.set_xlabel(across, color=MUTED)
    axes.set_ylabel(up, color=MUTED)
    axes.set_ylim(bottom=0.0)
    axes.tick_params(colors=MUTED)
    axes.grid(color=MUTED, alpha=0.25)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=MUTED)
    stream = io.BytesIO()
    picture.savefig(stream, format="svg", metadata={"Date": None})
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(up)} over {escape(across)}">'


def page(findings: Sequence[Finding], facts: Mapping[str, str]) -> str:
    """The whole page; facts: what the numbers rest on."""
    bad = sum(finding.good is False for finding in findings)
    asked = sum(finding.good is not None for finding in findings)
    lead = f"{asked - bad} of {asked} questions were answered well." if asked else "Nothing could be measured."
    listing = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    sections = "\n".join(map(_section, findings))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(facts["model"])}: diagnosis</title>
<style>{STYLE}
.card img {{ background: none; padding: 8px; border-top: 0; }}
</style>
</head>
<body>
<main>
<h1>What this model knows</h1>
<p class="lead">{lead} Measured before any arm moves, on {escape(facts["episodes"])}.
Distances are {escape(facts["distances"])}.</p>
{sections}
<footer><dl>{listing}</dl></footer>
</main>
</body>
</html>
"""


def _section(finding: Finding) -> str:
    kind, word = {True: ("good", "good"), False: ("bad", "poor"), None: ("none", "no verdict")}[finding.good]
    parts = [
        f"<section>\n<h2>{escape(finding.title)}</h2>",
        f'<p><span class="tag {kind}">{word}</span> {escape(finding.verdict)}</p>',
    ]
    if finding.rows:
        head, *body = finding.rows
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        lines = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body)
        table = f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{lines}\n</tbody></table>"
        parts.append(f'<div class="scroll">{table}</div>')
    if finding.figure:
        parts.append(f'<div class="card">{finding.figure}</div>')
    return "\n".join(parts) + "\n</section>"
