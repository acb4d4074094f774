"""The folder of a training run: begun, resumed, or found finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worldmodel.errors import OutputError
from worldmodel.storage import new_folder, write_json, written

IDENTITY = "identity.json"
CHECKPOINTS = "checkpoints"


def resume_folder(folder: Path, identity: dict[str, Any], report: str) -> dict[str, Any] | None:
    """Begin a run in an empty folder, or go on with the same run; what the file `report` says where it is finished.

    Raises OutputError where the folder holds something else, naming the first setting that differs.
    """
    known = folder / IDENTITY
    if not known.exists():
        new_folder(folder)
        write_json(known, identity)
        return None
    before = json.loads(known.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(identity))
    for change in _changes(before, now):
        raise OutputError(f"expected the settings of the run in {folder}, got another {change}: choose another out=")
    if (folder / report).exists():
        print(f"{folder} is complete already; nothing to do")
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # of a run that was killed after its report
        finished: dict[str, Any] = json.loads((folder / report).read_text(encoding="utf-8"))
        return finished
    return None


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Each setting that differs, by its dotted name, as `name (before -> now)`."""
    for key in sorted(before.keys() | now.keys()):
        old, new = (part.get(key) for part in (before, now))
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} ({json.dumps(old)} -> {json.dumps(new)})"


def checkpoints_at(place: Path) -> int:
    """Make the folder of a stage's checkpoints, where there is none; the step of the newest one in it, or 0.

    Raises OutputError.
    """
    with written(place):
        place.mkdir(parents=True, exist_ok=True)
    return max((int(path.name[5:]) for path in place.glob("step-????????")), default=0)
