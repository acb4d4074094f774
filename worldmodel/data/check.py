"""`worldmodel check`: reads data sets once, from end to end, and says what is in them and what is wrong with them.

Legend: L rows, n dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.inspection import Defects, Numbers, inspect_frames, inspect_numbers, proprio_range
from worldmodel.data.reader import Dataset, Part, choose_camera
from worldmodel.data.schema import ACTION, STATE, DatasetInfo, Feature, read_info
from worldmodel.errors import ConfigError

BINS = 20  # of a dimension's range: its coverage is the share of them that holds data
SEVERAL = 12  # more episodes or tasks than that are counted rather than listed

Report = dict[str, Any]


def check(*, data: Sequence[str], camera: str | None = None) -> Report:
    """What is in the data sets and every defect in them, as plain values; "clean" is whether there is none.

    camera: look at this one only, where there are several. Raises DataError for a folder that is no data set,
    or a camera that does not exist, and ConfigError for no folder at all.
    """
    if not data:
        raise ConfigError("expected at least one dataset folder, got none: give data=DIR")
    reports: list[Report] = [_check_one(Path(path), camera) for path in data]
    general = Defects()
    parts = [part for report in reports for part in report.pop("parts")[:1]]
    if parts:
        with general.caught():
            Dataset(parts)
    defects = [{"message": message, "episodes": []} for message in general.found]
    clean = not defects and not any(report["defects"] for report in reports)
    return {"clean": clean, "datasets": reports, "defects": defects}


def _check_one(root: Path, camera: str | None) -> Report:
    if not (root / "meta/info.json").is_file():
        read_info(root)  # says what is there instead
    defects, report = Defects(), Report(data=str(root))
    info, parts = None, list[Part]()
    with defects.caught():
        info = read_info(root)
    if info is not None:
        report["schema"] = schema(info)
        cameras: list[str | None] = [choose_camera(info, camera).name] if camera else [*info.cameras] or [None]
        with defects.caught():
            parts = [Part(root, name) for name in cameras]
            report |= _contents(parts, defects)
    found = [{"message": message, "episodes": episodes} for message, episodes in defects.found.items()]
    return report | {"bad_episodes": defects.episodes, "defects": found, "parts": parts}


def schema(info: DatasetInfo) -> Report:
    """What `meta/info.json` declares."""
    cameras = {name: f"{f.image_shape[0]} x {f.image_shape[1]} {f.dtype}" for name, f in info.cameras.items()}
    vectors = {f.name: f"{f.dtype} {list(f.shape)}" for f in info.features.values() if not f.is_camera}
    return {"fps": info.fps, "cameras": cameras, "columns": vectors}


def _contents(parts: Sequence[Part], defects: Defects) -> Report:
    """Counts, ranges and statistics of one data set, seen through each of its cameras."""
    first = Dataset(parts[:1])
    numbers = inspect_numbers(first, defects)
    known = [episode for episode in numbers if episode is not None]
    rows = parts[0].rows
    report: Report = {
        "counts": {
            "episodes": first.episodes,
            "frames": sum(first.lengths),
            "minutes": round(sum(first.lengths) / first.fps / 60, 2),
            "shortest": min(first.lengths),
            "longest": max(first.lengths),
            "tasks": sorted({task for row in rows for task in row.tasks}),
        }
    }
    features = parts[0].info.features
    for name, feature, pick in (("action", features[ACTION], _actions), ("proprio", features[STATE], _proprio)):
        values = [pick(episode) for episode in known]
        report[name] = ranges(np.concatenate(values), dimension_names(feature)) if values else {}
    report["frames"] = {}
    for part in parts:
        with defects.caught():
            part.require_colours()
            report["frames"][part.camera.name] = _frames(Dataset([part]), numbers, defects)
    return report


def _actions(numbers: Numbers) -> NDArray[np.float32]:
    return numbers.actions


def _proprio(numbers: Numbers) -> NDArray[np.float32]:
    return numbers.proprio


def dimension_names(feature: Feature) -> list[str]:
    """What the data set calls the dimensions of a vector; their numbers where it does not say."""
    names = feature.names
    if isinstance(names, Mapping):
        names = next(iter(names.values()), None)
    if isinstance(names, list | tuple) and len(set(map(str, names))) == feature.shape[0]:
        return [str(name) for name in names]
    return [str(number) for number in range(feature.shape[0])]


def ranges(values: NDArray[np.float32], names: Sequence[str]) -> Report:
    """Of each dimension of [L,n]: its range, mean and spread, and the share of its range that holds data."""
    exact, found = values.astype(np.float64), {}
    for name, column in zip(names, exact.T, strict=True):
        low, high = float(column.min()), float(column.max())
        filled = np.histogram(column, bins=BINS, range=(low, high))[0] > 0 if high > low else np.array([])
        found[name] = {
            "min": low,
            "max": high,
            "mean": float(column.mean()),
            "std": float(column.std()),
            "coverage": float(filled.mean()) if len(filled) else 0.0,
        }
    return found


def _frames(dataset: Dataset, numbers: Sequence[Numbers | None], defects: Defects) -> Report:
    """Brightness and contrast [grey levels] over all frames of a camera that can be used."""
    found = []
    span = proprio_range(numbers)
    total = sum(len(episode.times) for episode in numbers if episode is not None)
    name = dataset.parts[0].camera.name.rpartition(".")[2]
    with tqdm(total=total, unit="frame", desc=f"read {name}", mininterval=1.0, leave=False) as bar:
        for index, episode in enumerate(numbers):
            if episode is None:
                continue
            seen = inspect_frames(dataset, index, episode, span, defects)
            bar.update(len(episode.times))
            if seen is not None:
                found.append(seen)
    if not found:
        return {}
    levels = np.concatenate([seen.brightness for seen in found])
    spreads = np.concatenate([seen.contrast for seen in found])
    return {
        "usable": len(levels),
        "brightness": float(levels.mean()),
        "darkest": float(levels.min()),
        "brightest": float(levels.max()),
        "contrast": float(spreads.mean()),
    }


def lines(report: Report) -> list[str]:
    """`check()` as text for a reader."""
    text: list[str] = []
    for one in report["datasets"]:
        text += [one["data"], *_description(one)]
        text += [f"  defect: {entry['message']}{_episodes(entry['episodes'])}" for entry in one["defects"]]
    text += [f"defect: {entry['message']}" for entry in report["defects"]]
    bad = sum(len(one["bad_episodes"]) for one in report["datasets"])
    count = len(report["defects"]) + sum(len(one["defects"]) for one in report["datasets"])
    if report["clean"]:
        return [*text, "no defects"]
    way_out = ": mend them, or leave them out with skip_bad_episodes=true" if bad else ""
    return [*text, f"defects: {count}, bad episodes: {bad}{way_out}"]


def _episodes(episodes: Sequence[int]) -> str:
    if len(episodes) < 2:
        return ""
    which = f"episodes {', '.join(map(str, episodes))}" if len(episodes) <= SEVERAL else f"{len(episodes)} episodes"
    return f" ({which})"


def _description(one: Report) -> list[str]:
    if "counts" not in one:
        return []
    counts, declared = one["counts"], one["schema"]
    tasks = ", ".join(counts["tasks"]) if len(counts["tasks"]) <= SEVERAL else f"{len(counts['tasks'])} of them"
    text = [f"  {name}: {what}" for name, what in declared["columns"].items()]
    text += [f"  camera {name}: {what}" for name, what in declared["cameras"].items()]
    text.append(
        f"  {counts['episodes']} episodes of {counts['shortest']} to {counts['longest']} frames, {counts['frames']} "
        f"frames at {declared['fps']} fps, {counts['minutes']:.1f} min; tasks: {tasks}"
    )
    for name in ("action", "proprio"):
        text.append(f"  {name:<16} {'min':>10} {'max':>10} {'mean':>10} {'std':>10} coverage")
        for dimension, row in one[name].items():
            numbers = " ".join(f"{row[key]:>10.4g}" for key in ("min", "max", "mean", "std"))
            remark = "  never changes" if row["min"] == row["max"] else ""
            text.append(f"    {dimension[:14]:<14} {numbers} {row['coverage']:>7.0%}{remark}")
    for name, row in one["frames"].items():
        if row:
            levels = f"{row['brightness']:.0f} ({row['darkest']:.0f} to {row['brightest']:.0f})"
            text.append(f"  {name}: {row['usable']} good frames, brightness {levels}, contrast {row['contrast']:.0f}")
    return text
