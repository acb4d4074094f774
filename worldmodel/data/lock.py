"""One process per folder, by a kernel lock that dies with its holder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worldmodel.errors import OutputError

NAMELESS_S = 1.0  # how long a holder may take between its lock and its name in the file


@contextmanager
def folder_lock(path: Path, guarded: Path | None = None) -> Iterator[None]:
    """Hold the lock file `path`, which is removed afterwards; it guards its own folder, or `guarded`.

    Raises OutputError naming the holder's process when another one has it. After a kill the file stays, unlocked.
    """
    descriptor = _acquire(path, guarded or path.parent)
    try:
        with suppress(OSError):  # a full disk has room for the lock, if not for the name of its holder
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Hold the folder of a run, existing or not, by a lock beside it. Raises OutputError as `folder_lock`."""
    folder = out.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        got = f"{folder.parent} ({error.strerror})"
        raise OutputError(f"expected a folder that can be made, got {got}: choose another") from error
    with folder_lock(folder.parent / f".{folder.name}.lock", out):
        yield


def _acquire(path: Path, guarded: Path) -> int:
    give_up = time.monotonic() + NAMELESS_S
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            got = f"{path.parent} ({error.strerror})"
            raise OutputError(f"expected a folder that can be written, got {got}: choose another") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            if not holder and time.monotonic() < give_up:  # locked this instant: its name is about to follow
                time.sleep(0.01)
                continue
            got = f"process {holder or 'unknown'} at work in {guarded}"
            raise OutputError(
                f"expected a folder nobody writes to, got {got}: wait for it, or choose another"
            ) from error
        # The last holder may have removed the file between our open and our lock: then this lock guards nothing.
        if _same_file(descriptor, path):
            return descriptor
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
