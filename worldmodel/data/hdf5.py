"""`worldmodel import`: robot logs in HDF5 -> a LeRobotDataset v3.0.

A format says where the episodes are; a mapping says what the arrays in them are called. Three formats are known:
robomimic (`data/demo_*`, Mandlekar et al. 2021, arXiv 2108.03298), Minari (`episode_*` in main_data.hdf5) and
stable-worldmodel (one array over all episodes each, cut by `ep_offset` and `ep_len`).

Legend: L rows of an episode, h, w picture size [px], A action dim, P proprioception dim.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.hdf5_logs import UNREADABLE, Log, find_logs
from worldmodel.data.layout import Layout, Record
from worldmodel.data.schema import one_line
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.errors import ConfigError, DataError
from worldmodel.storage import atomic_dir

if TYPE_CHECKING:  # an optional dependency
    import h5py

OTHER_NAME = "give another name in mapping=FILE.yaml, or mend the file"


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


DEFAULTS = {
    "robomimic": Names({"agentview": "obs/agentview_image"}, "actions", ("obs/robot0_eef_pos",)),
    "minari": Names({"front": "observations/pixels"}, "actions", ("observations/state",)),
    "swm": Names({"front": "pixels"}, "action", ("proprio",)),
}


def import_hdf5(
    *,
    source: str,
    format: str,
    out: str,
    mapping: Mapping[str, Any] | None = None,
    video: bool = False,
    skip_bad_episodes: bool = False,
) -> dict[str, int]:
    """Write the episodes of the HDF5 file `source` into the new folder `out`; counts episodes, frames and skipped.

    mapping: image, action, proprio, fps and task where they differ from the format's own. video: mp4 instead of PNG.
    skip_bad_episodes: leave out, and name, the episodes that have a defect, instead of raising the first one.
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
        raise DataError(f"expected a whole HDF5 file, got {one_line(error)} in {path}: copy it again") from error
    with file:
        names = _names(DEFAULTS[format], mapping or {}, file)
        logs = find_logs(file, path, format)
        about = {"imported_from": path.name, "layout": format}
        return _write(logs, names, Path(out), about, video, skip_bad_episodes)


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
    except (*UNREADABLE, OverflowError):
        return None


def _write(
    logs: Sequence[Log], names: Names, out: Path, about: dict[str, Any], video: bool, skip: bool
) -> dict[str, int]:
    layout, records, start, left_out = None, list[Record](), 0, dict[str, str]()
    with atomic_dir(out) as root:
        for log in tqdm(logs, unit="episode", desc="import", mininterval=1.0):
            try:
                rollout = read_rollout(log, names)
                fits = layout or _layout(rollout, names, video)
                number = {"episode": len(records), "start": start}
                records.append(write_episode(root, fits, rollout, **number, task=names.task, task_index=0))
            except DataError as error:
                message = str(error) if log.where in str(error) else f"{error}, which is {log.where}"
                if not skip:
                    raise DataError(f"{message}; skip_bad_episodes=true leaves bad episodes out") from error
                left_out[log.where] = message
            else:
                layout, start = fits, start + len(rollout.actions)
        if layout is None:
            first = f": {next(iter(left_out.values()))}" if left_out else ": record some"
            raise DataError(f"expected a good episode, got none of {len(logs)} in {about['imported_from']}{first}")
        left = {"left_out": list(left_out.values())} if left_out else {}
        finalize(root, layout, records, tasks=[names.task], extra={**about, **left})
    if left_out:
        print("\n".join([*left_out.values(), f"left out {len(left_out)} of {len(logs)} episodes"]))
    return {"episodes": len(records), "frames": start, "skipped": len(left_out)}


def _layout(rollout: Rollout, names: Names, video: bool) -> Layout:
    assert names.fps is not None
    sizes = {name: (frames.shape[1], frames.shape[2]) for name, frames in rollout.frames.items()}
    return Layout(names.fps, rollout.proprio.shape[1], rollout.actions.shape[1], sizes, video=video)


def read_rollout(log: Log, names: Names) -> Rollout:
    """One episode. The last frame has no action that leaves it: a missing or NaN one is that of the row before."""
    frames = {}
    for camera, name in names.image.items():
        frames[camera] = log.read(name)
        if frames[camera].dtype != np.uint8 or frames[camera].ndim != 4 or frames[camera].shape[-1] != 3:
            got = f"{frames[camera].dtype} {list(frames[camera].shape)} in {log.where}: {OTHER_NAME}"
            raise DataError(f"expected pictures uint8 [L,h,w,3] as {name!r}, got {got}")
    length = len(next(iter(frames.values())))
    parts = [_vectors(log, name) for name in names.proprio]
    if len({len(part) for part in parts}) > 1:
        rows = ", ".join(f"{len(part)} of {name!r}" for name, part in zip(names.proprio, parts, strict=True))
        raise DataError(f"expected arrays of as many rows to join, got {rows} in {log.where}: {OTHER_NAME}")
    proprio = np.concatenate(parts, axis=1)
    actions = _vectors(log, names.action)
    if len(actions) == length - 1 > 0 or (len(actions) == length > 1 and not np.isfinite(actions[-1]).all()):
        actions = np.concatenate([actions[: length - 1], actions[length - 2 : length - 1]])
    return Rollout(frames, proprio, actions)


def _vectors(log: Log, name: str) -> NDArray[np.float32]:
    """Numbers of any precision as float32 [L,n]."""
    values = log.read(name)
    if values.dtype.kind not in "fiu" or values.ndim not in (1, 2):
        got = f"{values.dtype} {list(values.shape)} in {log.where}: {OTHER_NAME}"
        raise DataError(f"expected numbers [L,n] as {name!r}, got {got}")
    return (values[:, None] if values.ndim == 1 else values).astype(np.float32)
