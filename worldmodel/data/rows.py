"""Files of equal rows, larger than memory: written and read row by row, as NumPy's .npy.

They are read by calls and not mapped, since every page of a map that was looked at counts as memory of the process.

Legend: N rows, n those asked for.
"""

from __future__ import annotations

import itertools
import math
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from worldmodel.errors import DataError

Array = NDArray[Any]


class Rows(Protocol):
    """What is asked for by rows: an array [N,...], or a file of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class RowFile:
    """The first `count` rows (None: all) of a .npy at `path`, in the order of C. Raises DataError for another file."""

    def __init__(self, path: Path, count: int | None = None) -> None:
        try:
            with path.open("rb") as stream:
                version = np.lib.format.read_magic(stream)
                header = np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else None
                self._start = stream.tell()
        except (OSError, ValueError) as error:
            raise DataError(f"expected a file of rows, got {path} ({error}): remove it, it is made anew") from error
        if header is None or header[1] or header[2].hasobject or (count or 0) > header[0][0]:
            wanted = f"a .npy of {'' if count is None else f'{count} '}rows of numbers in the order of C"
            got = "another version of the format" if header is None else f"shape, Fortran order and type {header}"
            raise DataError(f"expected {wanted}, got {got} in {path}: remove it, it is made anew")
        rows, *one = header[0]
        self.shape: tuple[int, ...] = (rows if count is None else count, *one)
        self.dtype = header[2]
        self._size = math.prod(one) * self.dtype.itemsize
        self._path, self._descriptor = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> Array:
        """Copies of the rows of a slice, a number, or an array of numbers; consecutive ones come in one read.

        Raises IndexError for rows that are not there, and DataError where the file has become shorter.
        """
        asked = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        if asked.dtype == bool:
            raise IndexError("expected numbers of rows, got a mask: take its np.flatnonzero")
        flat = asked.ravel()
        if len(flat) and not 0 <= flat.min() <= flat.max() < len(self):
            raise IndexError(f"expected rows of 0 to {len(self) - 1}, got {flat.min()} to {flat.max()}")
        found = np.empty((len(flat), *self.shape[1:]), self.dtype)
        cuts = np.flatnonzero(np.diff(flat, prepend=-2, append=-2) != 1)
        for begin, end in itertools.pairwise(cuts):
            self._fill(found[begin:end], self._start + int(flat[begin]) * self._size)
        return found.reshape(*asked.shape, *self.shape[1:])

    def _fill(self, target: Array, offset: int) -> None:
        left = target.reshape(-1).view(np.uint8).data
        while left:
            read = os.preadv(self._descriptor, [left], offset)
            if read == 0:
                raise DataError(f"expected {len(self)} rows, got {self._path}, cut short: start again to make it anew")
            left, offset = left[read:], offset + read


class RowWriter:
    """Writes a .npy of `shape` [N,...] at `path` row by row; rows that are never written are zeros.

    keep: the first rows of such a file, which is there already, that stay as they are.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any, keep: int = 0) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size = math.prod(shape[1:]) * self.dtype.itemsize
        self._stream = path.open("r+b" if keep else "wb")
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)
        self._start = self._stream.tell()
        self.end(keep)

    def put(self, row: int, values: Array) -> None:
        """Write rows [n,...] from `row` on."""
        self._stream.seek(self._start + row * self.size)
        self._stream.write(np.ascontiguousarray(values, self.dtype).data)

    def end(self, row: int) -> None:
        """Nothing from `row` on: zeros."""
        for rows in (row, self.shape[0]):
            self._stream.truncate(self._start + rows * self.size)

    def sync(self) -> None:
        """Make durable what was written."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Nothing more is written."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
