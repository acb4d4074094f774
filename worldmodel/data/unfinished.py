"""Long work on a file of rows that survives being stopped: what was written is kept, checked, and gone on from.

Legend: N rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.lock import folder_lock
from worldmodel.data.rows import RowWriter
from worldmodel.errors import OutputError
from worldmodel.storage import atomic_file, sync_file, sync_folder, write_json, written

MARK = 4096  # rows between two marks: what is lost where a run is stopped


class MarkedRows:
    """Rows written in their order into a .npy at `part`; every MARK of them, `mark`, if any, says so.

    done: how many there are already, whose bytes are those of the last mark.
    """

    def __init__(self, part: Path, shape: tuple[int, ...], dtype: Any, mark: Path | None = None) -> None:
        self._part, self._mark = part, mark
        self._shape, self._dtype = shape, dtype
        self._digest = hashlib.sha256()
        self.done = self._kept()
        self._marked = self.done
        self._writer = RowWriter(part, shape, dtype, keep=self.done)

    def put(self, values: NDArray[Any]) -> None:
        """The next rows [n,...]."""
        whole = np.ascontiguousarray(values, self._dtype)
        self._writer.put(self.done, whole)
        self._digest.update(whole.data)
        self.done += len(whole)
        if self._mark is not None and self.done - self._marked >= MARK:
            self._writer.sync()
            write_json(self._mark, {"rows": self.done, "sha256": self._digest.hexdigest()})
            self._marked = self.done

    def close(self) -> None:
        """Nothing more is written."""
        self._writer.close()

    def _kept(self) -> int:
        """How many rows of an earlier run are as its last mark says; the digest then is theirs."""
        if self._mark is None:
            return 0
        try:
            mark = json.loads(self._mark.read_text(encoding="utf-8"))
            rows, wanted = int(mark["rows"]), str(mark["sha256"])
            known = np.load(self._part, mmap_mode="r", allow_pickle=False)
            if known.shape != self._shape or known.dtype != np.dtype(self._dtype) or not 0 < rows <= len(known):
                return 0
            digest = hashlib.sha256()
            for start in range(0, rows, MARK):
                digest.update(np.ascontiguousarray(known[start : min(start + MARK, rows)]).data)
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if digest.hexdigest() != wanted:
            return 0
        self._digest = digest
        return rows


@contextmanager
def unfinished_rows(path: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[MarkedRows]:
    """A .npy of `shape` [N,...] on its way to `path`, which it is once the block ends; where that is left earlier, what
    was written waits for the next call.

    Of two processes at the same file the second writes one of its own, of which nothing is kept. Raises OutputError for
    what a disk refuses.
    """
    mark = path.with_name(f"{path.stem}.mark.json")
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(path.with_name(f".{path.stem}.lock"), path))
            part = stack.enter_context(_kept_file(path, mark))
            rows = MarkedRows(part, shape, dtype, mark)
        except OutputError:
            rows = MarkedRows(stack.enter_context(atomic_file(path)), shape, dtype)
        with closing(rows):
            yield rows


@contextmanager
def _kept_file(path: Path, mark: Path) -> Iterator[Path]:
    """Another name for `path`, which it takes in the end; on error it keeps its own."""
    part = path.with_suffix(".part")
    with written(path):
        yield part
        sync_file(part)
        os.replace(part, path)
        sync_folder(path.parent)
        mark.unlink(missing_ok=True)
