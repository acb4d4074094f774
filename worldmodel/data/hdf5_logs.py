"""The episodes in an HDF5 file: one group each, or rows of arrays that hold all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.schema import one_line
from worldmodel.errors import DataError

if TYPE_CHECKING:  # an optional dependency
    import h5py

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError)
"""What h5py raises for files that are damaged."""

LISTED = 30  # keys that an error names at most

Read = Callable[[str], NDArray[Any]]
"""An array of one episode by its name. Raises DataError naming the keys that are there."""


@dataclass(frozen=True)
class Log:
    """One episode: how messages name it, and how its arrays are read."""

    where: str
    read: Read


def find_logs(file: h5py.File, path: Path, format: str) -> list[Log]:
    """The episodes of a file; format: robomimic | minari | swm. Raises DataError where they are not as it says."""
    return _cut(file, path) if format == "swm" else _grouped(file, path, format)


def _number(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", name))


def _grouped(file: h5py.File, path: Path, format: str) -> list[Log]:
    """One group for each episode, in the order of their numbers."""
    parent, prefix = ("data", "demo_") if format == "robomimic" else ("", "episode_")
    try:
        groups = file.get(f"/{parent}")
        members = sorted((name for name in _members(groups) if name.startswith(prefix)), key=_number)
    except UNREADABLE as error:
        raise DataError(f"expected a whole HDF5 file, got {one_line(error)} in {path}: copy it again") from error
    if not members:
        got = f"{_keys(file)} in {path}: give the format the file has, or write the episodes so"
        raise DataError(f"expected {parent}/{prefix}0, ... for format={format}, got {got}")

    def log(member: str) -> Log:
        where = f"{'/'.join(('', *parent.split(), member))} of {path}"
        return Log(where, lambda name: _array(_group(groups, member, where), name, where))

    return [log(member) for member in members]


def _members(group: Any) -> list[str]:
    """The names in a group; none in an array, which may stand where a group is expected."""
    return list(group) if hasattr(group, "keys") else []


def _cut(file: h5py.File, path: Path) -> list[Log]:
    """Rows of all episodes one after another."""

    def log(number: int, start: int, length: int) -> Log:
        where = f"episode {number} (rows {start} to {start + length}) of {path}"

        def read(name: str) -> NDArray[Any]:
            rows = _array(file, name, where, slice(start, start + length))
            if len(rows) < length:
                got = f"{start + len(rows)} in {where}: mend ep_offset and ep_len"
                raise DataError(f"expected {start + length} rows of {name!r}, got {got}")
            return rows

        return Log(where, read)

    offsets, lengths = (_whole_numbers(file, name, path) for name in ("ep_offset", "ep_len"))
    if len(offsets) != len(lengths):
        got = f"{len(offsets)} and {len(lengths)} in {path}: write one of each for every episode"
        raise DataError(f"expected 'ep_offset' and 'ep_len' of one length, got {got}")
    return [log(number, *pair) for number, pair in enumerate(zip(offsets, lengths, strict=True))]


def _whole_numbers(file: h5py.File, name: str, path: Path) -> list[int]:
    """An array of row numbers. Raises DataError."""
    values = _array(file, name, str(path))
    if values.dtype.kind not in "iu" or values.ndim != 1:
        got = f"{values.dtype} {list(values.shape)} in {path}: convert them"
        raise DataError(f"expected whole numbers [episodes] as {name!r}, got {got}")
    found: list[int] = values.tolist()
    if min(found, default=0) < 0:
        raise DataError(f"expected numbers >= 0 as {name!r}, got {min(found)} in {path}: mend them")
    return found


def _group(groups: h5py.Group, member: str, where: str) -> h5py.Group:
    """The group of an episode. Raises DataError where it is none or cannot be read."""
    try:
        found = groups[member]
    except UNREADABLE as error:
        raise DataError(f"expected to read {where}, got {one_line(error)}: copy the file again") from error
    if not hasattr(found, "keys"):
        got = f"one array {list(getattr(found, 'shape', []))} as {where}: give the format the file has"
        raise DataError(f"expected a group of an episode's arrays, got {got}")
    return found


def _array(group: h5py.Group, name: str, where: str, rows: slice = slice(None)) -> NDArray[Any]:
    """Rows of an array. Raises DataError where it is not there or cannot be read."""
    try:
        found = group.get(name)
        if hasattr(found, "dtype"):
            return np.asarray(found[rows])
    except UNREADABLE as error:
        raise DataError(f"expected to read {name!r} in {where}, got {one_line(error)}: copy the file again") from error
    raise DataError(
        f"expected the array {name!r} in {where}, got {_keys(group)}: write the names of image, action, proprio, fps "
        "and task into a file and give mapping=FILE.yaml (docs/own_data.md)"
    )


def _keys(group: h5py.Group) -> str:
    """The arrays that are there, with their shapes."""
    found: list[str] = []

    def note(name: str, item: Any) -> bool | None:
        if hasattr(item, "dtype"):
            found.append(f"{name} {item.dtype} {list(item.shape)}")
        return True if len(found) >= LISTED else None

    with suppress(*UNREADABLE):  # what a damaged file still shows
        group.visititems(note)
    return ", ".join(found) or "no arrays"
