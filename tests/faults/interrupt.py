"""A process that stops itself at its n-th file-system call, without the code it runs knowing of it.

Python reports every open, mkdir, rename, remove and rmdir of its own to an audit hook (PEP 578), which may also refuse
the call; fsync, which is not reported, is wrapped.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """Notes every change below `folder` in `calls`, and does `what` at call number `number`, counted from 1."""

    def __init__(self, folder: Path, number: int = 0, what: Callable[[], Any] | None = None) -> None:
        self._folder, self._number, self._what = str(folder.resolve()), number, what
        self.calls: list[tuple[str, str]] = []
        self.unsynced: list[str] = []  # files that took their name before they were synced
        self.asleep = self._each = False
        self._fsync = os.fsync
        os.fsync = self._synced
        sys.addaudithook(self._heard)

    def _synced(self, descriptor: int) -> None:
        self._note("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        self._fsync(descriptor)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)) and isinstance(flags, int) and flags & WRITES:
                self._note("open", os.fsdecode(path))
        elif event == "os.rename":
            self._renamed(os.fsdecode(arguments[0]), os.fsdecode(arguments[1]))
        elif event in CHANGES:
            path = arguments[0] if not isinstance(arguments[0], int) else os.readlink(f"/proc/self/fd/{arguments[0]}")
            self._note(event[3:], os.fsdecode(path))

    def _renamed(self, source: str, target: str) -> None:
        if not self.asleep and source.startswith(self._folder):
            synced = {path for name, path in self.calls if name == "fsync"}
            moved = [source, *(str(path) for path in Path(source).rglob("*"))]
            self.unsynced += [path for path in moved if path not in synced]
        self._note("rename", target)

    def _note(self, what: str, path: str) -> None:
        if self.asleep or not os.path.abspath(path).startswith(self._folder):
            return
        self.calls.append((what, path))
        due = len(self.calls) == self._number or (self._number == 0 and self._each)
        due = due or (0 < self._number <= len(self.calls) and self._each and what in ("open", "mkdir", "fsync"))
        if due and self._what is not None:
            self._what()

    def stop_at(self, number: int, what: Callable[[], Any]) -> None:
        """Do `what` at call `number`."""
        self._number, self._what, self._each = number, what, False

    def at_each(self, what: Callable[[], Any]) -> None:
        """Do it at every call; from the given number on, only at those that take room on the disk."""
        self._what, self._each = what, True


def die() -> None:
    """As by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk() -> None:
    """What a write to a full disk raises."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
