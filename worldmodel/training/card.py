"""The card that travels with a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def model_card(report: Mapping[str, Any]) -> str:
    """Markdown: what it is, what it was trained on, how, and what it measured on held-out episodes."""
    rows = "\n".join(
        f"| {key} | {value:.4f} |" for key, value in report["validation"].items() if isinstance(value, float)
    )
    settings = json.dumps({key: report[key] for key in ("settings", "tracking", "predictor", "objective")}, indent=2)
    return f"""# {report["model"]["name"]}

A world model for planning: a frozen encoder, a projector and latent dynamics, trained on the rollouts below without
labels of objects. The licence of the encoder's weights holds for this copy of them, too.

| fact | value |
|---|---|
| data sets | {", ".join(report["model"]["data"])} |
| data sha256 | `{report["data_sha256"]}` |
| encoder sha256 | `{report["encoder_sha256"]}` |
| machine | {json.dumps(report["machine"])} |

Errors on held-out episodes [m] (`object_*` is read by a probe that is trained for measurement only):

| quantity | value |
|---|---|
{rows}
{planned(report["planning"]) if "planning" in report else ""}
Settings:

```json
{settings}
```
"""


def planned(summary: Mapping[str, Any]) -> str:
    """How often it reached validation goals; summary: of `worldmodel drive`."""
    low, high = summary["success_ci95"]
    seeds = f"seeds {summary['seeds']['first']} to {summary['seeds']['last']}"
    return f"""
Driven on validation goals of {summary["task"]} ({seeds}, {summary["planner"]}): {summary["successes"]} of
{summary["episodes"]} reached, {summary["held"]} held to the end; 95% interval of the rate {low:.2f} to {high:.2f}.
"""
