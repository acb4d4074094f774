"""LeRobotDataset v3.0 on disk: what `meta/info.json` and `meta/episodes` say, parsed strictly.

Every message names the file, what was expected, what came, and where possible how to mend it.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from worldmodel.errors import DataError

VERSION = "v3.0"
STATE = "observation.state"
ACTION = "action"
PRIVILEGED = "privileged.state"
CAMERA_PREFIX = "observation.images."
CHUNKS_SIZE = 1000
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
VECTOR_TYPES = ("float32", "float64")
CAMERA_TYPES = ("image", "video")
UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises for files that are damaged."""

MEND_LINE = "mend that line"
MEND_TEMPLATE = "mend data_path or video_path in meta/info.json"
COPY_FILE = "copy the file again"
COPY_META = "copy meta/ again"

COUNTS = ("chunks_size", "fps", "total_episodes", "total_frames")


def one_line(error: BaseException) -> str:
    """A library's message as the tail of one of ours."""
    return " ".join(str(error).split())[:500] or type(error).__name__


@dataclass(frozen=True)
class Feature:
    """One entry of `features`: a column of the data files, or a camera whose frames lie in videos.

    shape: of one row; images as [height, width, channels] unless `names` says that the channels come first.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: Any = None
    info: Mapping[str, Any] | None = None

    @property
    def is_camera(self) -> bool:
        return self.dtype in CAMERA_TYPES

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) [px] of a camera."""
        channels_first = isinstance(self.names, (list, tuple)) and bool(self.names) and "channel" in str(self.names[0])
        return (self.shape[1], self.shape[2]) if channels_first else (self.shape[0], self.shape[1])

    @property
    def channels(self) -> int:
        height, width = self.image_shape
        return self.shape[0] * self.shape[1] * self.shape[2] // (height * width)

    def to_json(self) -> dict[str, Any]:
        """The form `meta/info.json` holds."""
        names = list(self.names) if isinstance(self.names, tuple) else self.names
        entry: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape), "names": names}
        return entry if self.info is None else entry | {"info": dict(self.info)}


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames lie: the file, and the times [s] from its start, the end exclusive."""

    chunk: int
    file: int
    start: float
    stop: float


@dataclass(frozen=True)
class EpisodeRow:
    """One row of `meta/episodes`: where an episode's rows and frames are. Global row numbers, the end exclusive."""

    index: int
    tasks: tuple[str, ...]
    length: int
    chunk: int
    file: int
    start: int
    stop: int
    videos: Mapping[str, VideoSpan]


@dataclass(frozen=True)
class DatasetInfo:
    """`meta/info.json`, checked."""

    root: Path
    fps: int
    episodes: int
    frames: int
    data_path: str
    video_path: str | None
    features: Mapping[str, Feature]

    @property
    def cameras(self) -> dict[str, Feature]:
        """Camera features by short name ("observation.images.front" is "front")."""
        return {f.name.removeprefix(CAMERA_PREFIX): f for f in self.features.values() if f.is_camera}

    def data_file(self, chunk: int, file: int) -> Path:
        """The parquet file (chunk, file). Raises DataError when it would lie outside the data set."""
        return _inside(self.root, self.data_path, chunk_index=chunk, file_index=file)

    def video_file(self, camera: str, chunk: int, file: int) -> Path:
        """The mp4 file of a camera feature. Raises DataError when it would lie outside the data set."""
        if self.video_path is None:
            where = f"{self.root / 'meta/info.json'} for {camera}"
            raise DataError(f"expected a video_path in {where}, got null: {MEND_LINE}")
        return _inside(self.root, self.video_path, video_key=camera, chunk_index=chunk, file_index=file)


def read_info(root: Path) -> DatasetInfo:
    """Parse `root/meta/info.json`. Raises DataError for anything that is not a LeRobot v3.0 data set."""
    path = root / "meta/info.json"
    if not root.is_dir():
        raise DataError(f"expected a LeRobot v3.0 dataset folder, got {root}, which is not a folder: check the path")
    if not path.is_file():
        begun = (root / "meta/collect.json").is_file()
        mend = "its collection is not finished, run the same collect command again" if begun else "check the path"
        raise DataError(f"expected a LeRobot v3.0 dataset, got {root} without meta/info.json: {mend}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"expected JSON in {path}, got {one_line(error)}: {COPY_FILE}") from error
    if not isinstance(raw, dict):
        raise DataError(f"expected a JSON object in {path}, got {type(raw).__name__}: {COPY_FILE}")
    version = raw.get("codebase_version")
    if version != VERSION:
        mend = "convert it with lerobot's own converter first"
        raise DataError(f"expected codebase_version {VERSION!r}, got {version!r} in {path}: {mend}")
    counts = {name: _count(raw.get(name), name, path) for name in COUNTS}
    features = _features(raw.get("features"), path)
    for name, optional in (("data_path", False), ("video_path", True)):
        value = raw.get(name)
        if not (isinstance(value, str) or (optional and value is None)):
            raise DataError(f"expected a path template as {name!r}, got {value!r} in {path}: {MEND_LINE}")
    return DatasetInfo(
        root=root,
        fps=counts["fps"],
        episodes=counts["total_episodes"],
        frames=counts["total_frames"],
        data_path=raw["data_path"],
        video_path=raw.get("video_path"),
        features=features,
    )


def _count(value: Any, name: str, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 1 or value != value // 1:
        raise DataError(f"expected a whole number >= 1 as {name!r}, got {value!r} in {path}: {MEND_LINE}")
    return int(value)


def _features(raw: Any, path: Path) -> dict[str, Feature]:
    if not isinstance(raw, dict) or not raw:
        raise DataError(f"expected 'features' by name, got {raw!r} in {path}: {MEND_LINE}")
    features = {}
    for name, entry in raw.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
            raise DataError(f"expected dtype and shape for feature {name!r}, got {entry!r} in {path}: {MEND_LINE}")
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(isinstance(n, int) and 0 < n < 2**31 for n in shape):
            got = f"{shape!r} in {path}: {MEND_LINE}"
            raise DataError(f"expected a list of sizes as shape of feature {name!r}, got {got}")
        if entry["dtype"] in CAMERA_TYPES and len(shape) != 3:
            got = f"{shape} in {path}: {MEND_LINE}"
            raise DataError(f"expected shape [height, width, 3] for camera {name!r}, got {got}")
        features[name] = Feature(name, entry["dtype"], tuple(shape), entry.get("names"), entry.get("info"))
    for name in (STATE, ACTION):
        if name not in features:
            got = f"{', '.join(features)} in {path}"
            raise DataError(f"expected a feature {name!r}, got {got}: rename the column that holds it")
    for name in (STATE, ACTION, PRIVILEGED):
        feature = features.get(name)
        if feature is not None and (feature.dtype not in VECTOR_TYPES or len(feature.shape) != 1):
            got = f"{feature.dtype} {list(feature.shape)}"
            raise DataError(f"expected feature {name!r} as float32 of shape [n], got {got} in {path}: convert it")
    return features


def _inside(root: Path, template: str, **fields: str | int) -> Path:
    """Fill in a path template; the result is a plain relative path below `root`."""
    try:
        for _, name, form, conversion in string.Formatter().parse(template):
            if name is not None and (name not in fields or conversion or not re.fullmatch(r"(0?\d?d)?", form or "")):
                got = f"{template!r} in {root}: {MEND_TEMPLATE}"
                raise DataError(f"expected only {', '.join(fields)} in the path template, got {got}")
        relative = PurePosixPath(template.format(**fields))
    except ValueError as error:
        got = f"{template!r} ({one_line(error)}) in {root}: {MEND_TEMPLATE}"
        raise DataError(f"expected a path template, got {got}") from error
    if relative.is_absolute() or ".." in relative.parts or "\0" in str(relative) or "\\" in str(relative):
        got = f"{str(relative)!r} from the template {template!r}: {MEND_TEMPLATE}"
        raise DataError(f"expected a path inside {root}, got {got}")
    return root / relative


def damaged(path: Path, error: Exception) -> DataError:
    """The error for a parquet file that cannot be read."""
    return DataError(f"expected a whole parquet file, got {path} damaged or cut short ({one_line(error)}): {COPY_FILE}")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A whole parquet file, checksums verified where it has them. Raises DataError when it is damaged or cut short."""
    if not path.is_file():
        raise DataError(f"expected the file {path}, which does not exist: {COPY_FILE}")
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
    except UNREADABLE as error:
        raise damaged(path, error) from error


def read_episode_rows(info: DatasetInfo) -> tuple[EpisodeRow, ...]:
    """All rows of `meta/episodes`, in episode order, agreeing with `meta/info.json`."""
    folder = info.root / "meta/episodes"
    files = sorted(folder.glob("chunk-*/file-*.parquet"))
    if not files:
        raise DataError(f"expected chunk-*/file-*.parquet in {folder}, got none: {COPY_META}")
    rows = sorted((row for path in files for row in _rows_of(path, info)), key=lambda row: row.index)
    if len(rows) != info.episodes or [row.index for row in rows] != list(range(info.episodes)):
        got = f"{len(rows)} rows in {folder}: {COPY_META}"
        raise DataError(f"expected episodes 0 to {info.episodes - 1} once each, got {got}")
    total = sum(row.stop - row.start for row in rows)
    if total != info.frames:
        got = f"{total} in {folder}: {COPY_META}"
        raise DataError(f"expected lengths that sum to total_frames {info.frames}, got {got}")
    return tuple(rows)


def _rows_of(path: Path, info: DatasetInfo) -> list[EpisodeRow]:
    videos = [feature.name for feature in info.features.values() if feature.dtype == "video"]
    where = [f"data/{part}_index" for part in ("chunk", "file")] + ["dataset_from_index", "dataset_to_index"]
    parts = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    columns = ["episode_index", "tasks", "length", *where, *(f"videos/{v}/{part}" for v in videos for part in parts)]
    present = pq_names(path)
    missing = [name for name in columns if name not in present]
    if missing:
        raise DataError(f"expected the column {missing[0]!r} in {path}, got {len(present)} others: {COPY_META}")
    table = read_parquet(path, columns)
    for name in columns:
        kind = table.schema.field(name).type
        fits = pa.types.is_floating(kind) if name.endswith("timestamp") else pa.types.is_integer(kind)
        if table[name].null_count or not (pa.types.is_list(kind) if name == "tasks" else fits):
            got = f"{kind} with {table[name].null_count} gaps: {COPY_META}"
            raise DataError(f"expected numbers without gaps as {name!r} in {path}, got {got}")
    rows = []
    for row in table.to_pylist():
        spans = {v: VideoSpan(*(row[f"videos/{v}/{part}"] for part in parts)) for v in videos}
        chunk, file, start, stop = (row[name] for name in where)
        index, length = row["episode_index"], row["length"]
        if stop < start:
            got = f"rows {start} to {stop} for episode {index} in {path}: {COPY_META}"
            raise DataError(f"expected rows in order, got {got}")
        rows.append(EpisodeRow(index, tuple(row["tasks"]), length, chunk, file, start, stop, spans))
    return rows


def pq_names(path: Path) -> list[str]:
    """Column names of a parquet file. Raises DataError when it is damaged or cut short."""
    try:
        return list(pq.read_schema(path).names)
    except UNREADABLE as error:
        raise damaged(path, error) from error
