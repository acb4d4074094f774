"""Makes LeRobot v3.0 data sets that the project's own writer would never write, with pyarrow and PyAV alone.

Every frame carries its number: the mean grey level of picture r of episode e is `level(e, r)`, and vectors are
functions of (e, r) too, so that a reader's answer can be computed.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LENGTHS = (7, 14, 10, 9, 12)
FPS = 30
SIZES = {"wrist": (48, 64), "front": (32, 32)}
# Which data file, and for each camera which video file, an episode lies in: they roll over at different places.
DATA_FILE = (0, 0, 0, 1, 1)
VIDEO_FILE = {"wrist": (0, 0, 1, 1, 1), "front": (0, 1, 1, 1, 2)}


def level(episode: int, row: int) -> int:
    return 20 + 40 * episode + 3 * row


def vectors(episode: int, width: int) -> np.ndarray:
    rows = np.arange(LENGTHS[episode])[:, None]
    return (episode + rows / 100 + np.arange(width) / 10).astype(np.float32)


def make_two_cameras(root: Path) -> Path:
    """Two cameras, 7-D actions, 5-D state, 30 fps, mp4, several episodes per file and several files of each kind."""
    features: dict[str, Any] = {
        "observation.images.wrist": camera_entry("wrist"),
        "action": {"dtype": "float32", "shape": [7], "names": {"motors": [f"m{i}" for i in range(7)]}},
        "observation.state": {"dtype": "float32", "shape": [5], "names": None},
        "observation.images.front": camera_entry("front"),
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
    }
    for file in range(2):
        write_rows(root / f"data/chunk-000/file-{file:03d}.parquet", [e for e in range(5) if DATA_FILE[e] == file])
    starts: dict[str, list[float]] = {}
    for camera in SIZES:
        starts[camera] = []
        for file in range(max(VIDEO_FILE[camera]) + 1):
            inside = [e for e in range(5) if VIDEO_FILE[camera][e] == file]
            starts[camera] += write_movie(root, camera, file, inside)
    write_meta(root, features, starts)
    return root


def camera_entry(camera: str) -> dict[str, Any]:
    height, width = SIZES[camera]
    return {"dtype": "video", "shape": [3, height, width], "names": ["channels", "height", "width"], "info": {}}


def write_rows(path: Path, episodes: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(e, r) for e in episodes for r in range(LENGTHS[e])]
    start = sum(LENGTHS[: episodes[0]])
    table = pa.table(
        {
            "action": pa.array(np.concatenate([vectors(e, 7) for e in episodes]).tolist(), pa.list_(pa.float32(), 7)),
            "next.done": [r + 1 == LENGTHS[e] for e, r in rows],
            "observation.state": pa.array(
                np.concatenate([-vectors(e, 5) for e in episodes]).tolist(), pa.list_(pa.float32())
            ),
            "timestamp": pa.array([r / FPS for _, r in rows], pa.float32()),
            "frame_index": [r for _, r in rows],
            "episode_index": [e for e, _ in rows],
            "index": list(range(start, start + len(rows))),
            "task_index": [0] * len(rows),
        }
    )
    pq.write_table(table, path, row_group_size=8)  # row groups do not end where episodes do


def write_movie(root: Path, camera: str, file: int, episodes: list[int]) -> list[float]:
    """One mp4 of several episodes, one after another; returns where each starts [s]."""
    path = root / f"videos/observation.images.{camera}/chunk-000/file-{file:03d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = SIZES[camera]
    texture = np.where(np.arange(height)[:, None] // 8 % 2 == np.arange(width) // 8 % 2, -8, 8)
    starts, position = [], 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "5", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 6
        for episode in episodes:
            starts.append(position / FPS)
            for row in range(LENGTHS[episode]):
                picture = (level(episode, row) + texture[..., None].repeat(3, axis=2)).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = position, Fraction(1, FPS)
                container.mux(stream.encode(frame))
                position += 1
        container.mux(stream.encode(None))
    return starts


def write_meta(root: Path, features: dict[str, Any], starts: dict[str, list[float]]) -> None:
    ends = np.cumsum(LENGTHS)
    columns: dict[str, Any] = {
        "episode_index": list(range(5)),
        "tasks": [["sort"]] * 4 + [["sort", "stack"]],
        "length": list(LENGTHS),
        "data/chunk_index": [0] * 5,
        "data/file_index": list(DATA_FILE),
        "dataset_from_index": (ends - LENGTHS).tolist(),
        "dataset_to_index": ends.tolist(),
    }
    for camera, begin in starts.items():
        prefix = f"videos/observation.images.{camera}/"
        columns[prefix + "chunk_index"] = [0] * 5
        columns[prefix + "file_index"] = list(VIDEO_FILE[camera])
        columns[prefix + "from_timestamp"] = begin
        columns[prefix + "to_timestamp"] = [b + n / FPS for b, n in zip(begin, LENGTHS, strict=True)]
    table = pa.table(columns)
    for file, part in enumerate((table.slice(0, 2), table.slice(2))):  # the rows about episodes roll over as well
        path = root / f"meta/episodes/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, path)
    info = {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": 5,
        "total_frames": int(ends[-1]),
        "chunks_size": 1000,
        "fps": FPS,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
