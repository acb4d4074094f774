"""Writes LeRobotDataset v3.0: one parquet (and one mp4 per camera) for each episode, durable as soon as it is there.

`write_episode` may run in many processes; `finalize` puts the descriptions in place, `meta/info.json` last of all.
`action[t]` leaves frame t; the last row's action has no successor frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from worldmodel.data.images import png_bytes, write_video
from worldmodel.data.layout import Layout, Record, data_schema, episode_table, task_table
from worldmodel.data.schema import (
    ACTION,
    CAMERA_PREFIX,
    CHUNKS_SIZE,
    PRIVILEGED,
    STATE,
    VERSION,
)
from worldmodel.data.stats import aggregate, image_stats, vector_stats
from worldmodel.errors import DataError
from worldmodel.storage import atomic_file, sha256_file, write_json

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
EXTRA_PATH = "meta/worldmodel.json"
SUMS_PATH = "meta/SHA256SUMS"


@dataclass(frozen=True)
class Rollout:
    """One episode of L rows: frames uint8 [L,h,w,3] by camera, proprio [L,P], actions [L,A], privileged [L,Q].

    task: what it is about; None where that is not said.
    """

    frames: Mapping[str, NDArray[np.uint8]]
    proprio: NDArray[np.float32]
    actions: NDArray[np.float32]
    privileged: NDArray[np.float32] | None = None
    task: str | None = None


def write_episode(
    root: Path, layout: Layout, rollout: Rollout, *, episode: int, start: int, task: str, task_index: int = 0
) -> Record:
    """Write episode number `episode`, whose first row is row `start` of the whole data set.

    The parquet comes last: where it lies, the episode is complete. Raises DataError for values that do not fit.
    """
    _check(layout, rollout, episode)
    length = len(rollout.actions)
    chunk, file = divmod(episode, CHUNKS_SIZE)
    paths, stats = [], {}
    rows = np.arange(length)
    columns: dict[str, NDArray[Any]] = {STATE: rollout.proprio, ACTION: rollout.actions}
    if rollout.privileged is not None:
        columns[PRIVILEGED] = rollout.privileged
    columns["timestamp"] = (rows / layout.fps).astype(np.float32)
    columns |= {"frame_index": rows, "episode_index": np.full(length, episode)}
    columns |= {"index": start + rows, "task_index": np.full(length, task_index)}
    schema = data_schema(layout)
    arrays: list[pa.Array] = []
    for feature in layout.features():
        if not feature.is_camera:
            arrays.append(_column(columns[feature.name], schema.field(feature.name).type))
            stats[feature.name] = vector_stats(columns[feature.name].reshape(length, -1))
            continue
        frames = rollout.frames[feature.name.removeprefix(CAMERA_PREFIX)]
        stats[feature.name] = image_stats(frames)
        if feature.dtype == "image":
            kind = schema.field(feature.name).type
            pictures = [{"bytes": png_bytes(f), "path": f"frame-{i:06d}.png"} for i, f in enumerate(frames)]
            arrays.append(pa.array(pictures, type=kind))
            continue
        paths.append(VIDEO_PATH.format(video_key=feature.name, chunk_index=chunk, file_index=file))
        with atomic_file(root / paths[-1]) as temporary:
            write_video(temporary, frames, layout.fps)
    paths.append(DATA_PATH.format(chunk_index=chunk, file_index=file))
    _write_table(root / paths[-1], pa.Table.from_arrays(arrays, schema=schema))
    return Record(episode, length, task, {path: sha256_file(root / path) for path in paths}, stats)


def _check(layout: Layout, rollout: Rollout, episode: int) -> None:
    length = len(rollout.actions)
    arrays: dict[str, tuple[NDArray[Any] | None, tuple[int, ...], str]] = {
        STATE: (rollout.proprio, (length, layout.state_dim), "float32"),
        ACTION: (rollout.actions, (length, layout.action_dim), "float32"),
    }
    if layout.privileged_dim is not None or rollout.privileged is not None:
        arrays[PRIVILEGED] = (rollout.privileged, (length, layout.privileged_dim or 0), "float32")
    for camera, (height, width) in layout.cameras.items():
        arrays[CAMERA_PREFIX + camera] = (rollout.frames[camera], (length, height, width, 3), "uint8")
    for name, (value, shape, dtype) in arrays.items():
        got = "none" if value is None else f"{value.dtype} {list(value.shape)}"
        if value is None or value.shape != shape or value.dtype != dtype or length < 1:
            raise DataError(f"expected {name} as {dtype} {list(shape)} with rows, got {got} in episode {episode}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            row = int(np.argwhere(~np.isfinite(value))[0, 0])
            raise DataError(f"expected finite {name}, got {value[row].tolist()} in row {row} of episode {episode}")


def _column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    return pa.array(values.reshape(-1), type=kind)


def _write_table(path: Path, table: pa.Table) -> None:
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="snappy", use_dictionary=False, write_page_checksum=True)


def finalize(
    root: Path, layout: Layout, records: Sequence[Record], *, tasks: Sequence[str], extra: Mapping[str, Any]
) -> None:
    """Describe the written episodes, `records` in episode order; `extra` goes to `meta/worldmodel.json`,
    the sha256 of every file to `meta/SHA256SUMS`.

    `meta/info.json` is written last: a folder with one is a complete data set.
    """
    features = layout.features()
    _write_table(root / EPISODES_PATH, episode_table(layout, records))
    write_json(root / "meta/stats.json", {f.name: aggregate([r.stats[f.name] for r in records]) for f in features})
    _write_table(root / "meta/tasks.parquet", task_table(tasks))
    files = [pair for record in records for pair in sorted(record.files.items())]
    sums = "".join(f"{value}  {path}\n" for path, value in files)  # what `sha256sum -c` reads
    with atomic_file(root / SUMS_PATH) as temporary:
        temporary.write_text(sums, encoding="utf-8")
    write_json(root / EXTRA_PATH, {**extra, "data_sha256": hashlib.sha256(sums.encode()).hexdigest()})
    info = {
        "codebase_version": VERSION,
        "robot_type": layout.robot_type,
        "total_episodes": len(records),
        "total_frames": sum(record.length for record in records),
        "total_tasks": len(tasks),
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": layout.fps,
        "splits": {"train": f"0:{len(records)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if layout.video else None,
        "features": {feature.name: feature.to_json() for feature in features},
    }
    write_json(root / "meta/info.json", info)
