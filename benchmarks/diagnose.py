"""`worldmodel diagnose`: look into a model before any robot moves; one page, self-contained, with plain verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import worldmodel
from benchmarks.diagnose_measure import (
    OFFSETS,
    Sample,
    action_sensitivity,
    cost_ranks,
    energy_landscape,
    k_step_errors,
    latent_spectrum,
    probe_errors,
    sample,
)
from benchmarks.diagnose_page import Finding, figure, page
from worldmodel.data.load import load_table
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.storage import atomic_file, new_folder, write_json

# What counts as good. Every threshold stands on the page, in the words of the verdict.
BETTER_THAN_STILL = 0.8  # share of the error of "nothing moves"
BETTER_THAN_OTHERS = 0.9  # share of the error with another window's actions
RANK = 0.7  # Spearman correlation
OFF_BY = 0.25  # of the action's half range, from the true action to the lowest energy
BETTER_THAN_MEAN = 0.5  # share of the error of guessing the mean
RANK_SHARE = 0.25  # effective rank over the number of dimensions

NO_TRUTH = " This is against the model's own tracker, whose jumps count as errors: no verdict without the truth."

Numbers = Mapping[str, Mapping[str, Any]]


def diagnose(
    *,
    model: str | Path,
    data: Sequence[str],
    out: str | Path,
    camera: str | None = None,
    frame_skip: int = 1,
    horizon: int = 8,
    windows: int = 256,
    seed: int = 0,
    config: str | None = None,
) -> dict[str, Any]:
    """Measure the model on held-out windows and write index.html and diagnosis.json to the new folder `out`.

    camera, frame_skip: as in training. horizon: decisions predicted. config: kept as out/config.yaml. Returns what
    diagnosis.json says. Raises BundleError, DataError, ConfigError for a model of another kind, OutputError.
    """
    loaded = worldmodel.load(model)
    if not isinstance(loaded, WorldModel):
        raise ConfigError(f"expected a model that train wrote, got {loaded.name}: it has no read-outs to measure")
    held = load_table(list(data), camera=camera, frame_skip=frame_skip)
    drawn = sample(loaded, held.table, windows=windows, horizon=horizon, seed=seed)
    folder = new_folder(Path(out))
    numbers = measure(loaded, drawn)
    findings = findings_from(numbers, drawn)
    facts = {
        "model": f"{loaded.name}, sha256 {loaded.sha256}",
        "data": f"{', '.join(Path(path).name for path in data)}, sha256 {held.sha256}",
        "windows": f"{len(drawn.z)} of {horizon} decisions, seed {seed}; the object moved in {int(drawn.moved.sum())}",
    }
    if config is not None:
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    verdicts = {item.title: {"good": item.good, "verdict": item.verdict} for item in findings}
    report = {**facts, "verdicts": verdicts, **numbers}
    write_json(folder / "diagnosis.json", report)
    with atomic_file(folder / "index.html") as temporary:
        temporary.write_text(page(findings, facts), encoding="utf-8")
    return report


def measure(model: WorldModel, drawn: Sample) -> dict[str, Any]:
    """All numbers; see benchmarks/diagnose_measure.py."""
    shares, rank = latent_spectrum(model, drawn)
    return {
        "k_step_errors_cm": k_step_errors(model, drawn),
        "action_sensitivity_cm": action_sensitivity(model, drawn),
        "cost_ranks": cost_ranks(model, drawn),
        "energy_landscape_cm": energy_landscape(model, drawn).tolist(),
        "probe_errors_cm": probe_errors(drawn),
        "latent_spectrum": {"shares": shares, "effective_rank": rank},
    }


def findings_from(numbers: Mapping[str, Any], drawn: Sample) -> list[Finding]:
    """The verdicts over the numbers of `measure`."""
    known = drawn.truth is not None
    return [
        *(_k_steps(name, numbers["k_step_errors_cm"], known or name == "hand") for name in ("hand", "object")),
        *(_sensitivity(name, numbers["action_sensitivity_cm"], known or name == "hand") for name in ("hand", "object")),
        *(_ranks(name, numbers["cost_ranks"], known) for name in ("hand", "object")),
        _landscape(numbers["energy_landscape_cm"]),
        *(_probes(name, numbers["probe_errors_cm"]) for name in ("hand", "object")),
        _spectrum(**numbers["latent_spectrum"]),
    ]


def _cm(value: float) -> str:
    return f"{value:.1f} cm"


def _nothing_moved(title: str) -> Finding:
    return Finding(title, None, "The object moved in too few of the windows to say anything.")


def _k_steps(name: str, errors: Numbers, known: bool) -> Finding:
    title = f"Does it predict where the {name} goes?"
    if name not in errors:
        return _nothing_moved(title)
    made, still = errors[name]["model"], errors[name]["still"]
    steps = list(range(1, len(made) + 1))
    verdict = (
        f"After {steps[-1]} decisions it is off by {_cm(made[-1])}; who says that nothing moves is off by "
        f"{_cm(still[-1])}. Good is less than {BETTER_THAN_STILL:.0%} of that.{'' if known else NO_TRUTH}"
    )
    rows = [
        ("decisions", *map(str, steps)),
        ("model", *map(_cm, made)),
        ("nothing moves", *map(_cm, still)),
    ]
    drawing = figure({"model": (steps, made), "nothing moves": (steps, still)}, "decisions", "error [cm]")
    good = made[-1] < BETTER_THAN_STILL * still[-1]
    return Finding(title, good if known else None, verdict, rows, drawing)


def _sensitivity(name: str, found: Numbers, known: bool) -> Finding:
    title = f"Do actions matter for its {name}?"
    if name not in found:
        return _nothing_moved(title)
    change, own, others = (found[name][key] for key in ("change", "own", "others"))
    verdict = (
        f"With another window's actions the {name} ends {_cm(change)} elsewhere. Its own actions leave an error of "
        f"{_cm(own)}, the others' {_cm(others)}. Good is less than {BETTER_THAN_OTHERS:.0%} of that."
        f"{'' if known else NO_TRUTH}"
    )
    return Finding(title, own < BETTER_THAN_OTHERS * others if known else None, verdict)


def _ranks(name: str, found: Numbers, has_truth: bool) -> Finding:
    title = f"Does it rank plans as the {name}'s true distance does?"
    if name not in found and not has_truth:
        return Finding(title, None, "The data has no simulator's truth (no privileged column), so this is skipped.")
    if name not in found:
        return _nothing_moved(title)
    made, still = found[name]["model"], found[name]["still"]
    verdict = (
        f"Spearman correlation {made:.2f} between predicted and true distance to a goal, {still:.2f} when only the "
        f"start is looked at. Good is at least {RANK} and not below the start's."
    )
    return Finding(title, made >= max(RANK, still - 0.01), verdict)


def _landscape(curves: Sequence[Sequence[float]]) -> Finding:
    offsets = OFFSETS.tolist()
    lowest = [offsets[min(range(len(curve)), key=lambda index: curve[index])] for curve in curves]
    verdict = (
        f"The energy is lowest at {', '.join(f'{offset:+.1f}' for offset in lowest)} from the true actions, one number "
        f"for each of their components. Good is within {OFF_BY}."
    )
    drawing = figure(
        {f"action {index}": (offsets, curve) for index, curve in enumerate(curves)},
        "offset from the true action",
        "energy [cm]",
    )
    return Finding("Is the true action the best one?", max(map(abs, lowest)) <= OFF_BY, verdict, (), drawing)


def _probes(name: str, found: Numbers) -> Finding:
    title = f"Is the {name}'s position in the latent?"
    if name not in found:
        return Finding(title, None, "The data has no simulator's truth (no privileged column), so this is skipped.")
    linear, mlp, mean = (found[name][key] for key in ("linear", "mlp", "mean"))
    verdict = (
        f"A linear probe reads it to {_cm(linear)}, an MLP to {_cm(mlp)}; without looking it would be {_cm(mean)}. "
        f"Good is an MLP below {BETTER_THAN_MEAN:.0%} of that."
    )
    return Finding(title, mlp < BETTER_THAN_MEAN * mean, verdict)


def _spectrum(shares: Sequence[float], effective_rank: float) -> Finding:
    verdict = (
        f"Its {len(shares)} dimensions carry as much as {effective_rank:.1f} independent ones. Good is at least "
        f"{RANK_SHARE:.0%} of them; less is a collapse."
    )
    order = list(range(1, len(shares) + 1))
    drawing = figure({"share": (order, list(shares))}, "principal component", "share of the variance", bars=True)
    return Finding("Is the latent alive?", effective_rank >= RANK_SHARE * len(shares), verdict, (), drawing)
