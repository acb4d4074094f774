"""`worldmodel import`: robot logs in HDF5 -> a LeRobotDataset v3.0.

A format says where the episodes are; a mapping says what the arrays in them are called. Three formats are known:
robomimic (`data/demo_*`, Mandlekar et al. 2021, arXiv 2108.03298), Minari (`episode_*` in main_data.hdf5) and
stable-worldmodel (one array over all episodes each, cut by `ep_offset` and `ep_len`).

Legend: L rows of an episode, h, w picture size [px], A action dim, P proprioception dim.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.layout import Layout
from worldmodel.data.schema import one_line
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.errors import ConfigError, DataError
from worldmodel.storage import atomic_dir

if TYPE_CHECKING:  # an optional dependency
    import h5py

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, MemoryError)
"""What h5py raises for files that are damaged."""

LISTED = 30  # keys that an error names at most


@dataclass(frozen=True)
class Names:
    """What the arrays of an episode are called, by paths inside its group.

    image: by the camera's name. proprio: joined in this order. fps: whole frames per second; None: not known.
    """

    image: Mapping[str, str]
    action: str
    proprio: tuple[str, ...]
    fps: int | None = None
    task: str = "unnamed"


Read = Callable[[str], NDArray[Any]]
"""An array of one episode by its name. Raises DataError naming the keys that are there."""

DEFAULTS = {
    "robomimic": Names({"agentview": "obs/agentview_image"}, "actions", ("obs/robot0_eef_pos",)),
    "minari": Names({"front": "observations/pixels"}, "actions", ("observations/state",)),
    "swm": Names({"front": "pixels"}, "action", ("proprio",)),
}


def import_hdf5(
    *, source: str, format: str, out: str, mapping: Mapping[str, Any] | None = None, video: bool = False
) -> dict[str, int]:
    """Write the episodes of the HDF5 file `source` into the new folder `out`; says how many episodes and frames.

    mapping: image, action, proprio, fps and task where they differ from the format's own. video: mp4 instead of PNG.
    Raises ConfigError for a wrong mapping or a missing h5py, DataError for a file that does not hold what it says,
    OutputError where `out` exists.
    """
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("expected the package h5py, got none: pip install 'worldmodel[import]'") from error
    if format not in DEFAULTS:
        raise ConfigError(f"expected {' | '.join(DEFAULTS)} for 'format' of import, got {format!r}")
    path = _file(Path(source))
    try:
        file = h5py.File(path, "r")
    except UNREADABLE as error:
        raise DataError(f"expected a whole HDF5 file, got {one_line(error)} in {path}") from error
    with file:
        names = _names(DEFAULTS[format], mapping or {}, file)
        episodes = _cut(file, path) if format == "swm" else _grouped(file, path, format)
        return _write(episodes, names, Path(out), {"imported_from": path.name, "layout": format}, video)


def _file(source: Path) -> Path:
    """The file itself, or the one in a Minari data set's folder. Raises DataError."""
    inside = [source / name for name in ("main_data.hdf5", "data/main_data.hdf5")]
    found = next((path for path in [source, *inside] if path.is_file()), None)
    if found is None:
        raise DataError(f"expected an HDF5 file, got {source}, which is none: check the path")
    return found


def _names(default: Names, mapping: Mapping[str, Any], file: h5py.File) -> Names:
    """The format's names with the mapping's in their place. Raises ConfigError."""
    unknown = set(mapping) - set(Names.__dataclass_fields__)
    if unknown:
        known = ", ".join(Names.__dataclass_fields__)
        raise ConfigError(f"expected a mapping of {known}, got {sorted(map(str, unknown))}: see docs/own_data.md")
    given: dict[str, Any] = dict(mapping)
    for key, form in (("image", lambda text: {"front": text}), ("proprio", lambda text: [text])):
        if isinstance(given.get(key), str):
            given[key] = form(given[key])
    given["fps"] = given.get("fps") or _control_rate(file)
    if type(given["fps"]) is not int or given["fps"] < 1:
        raise ConfigError(f"expected whole frames per second, got {given['fps']}: write fps: into the mapping's file")
    names = replace(default, **given)
    whole = isinstance(names.image, dict) and isinstance(names.proprio, list | tuple) and names.image and names.proprio
    plain = [names.action, names.task, *names.proprio, *names.image, *names.image.values()] if whole else [None]
    if not all(isinstance(text, str) and text for text in plain):
        raise ConfigError(f"expected names of arrays in the mapping, got {dict(mapping)}: see docs/own_data.md")
    return names


def _control_rate(file: h5py.File) -> int | None:
    """What robomimic notes of the environment."""
    try:
        return int(json.loads(file["data"].attrs["env_args"])["env_kwargs"]["control_freq"])
    except (KeyError, ValueError, TypeError):
        return None


def _number(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", name))


def _grouped(file: h5py.File, path: Path, format: str) -> list[Read]:
    """One group for each episode, in the order of their numbers."""
    parent, prefix = ("data", "demo_") if format == "robomimic" else ("/", "episode_")
    groups = file.get(parent, {})
    members = sorted((name for name in groups if name.startswith(prefix)), key=_number)
    if not members:
        raise DataError(f"expected {parent.strip('/')}/{prefix}0, ... for format={format}, got {_keys(file)} in {path}")

    def reader(group: h5py.Group) -> Read:
        return lambda name: _array(group, name, f"{group.name} of {path}")

    return [reader(groups[member]) for member in members]


def _cut(file: h5py.File, path: Path) -> list[Read]:
    """Rows of all episodes one after another."""

    def reader(start: int, length: int) -> Read:
        def read(name: str) -> NDArray[Any]:
            rows = _array(file, name, str(path), slice(start, start + length))
            if len(rows) < length:
                raise DataError(f"expected {start + length} rows of {name!r}, got {start + len(rows)} in {path}")
            return rows

        return read

    offsets, lengths = (_array(file, name, str(path)).tolist() for name in ("ep_offset", "ep_len"))
    return [reader(start, length) for start, length in zip(offsets, lengths, strict=True)]


def _array(group: h5py.Group, name: str, where: str, rows: slice = slice(None)) -> NDArray[Any]:
    """Rows of an array. Raises DataError where it is not there or cannot be read."""
    try:
        found = group.get(name)
        if hasattr(found, "dtype"):
            return np.asarray(found[rows])
    except UNREADABLE as error:
        raise DataError(f"expected to read {name!r} in {where}, got {one_line(error)}") from error
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

    group.visititems(note)
    return ", ".join(found) or "no arrays"


def _write(episodes: Sequence[Read], names: Names, out: Path, about: dict[str, Any], video: bool) -> dict[str, int]:
    layout, records, start = None, [], 0
    with atomic_dir(out) as root:
        for number, read in enumerate(tqdm(episodes, unit="episode", desc="import", mininterval=1.0)):
            rollout = read_rollout(read, names)
            if layout is None:
                layout = _layout(rollout, names, video)
            records.append(
                write_episode(root, layout, rollout, episode=number, start=start, task=names.task, task_index=0)
            )
            start += len(rollout.actions)
        if layout is None:
            raise DataError(f"expected at least one episode, got none in {about['imported_from']}")
        finalize(root, layout, records, tasks=[names.task], extra=about)
    return {"episodes": len(records), "frames": start}


def _layout(rollout: Rollout, names: Names, video: bool) -> Layout:
    assert names.fps is not None
    sizes = {name: (frames.shape[1], frames.shape[2]) for name, frames in rollout.frames.items()}
    return Layout(names.fps, rollout.proprio.shape[1], rollout.actions.shape[1], sizes, video=video)


def read_rollout(read: Read, names: Names) -> Rollout:
    """One episode. The last frame has no action that leaves it: a missing or NaN one is that of the row before."""
    frames = {}
    for camera, name in names.image.items():
        frames[camera] = read(name)
        if frames[camera].dtype != np.uint8 or frames[camera].ndim != 4 or frames[camera].shape[-1] != 3:
            got = f"{frames[camera].dtype} {list(frames[camera].shape)}"
            raise DataError(f"expected pictures uint8 [L,h,w,3] as {name!r}, got {got}")
    length = len(next(iter(frames.values())))
    proprio = np.concatenate([_vectors(read(name), name) for name in names.proprio], axis=1)
    actions = _vectors(read(names.action), names.action)
    if len(actions) == length - 1 > 0 or (len(actions) == length > 1 and not np.isfinite(actions[-1]).all()):
        actions = np.concatenate([actions[: length - 1], actions[length - 2 : length - 1]])
    return Rollout(frames, proprio, actions)


def _vectors(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Numbers of any precision as float32 [L,n]."""
    if values.dtype.kind not in "fiu" or values.ndim not in (1, 2):
        raise DataError(f"expected numbers [L,n] as {name!r}, got {values.dtype} {list(values.shape)}")
    return values.reshape(len(values), -1).astype(np.float32)
