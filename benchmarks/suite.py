"""Many rows under one protocol: each is one `drive` in a folder of its own, so that any number of them can be resumed.

A row is known by what decides its episodes: the settings of `drive` and the sha256 of the model. Rows of another model
or other settings lie in other folders and never mix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cluster import drive_on_ray
from benchmarks.drive import PLANNED, SEARCHING, drive
from benchmarks.report_suite import write_suite_report
from benchmarks.summary import Line
from worldmodel.bundle import fingerprint
from worldmodel.data.lock import run_lock
from worldmodel.errors import ConfigError
from worldmodel.storage import atomic_file

NOT_THE_ROW = ("out", "threads", "device")  # settings that do not decide what happens in an episode
SECTIONS = {"planner": PLANNED, "planning": ("planning", *SEARCHING), "oracle": ("oracle",)}  # and whom they concern
SUMMARY = "summary.json"
TABLE = "table.md"
RECIPES = {  # of the arms of DreamerV3, by the folder that rows name; the others are called after their kind
    "d3_success": "kind=dreamerv3 kind.reward=success",
    "d3_distance": "kind=dreamerv3 kind.reward=distance",
    "d2_success": "kind=dreamerv3 kind.sees=pixels kind.reward=success",
    "d2_distance": "kind=dreamerv3 kind.sees=pixels kind.reward=distance",
    "d1": "kind=dreamerv3_planning kind.sees=pixels",
}
HEAD = (
    "| row | reached | held | distance, median, mean [cm] | s per decision, p50, p95 | in the box | episodes | key |",
    "|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Row:
    """words: of the command line that say what is special; settings of `drive`; config: the text kept beside them."""

    words: str
    settings: Mapping[str, Any]
    config: str

    @property
    def untrained(self) -> Path | None:
        """The baseline that it names, where there is no such folder yet."""
        baseline = self.settings.get("baseline")
        return None if baseline is None or Path(baseline).exists() else Path(baseline)

    def folder(self) -> str:
        """A name that says what the row is, and a key of what decides its episodes: no other row has it."""
        agent = self.settings["agent"]
        settings = {
            key: value
            for key, value in self.settings.items()
            if key not in NOT_THE_ROW and agent in SECTIONS.get(key, (agent,))
        }
        settings["task"] = {key: value for key, value in settings["task"].items() if key != "model"}
        settings["model"] = fingerprint(settings["model"]) if agent == "planning" else None
        settings["baseline"] = settings.get("baseline") and fingerprint(settings["baseline"])
        settings = _said(settings)
        text = json.dumps(settings, sort_keys=True)
        parts = [settings["task"]["name"], agent]
        if agent in PLANNED:
            parts.append(settings["planner"]["name"])
        return "-".join([*parts, hashlib.sha256(text.encode()).hexdigest()[:10]])


def _said(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that are null: what is left alone does not make a row another one."""
    return {
        key: _said(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if value is not None
    }


def run_suite(
    rows: Sequence[Row], out: Path, shard: str = "0/1", config: str | None = None, cluster: str | None = None
) -> Path:
    """Drive every row that is not complete yet, write out/table.md and out/index.html; returns the table's path.

    shard: "i/n" takes every n-th row from the i-th on, for several machines; their folders are merged by copying them
    together. cluster: "ray" drives the episodes on one, see benchmarks/cluster.py. config: kept as out/config.yaml.
    Rows of a baseline that is not there are those that were completed when it was, or are left out, and said to be. The
    same call again goes on where it was stopped. Raises ConfigError and what `drive` raises.
    """
    index, count = _shard(shard)
    out.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (out / "config.yaml").write_text(config, encoding="utf-8")
    found = {number: _driven(row, out) if row.untrained else row.folder() for number, row in enumerate(rows)}
    folders = {number: folder for number, folder in found.items() if folder is not None}
    if len(set(folders.values())) != len(folders):
        raise ConfigError("expected rows that differ, got two with the same settings: mend the suite")
    for said in _left_out([row for number, row in enumerate(rows) if number not in folders]):
        print(said, flush=True)
    own = [number for number in range(index, len(rows), count) if number in folders]
    if cluster == "ray":
        missing = [number for number in own if not complete(out / folders[number])]
        drive_on_ray([(rows[number].settings, out / folders[number]) for number in missing])
    for number in own:
        row, folder = rows[number], out / folders[number]
        print(f"row {number + 1} of {len(rows)}: {row.words}", flush=True)
        if not complete(folder):
            with run_lock(folder):
                drive(**{**row.settings, "out": folder}, config=row.config, resume=True)
    lines = [_line(rows[number], out / folder) for number, folder in folders.items() if complete(out / folder)]
    text = "\n".join([*HEAD, *lines, ""])
    print(text)
    with atomic_file(out / TABLE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if lines:
        write_suite_report(out)
    return out / TABLE


def _driven(row: Row, out: Path) -> str | None:
    """The folder in which the row was completed when its baseline was there, if there is just one such."""
    wanted = _settings(row.config)
    kept = [path for path in sorted(out.glob("*/config.yaml")) if complete(path.parent)]
    names = [path.parent.name for path in kept if _settings(path.read_text(encoding="utf-8")) == wanted]
    return names[0] if len(names) == 1 else None


def _settings(config: str) -> list[str]:
    """The lines of a config.yaml that say something: not the comment above them, nor what is null."""
    return [line for line in config.splitlines() if not line.startswith("#") and not line.endswith(": null")]


def _left_out(rows: Sequence[Row]) -> list[str]:
    """A line for each baseline that these rows are without: which rows they are, and what trains it."""
    missing: dict[Path, list[str]] = {}
    for row in rows:
        if row.untrained is not None:
            missing.setdefault(row.untrained, []).append(f"{row.settings['agent']} on {row.settings['task']['name']}")
    lines = []
    for folder, names in missing.items():
        arm, place = folder.parent.name, folder.parent
        settings = ", with the settings of docs/dreamerv3.md" if arm in RECIPES else ""
        lines.append(
            f"left out: {', '.join(names)}, for lack of {folder}; to train it{settings}: "
            f"worldmodel baseline {RECIPES.get(arm, f'kind={arm}')} data=DIR,DIR out={place}"
        )
    return lines


def complete(folder: Path) -> bool:
    """Whether every episode of the row in `folder` has been driven."""
    path = folder / SUMMARY
    return path.is_file() and not json.loads(path.read_text(encoding="utf-8"))["interrupted"]


def _line(row: Row, folder: Path) -> str:
    found: Line = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return line(row.words, found, folder.name)


def line(words: str, found: Line, folder: str) -> str:
    """The line of a row in table.md, from its words, its summary.json and its folder's name, which ends in its key."""
    distance, seconds = found["final_distance_m"], found["seconds_per_decision"]
    cells = [
        f"`{words}`",
        _rate(found["success_rate"], found["success_ci95"]),
        _rate(found["held_rate"], found["held_ci95"]),
        ", ".join("-" if distance[of] is None else f"{100 * distance[of]:.1f}" for of in ("median", "mean")),
        f"{seconds['p50']:.3f}, {seconds['p95']:.3f}",
        "-" if found["trespasses"] is None else str(found["trespasses"]),
        str(found["episodes"]),
        folder.rpartition("-")[2],
    ]
    return f"| {' | '.join(cells)} |"


def _rate(rate: float, interval: Sequence[float]) -> str:
    return f"{rate:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ConfigError(f"expected shard=i/n with i below n, as in shard=0/4, got {text!r}")
    return int(index), int(count)
