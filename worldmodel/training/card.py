"""The card that travels with a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

COMPACT = (
    "A world model for planning: a frozen encoder, a projector and latent dynamics, trained on the rollouts below",
    "Errors on held-out episodes [m] (`object_*` is read by a probe that is trained for measurement only):",
)
TOKENS = (
    "A world model for planning: a frozen encoder and a transformer on its tokens, trained on the rollouts below",
    "Errors on held-out episodes, of tokens [mean absolute] and poses [m] (`*_still_*`: of saying that nothing moves):",
)


def model_card(report: Mapping[str, Any]) -> str:
    """Markdown: what it is, what it was trained on, how, and what it measured on held-out episodes."""
    rows = "\n".join(
        f"| {key} | {value:.4f} |" for key, value in report["validation"].items() if isinstance(value, float)
    )
    known = ("settings", "tracking", "predictor", "objective")
    settings = json.dumps({key: report[key] for key in known if key in report}, indent=2)
    form, errors = COMPACT if "tracking" in report else TOKENS
    labels = "with" if report.get("tracking", {}).get("places") == "logged" else "without"
    return f"""# {report["model"]["name"]}

{form} {labels}
labels of objects. The licence of the encoder's weights holds for this copy of them, too.

| fact | value |
|---|---|
| data sets | {", ".join(report["model"]["data"])} |
| data sha256 | `{report["data_sha256"]}` |
| encoder sha256 | `{report["encoder_sha256"]}` |
| machine | {json.dumps(report["machine"])} |

{errors}

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
