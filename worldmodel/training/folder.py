"""The folder of a training run: begun, resumed, or found finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from worldmodel.errors import OutputError
from worldmodel.storage import new_folder, write_json

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
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise OutputError(f"expected the settings of the run in {folder}, got another {key}: choose another out=")
    if (folder / report).exists():
        print(f"{folder} is complete already; nothing to do")
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # of a run that was killed after its report
        finished: dict[str, Any] = json.loads((folder / report).read_text(encoding="utf-8"))
        return finished
    return None
