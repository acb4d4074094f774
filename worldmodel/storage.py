"""Files that are either complete or absent: write under another name, fsync, rename, fsync the folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from worldmodel.errors import OutputError


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of `path` durable."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and takes the name, on error it is removed.

    Raises OutputError for a disk that is full, read-only or gone.
    """
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is synced and takes the name, on error it is removed.

    Raises OutputError where `path` exists, and for a disk that is full, read-only or gone.
    """
    if path.exists():
        raise OutputError(f"expected a folder that does not exist yet, got {path}: choose another name or remove it")
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.mkdir()
        try:
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in names:
                    sync_file(Path(folder) / name)
                sync_folder(Path(folder))
            os.rename(temporary, path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Raises OutputError, in one line, for what a disk refuses. The writer of safetensors has an error of its own."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        free = f"{shutil.disk_usage(folder).free / 1e9:.2f} GB free in {folder}"
        raise OutputError(
            f"expected to write {path}, got {' '.join(str(error).split())} ({free}): "
            "mend that, then run the same command again"
        ) from error


def _temporary(path: Path) -> Path:
    """A name beside `path` for this process, after removing what killed processes of this machine left for `path`."""
    _sweep(path.parent, re.escape(path.name))
    return path.with_name(f".tmp-{platform.node()}-{os.getpid()}-{path.name}")


def _sweep(folder: Path, name: str) -> None:
    """Remove what killed processes of this machine left in the folder for files or folders of a name, an expression."""
    for old in folder.iterdir():
        found = re.fullmatch(rf"\.tmp-{re.escape(platform.node())}-(\d+)-{name}", old.name)
        if found and not _working(int(found[1])):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)


def _working(process: int) -> bool:
    """Whether another process of this number is running. This one has only begun: what bears its number is older."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, completely or not at all; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, sort_keys=False, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def new_folder(path: Path) -> Path:
    """Create the output folder `path`, which must not hold anything yet but what a killed process was just writing."""
    try:
        if path.is_dir():
            _sweep(path, ".+")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise OutputError(f"expected an empty or new output folder, got {path} which exists: choose another out=")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected a folder that can be written, got {path} ({error.strerror}): choose another out="
        ) from error
    return path
