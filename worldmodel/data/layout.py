"""The tables of a LeRobotDataset v3.0: column names, order and types as LeRobot itself writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from worldmodel.data.images import video_codec
from worldmodel.data.schema import ACTION, CAMERA_PREFIX, CHUNKS_SIZE, INDEX_COLUMNS, PRIVILEGED, STATE, Feature
from worldmodel.data.stats import Stats


@dataclass(frozen=True)
class Layout:
    """What every episode of a data set has in common.

    cameras: (height, width) [px] by short name; video: as mp4 instead of PNG in the parquet;
    privileged_dim: width of the simulator's truth for probes, None when there is none.
    """

    fps: int
    state_dim: int
    action_dim: int
    cameras: Mapping[str, tuple[int, int]]
    video: bool = False
    privileged_dim: int | None = None
    robot_type: str | None = None

    def features(self) -> tuple[Feature, ...]:
        """In column order."""
        features = [_vector(STATE, self.state_dim, "s"), _vector(ACTION, self.action_dim, "a")]
        for camera, (height, width) in self.cameras.items():
            info = _video_info(height, width, self.fps) if self.video else None
            shape, names = (height, width, 3), ("height", "width", "channels")
            features.append(Feature(CAMERA_PREFIX + camera, "video" if self.video else "image", shape, names, info))
        if self.privileged_dim is not None:
            features.append(_vector(PRIVILEGED, self.privileged_dim, "q"))
        dtypes = ("float32", "int64", "int64", "int64", "int64")
        return (*features, *(Feature(name, dtype, (1,)) for name, dtype in zip(INDEX_COLUMNS, dtypes, strict=True)))


@dataclass(frozen=True)
class Record:
    """What finalize needs to know of a written episode: its files (relative path -> sha256) and statistics."""

    episode: int
    length: int
    task: str
    files: Mapping[str, str]
    stats: Stats
    extra: Mapping[str, Any] = field(default_factory=dict)


def _vector(name: str, size: int, prefix: str) -> Feature:
    return Feature(name, "float32", (size,), tuple(f"{prefix}{i}" for i in range(size)))


def _video_info(height: int, width: int, fps: int) -> dict[str, Any]:
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": video_codec()[1],
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }


def data_schema(layout: Layout) -> pa.Schema:
    """The columns of a data file, with the `huggingface` description that LeRobot's reader uses."""
    fields: list[pa.Field] = []
    described: dict[str, dict[str, Any]] = {}
    description: dict[str, Any]
    for feature in layout.features():
        if feature.dtype == "video":
            continue
        if feature.dtype == "image":
            kind, description = pa.struct([("bytes", pa.binary()), ("path", pa.string())]), {"_type": "Image"}
        elif feature.shape == (1,):
            kind, description = pa.type_for_alias(feature.dtype), {"dtype": feature.dtype, "_type": "Value"}
        else:
            value = {"dtype": feature.dtype, "_type": "Value"}
            kind = pa.list_(pa.field("element", pa.float32()), feature.shape[0])
            description = {"feature": value, "length": feature.shape[0], "_type": "List"}
        fields.append(pa.field(feature.name, kind))
        described[feature.name] = description
    fingerprint = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": described}, "fingerprint": fingerprint})})


def episode_table(layout: Layout, records: Sequence[Record]) -> pa.Table:
    """One row per episode, columns in LeRobot's order: place, spans of rows and videos, flattened statistics."""
    files = [divmod(record.episode, CHUNKS_SIZE) for record in records]
    chunk, file = ([pair[i] for pair in files] for i in range(2))
    stops = np.cumsum([record.length for record in records]).tolist()
    whole, numbers = pa.int64(), pa.list_(pa.field("element", pa.float64()))
    columns: dict[str, tuple[list[Any], pa.DataType]] = {
        "episode_index": ([record.episode for record in records], whole),
        "tasks": ([[record.task] for record in records], pa.list_(pa.field("element", pa.string()))),
        "length": ([record.length for record in records], whole),
        "data/chunk_index": (chunk, whole),
        "data/file_index": (file, whole),
        "dataset_from_index": ([stop - record.length for stop, record in zip(stops, records, strict=True)], whole),
        "dataset_to_index": (stops, whole),
    }
    for feature in layout.features():
        if feature.dtype == "video":
            prefix = f"videos/{feature.name}/"
            columns |= {prefix + "chunk_index": (chunk, whole), prefix + "file_index": (file, whole)}
            columns[prefix + "from_timestamp"] = ([0.0] * len(records), pa.float64())
            columns[prefix + "to_timestamp"] = ([record.length / layout.fps for record in records], pa.float64())
    for feature in layout.features():
        for name in records[0].stats[feature.name]:
            kind = numbers
            if name == "count" or (feature.dtype == "int64" and name in ("min", "max")):
                kind = pa.list_(pa.field("element", whole))
            elif feature.is_camera:
                kind = pa.list_(pa.field("element", pa.list_(pa.field("element", numbers))))
            columns[f"stats/{feature.name}/{name}"] = ([record.stats[feature.name][name] for record in records], kind)
    for part in ("chunk", "file"):
        columns[f"meta/episodes/{part}_index"] = ([0] * len(records), whole)
    return pa.table({name: pa.array(values, type=kind) for name, (values, kind) in columns.items()})


def task_table(tasks: Sequence[str]) -> pa.Table:
    """The task names as a pandas index, described the way pandas itself does."""
    text = {"name": None, "field_name": "__index_level_0__", "pandas_type": "object", "numpy_type": "str"}
    number = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    label = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "str"}
    description = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [{**label, "metadata": {"encoding": "UTF-8"}}],
        "columns": [{**number, "metadata": None}, {**text, "metadata": None}],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "3.1.1",
    }
    arrays = [pa.array(range(len(tasks)), type=pa.int64()), pa.array(tasks, type=pa.large_string())]
    fields = [("task_index", pa.int64()), ("__index_level_0__", pa.large_string())]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, {"pandas": json.dumps(description)}))
