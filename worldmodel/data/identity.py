"""What identifies data: the sha256 of every file that is read, each read for it once and remembered.

A file is taken as known while its size and the times at which it was written and changed are as they were; a copy
elsewhere is read again and has the same identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from worldmodel.data.reader import Dataset, Part
from worldmodel.data.writer import SUMS_PATH
from worldmodel.errors import OutputError
from worldmodel.storage import sha256_file, write_json

FORMAT = 2
DIGESTS = "digests.json"


def data_key(dataset: Dataset, digests: Mapping[Path, str], frame_skip: int = 1, side: int | None = None) -> str:
    """The sha256 of what a table is made from: names and contents of the files that are read, and how they are read.

    digests: see `file_digests`. side: of the pictures that are kept [px], None: as the camera made them.
    """
    digest = hashlib.sha256(f"format {FORMAT}\n".encode())
    for part in dataset.parts:
        for path in sources(part):
            digest.update(f"{path.relative_to(part.info.root).as_posix()} {digests.get(path, 'none')}\n".encode())
        if len(part.info.cameras) > 1:
            digest.update(f"camera {part.camera.name}\n".encode())
    if frame_skip > 1:
        digest.update(f"frame skip {frame_skip}\n".encode())
    if side is not None:
        digest.update(f"side {side}\n".encode())
    return digest.hexdigest()


def sources(part: Part) -> tuple[Path, ...]:
    """The files that decide what is read: the descriptions, then rows and videos."""
    episodes = sorted((part.info.root / "meta/episodes").glob("chunk-*/file-*.parquet"))
    return (part.info.root / "meta/info.json", *episodes, *part.files())


def sums_sha256(dataset: Dataset) -> list[str]:
    """Of each data set's own list of sums, which decides what counts as damaged; "none" where there is no list."""
    lists = [part.info.root / SUMS_PATH for part in dataset.parts]
    return [sha256_file(path) if path.is_file() else "none" for path in lists]


def file_digests(dataset: Dataset, folder: Path) -> dict[Path, str]:
    """The sha256 of every file of `sources` that is there. `folder` remembers them."""
    memory = folder / DIGESTS
    remembered = _remembered(memory)
    found, new = dict[Path, str](), dict[str, list[Any]]()
    files = [path for part in dataset.parts for path in sources(part) if path.is_file()]
    for path in tqdm(files, unit="file", desc="read sha256", mininterval=1.0, leave=False):
        name, state = str(path.resolve()), _state(path)
        known = remembered.get(name)
        if known is None or known[:-1] != state:
            known = new[name] = [*state, sha256_file(path)]
        found[path] = str(known[-1])
    if new:
        known_files = {**_remembered(memory), **new}
        with suppress(OutputError):  # where nothing can be written, they are read every time
            write_json(memory, {"sha256": _seal(known_files), "files": known_files})
    return found


def _state(path: Path) -> list[int]:
    """Bytes, and when they and when anything about the file last changed [ns]; the latter cannot be set by hand."""
    about = path.stat()
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns]


def _remembered(memory: Path) -> dict[str, list[Any]]:
    """By file: its state and its sha256; nothing where the memory is not as it was written."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        files: dict[str, list[Any]] = known["files"]
        return files if known["sha256"] == _seal(files) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _seal(files: Mapping[str, list[Any]]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
