"""`worldmodel diagnose`: look into a model before any robot moves; one page, self-contained, with plain verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import worldmodel
from benchmarks.diagnose_measure import (
    OFFSETS,
    Array,
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
from worldmodel.data.load import Loaded, load_table
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.storage import atomic_file, new_folder, write_json
from worldmodel.training.assumptions import NAMELESS, POSITION
from worldmodel.training.run import REPORT, SPLIT

# What counts as good. Every threshold stands on the page, in the words of the verdict.
BETTER_THAN_STILL = 0.8  # share of the error of "nothing moves"
BETTER_THAN_OTHERS = 0.9  # share of the error with another window's actions
RANK = 0.7  # Spearman correlation
OFF_BY = 0.25  # of the action's half range, from the true action to the lowest energy
RELIEF = 0.05  # share of the steepest curve's rise, below which a curve is flat: where it is lowest says nothing
BETTER_THAN_MEAN = 0.5  # share of the error of guessing the mean
RANK_SHARE = 0.25  # effective rank over the number of dimensions

NO_TRUTH = " This is against the model's own tracker, whose jumps count as errors: no verdict without the truth."

CHECKED = "the episodes that training held out"
UNCHECKED = (
    "one in twenty episodes of this data; whether training held out the same could not be checked: no run beside the "
    "model says that it was trained on these folders in this order"
)

Numbers = Mapping[str, Mapping[str, Any]]


def diagnose(
    *,
    model: str | Path,
    data: Sequence[str],
    out: str | Path,
    camera: str | None = None,
    frame_skip: int | None = None,
    skip_bad_episodes: bool = False,
    horizon: int = 8,
    windows: int = 256,
    seed: int = 0,
    config: str | None = None,
) -> dict[str, Any]:
    """Measure the model on held-out windows and write index.html and diagnosis.json to the new folder `out`.

    The windows are held out where the run that trained the model lies around it and used this data; else the page says
    that this could not be checked. camera, frame_skip, skip_bad_episodes: as in training; frame_skip None: the model's.
    horizon: decisions predicted. config: kept as out/config.yaml. Returns what diagnosis.json says. Raises BundleError,
    DataError, ConfigError for a model of another kind, OutputError.
    """
    loaded = worldmodel.load(model)
    if not isinstance(loaded, WorldModel):
        raise ConfigError(f"expected a model that train wrote, got {loaded.name}: it has no read-outs to measure")
    skip = loaded.config.frame_skip if frame_skip is None else frame_skip
    side = loaded.encoder.image_size
    held = load_table(list(data), camera=camera, frame_skip=skip, skip_bad_episodes=skip_bad_episodes, side=side)
    stored, metres = stored_split(model, loaded, held), in_metres(held.proprio_names)
    split = held.table.split() if stored is None else stored
    drawn = sample(loaded, held.table, split=split, windows=windows, horizon=horizon, seed=seed, metres=metres)
    folder = new_folder(Path(out))
    numbers = measure(loaded, drawn)
    findings = findings_from(numbers, drawn)
    facts = {
        "model": f"{loaded.name}, sha256 {loaded.sha256}",
        "data": f"{', '.join(Path(path).name for path in data)}, sha256 {held.sha256}",
        "windows": f"{len(drawn.z)} of {horizon} decisions, seed {seed}; the object moved in {int(drawn.moved.sum())}",
        "episodes": UNCHECKED if stored is None else CHECKED,
        "distances": "cm, if the proprioception is in metres" if metres else "in the units of the proprioception",
    }
    print(f"note: measured on {facts['episodes']}")
    if config is not None:
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    verdicts = {item.title: {"good": item.good, "verdict": item.verdict} for item in findings}
    report = {**facts, "verdicts": verdicts, **numbers}
    write_json(folder / "diagnosis.json", report)
    with atomic_file(folder / "index.html") as temporary:
        temporary.write_text(page(findings, facts), encoding="utf-8")
    return report


def stored_split(folder: str | Path, model: WorldModel, data: Loaded) -> tuple[Array, Array] | None:
    """What the run that trained the model on this very data trained on and held out; None where there is none."""
    run = Path(folder).resolve().parent
    try:
        report, split = (json.loads((run / name).read_text(encoding="utf-8")) for name in (REPORT, SPLIT))
        if (report["model_sha256"], report["data_sha256"]) != (model.sha256, data.sha256):
            return None
        return np.array(split["train"]), np.array(split["validation"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def in_metres(names: Sequence[str]) -> bool:
    """Whether names of the proprioception leave it possible that it is in [m]: positions, or no names at all."""
    return all(POSITION.search(name.lower()) or NAMELESS.fullmatch(name.lower()) for name in names)


def measure(model: WorldModel, drawn: Sample) -> dict[str, Any]:
    """All numbers; see benchmarks/diagnose_measure.py."""
    shares, rank = latent_spectrum(model, drawn)
    return {
        "k_step_errors": k_step_errors(model, drawn),
        "action_sensitivity": action_sensitivity(model, drawn),
        "cost_ranks": cost_ranks(model, drawn),
        "energy_landscape": energy_landscape(model, drawn).tolist(),
        "probe_errors": probe_errors(drawn),
        "latent_spectrum": {"shares": shares, "effective_rank": rank},
    }


def findings_from(numbers: Mapping[str, Any], drawn: Sample) -> list[Finding]:
    """The verdicts over the numbers of `measure`."""
    known, both, cm = drawn.truth is not None, ("hand", "object"), drawn.metres
    return [
        *(_k_steps(name, numbers["k_step_errors"], known or name == "hand", cm) for name in both),
        *(_sensitivity(name, numbers["action_sensitivity"], known or name == "hand", cm) for name in both),
        *(_ranks(name, numbers["cost_ranks"], known) for name in both),
        _landscape(numbers["energy_landscape"], cm),
        *(_probes(name, numbers["probe_errors"], cm) for name in both),
        _spectrum(**numbers["latent_spectrum"]),
    ]


def _far(value: float, cm: bool) -> str:
    return f"{value:.1f} cm" if cm else f"{value:.3g}"


def _axis(cm: bool) -> str:
    return "cm" if cm else "units of the data"


def _nothing_moved(title: str) -> Finding:
    return Finding(title, None, "The object moved in too few of the windows to say anything.")


def _k_steps(name: str, errors: Numbers, known: bool, cm: bool) -> Finding:
    title = f"Does it predict where the {name} goes?"
    if name not in errors:
        return _nothing_moved(title)
    made, still = errors[name]["model"], errors[name]["still"]
    steps = list(range(1, len(made) + 1))
    verdict = (
        f"After {steps[-1]} decisions it is off by {_far(made[-1], cm)}; who says that nothing moves is off by "
        f"{_far(still[-1], cm)}. Good is less than {BETTER_THAN_STILL:.0%} of that.{'' if known else NO_TRUTH}"
    )
    rows = [
        ("decisions", *map(str, steps)),
        ("model", *(_far(value, cm) for value in made)),
        ("nothing moves", *(_far(value, cm) for value in still)),
    ]
    drawing = figure({"model": (steps, made), "nothing moves": (steps, still)}, "decisions", f"error [{_axis(cm)}]")
    good = made[-1] < BETTER_THAN_STILL * still[-1]
    return Finding(title, good if known else None, verdict, rows, drawing)


def _sensitivity(name: str, found: Numbers, known: bool, cm: bool) -> Finding:
    title = f"Do actions matter for its {name}?"
    if name not in found:
        return _nothing_moved(title)
    change, own, others = (found[name][key] for key in ("change", "own", "others"))
    verdict = (
        f"With another window's actions the {name} ends {_far(change, cm)} elsewhere. Its own actions leave an error "
        f"of {_far(own, cm)}, the others' {_far(others, cm)}. Good is less than {BETTER_THAN_OTHERS:.0%} of that."
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


def _landscape(curves: Sequence[Sequence[float]], cm: bool) -> Finding:
    offsets = OFFSETS.tolist()
    title, reliefs = "Is the true action the best one?", [max(curve) - min(curve) for curve in curves]
    if max(reliefs) < RELIEF * max(map(max, curves)):
        return Finding(title, False, f"Whatever the actions, the energy changes by less than {RELIEF:.0%} of itself.")
    flat = [index for index, relief in enumerate(reliefs) if relief < RELIEF * max(reliefs)]
    lowest = {
        index: offsets[min(range(len(curve)), key=lambda at: curve[at])]
        for index, curve in enumerate(curves)
        if index not in flat
    }
    verdict = (
        f"The energy is lowest at {', '.join(f'{offset:+.1f}' for offset in lowest.values())} from the true actions, "
        f"one number for each of their components. Good is within {OFF_BY}."
    )
    if flat:
        verdict += (
            f" Left out: {', '.join(f'action {index}' for index in flat)}, which changes the energy by less than "
            f"{RELIEF:.0%} of what the others do, and so has no best value."
        )
    drawing = figure(
        {f"action {index}": (offsets, curve) for index, curve in enumerate(curves)},
        "offset from the true action",
        f"energy [{_axis(cm)}]",
    )
    return Finding(title, max(map(abs, lowest.values())) <= OFF_BY, verdict, (), drawing)


def _probes(name: str, found: Numbers, cm: bool) -> Finding:
    title = f"Is the {name}'s position in the latent?"
    if name not in found:
        return Finding(title, None, "The data has no simulator's truth (no privileged column), so this is skipped.")
    linear, mlp, mean = (found[name][key] for key in ("linear", "mlp", "mean"))
    verdict = (
        f"A linear probe reads it to {_far(linear, cm)}, an MLP to {_far(mlp, cm)}; without looking it would be "
        f"{_far(mean, cm)}. Good is an MLP below {BETTER_THAN_MEAN:.0%} of that."
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
