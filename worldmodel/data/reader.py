"""Reads any LeRobotDataset v3.0: episodes across files, pictures or videos, any dimensions, several data sets as one.

Everything read is checked; a defect is a DataError naming file, episode, row, what was expected and what came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from worldmodel.data.images import decode_image, read_video
from worldmodel.data.schema import (
    ACTION,
    COPY_FILE,
    INDEX_COLUMNS,
    PRIVILEGED,
    STATE,
    UNREADABLE,
    DatasetInfo,
    EpisodeRow,
    Feature,
    damaged,
    read_episode_rows,
    read_info,
)
from worldmodel.errors import DataError


@dataclass(frozen=True)
class Episode:
    """L rows; `actions[t]` leaves frame t, the last one has no successor frame.

    frames: uint8 [L,h,w,3]; actions: float32 [L,A]; proprio: float32 [L,P];
    privileged: float32 [L,Q], the simulator's truth for probes, where the data has it.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    proprio: NDArray[np.float32]
    privileged: NDArray[np.float32] | None
    task: str


class Part:
    """One data set on disk, seen through one of its cameras."""

    def __init__(self, path: str | Path, camera: str | None = None) -> None:
        self.info: DatasetInfo = read_info(Path(path))
        self.camera: Feature = choose_camera(self.info, camera)
        self.rows: tuple[EpisodeRow, ...] = read_episode_rows(self.info)
        # An episode's first row within its file, and how many rows each file must have.
        self._rows_in: dict[tuple[int, int], int] = {}
        self._offsets: list[int] = [0] * len(self.rows)
        self._kept: dict[tuple[str, ...], tuple[tuple[Path, int, int], pa.Table]] = {}
        for row in sorted(self.rows, key=lambda row: row.start):
            key = (row.chunk, row.file)
            self._offsets[row.index] = self._rows_in.get(key, 0)
            self._rows_in[key] = self._offsets[row.index] + row.stop - row.start

    @property
    def dims(self) -> dict[str, Any]:
        """What must be equal among data sets that are used as one."""
        features = self.info.features
        return {
            "action dimension": features[ACTION].shape[0],
            "proprioception dimension": features[STATE].shape[0],
            "fps": self.info.fps,
            "picture size": self.camera.image_shape,
        }

    def require_colours(self) -> None:
        """Raise DataError where the camera's pictures cannot be read as RGB, those of a depth camera for one."""
        if self.camera.channels != 3:
            got = f"{self.camera.channels}: choose another with camera="
            raise DataError(f"expected 3 channels in camera {self.camera.name!r} of {self.info.root}, got {got}")

    @property
    def vectors(self) -> tuple[str, ...]:
        """The columns of vectors that are there."""
        return tuple(name for name in (STATE, ACTION, PRIVILEGED) if name in self.info.features)

    def files(self) -> tuple[Path, ...]:
        """Every file that `read` draws on, sorted."""
        return tuple(sorted({path for index in range(len(self.rows)) for path in self.files_of(index)}))

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files that hold episode `index`: its rows, and its video where it has one."""
        row = self.rows[index]
        files = [self.info.data_file(row.chunk, row.file)]
        if self.camera.dtype == "video":
            span = row.videos[self.camera.name]
            files.append(self.info.video_file(self.camera.name, span.chunk, span.file))
        return tuple(files)

    def read(self, index: int) -> Episode:
        """Episode `index` of this data set. Raises DataError."""
        table = self.table(index)
        times = self.times(index, table)
        vectors = {name: self.vector(index, table, name) for name in self.vectors}
        frames = self.frames(index, times)
        return Episode(frames, vectors[ACTION], vectors[STATE], vectors.get(PRIVILEGED), self.task(index))

    def task(self, index: int) -> str:
        """What episode `index` is about, in words."""
        return " / ".join(self.rows[index].tasks)

    def table(self, index: int) -> pa.Table:
        """The rows of episode `index` without pictures. Raises DataError, as all below do for what they look at."""
        row = self.rows[index]
        if row.length < 1 or row.stop - row.start != row.length:
            got = f"{row.length} with rows {row.start} to {row.stop}"
            where = f"episode {index} in {self.info.root / 'meta/episodes'}"
            raise DataError(f"expected a length >= 1 that equals its rows, got {got} for {where}: mend that row")
        return self._table(row, (*self.vectors, *(name for name in INDEX_COLUMNS if name != "task_index")))

    def vector(self, index: int, table: pa.Table, name: str) -> NDArray[np.float32]:
        """One of `vectors` in the rows of episode `index`: float32 [L,n]."""
        return _vectors(table[name], self.info.features[name].shape[0], f"{name!r} of {self._where(index)}")

    def _where(self, index: int) -> str:
        return f"episode {index} in {self.info.data_file(self.rows[index].chunk, self.rows[index].file)}"

    def _table(self, row: EpisodeRow, columns: tuple[str, ...]) -> pa.Table:
        """The episode's rows: only the row groups that hold them, only these columns."""
        path = self.info.data_file(row.chunk, row.file)
        if not path.is_file():
            raise DataError(f"expected the file {path} that meta/episodes names, which does not exist: {COPY_FILE}")
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                return self._rows(file, path, row, columns)
        except UNREADABLE as error:
            raise damaged(path, error) from error

    def _rows(self, file: pq.ParquetFile, path: Path, row: EpisodeRow, columns: tuple[str, ...]) -> pa.Table:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            got = ", ".join(file.schema_arrow.names)
            raise DataError(f"expected the column {missing[0]!r} in {path}, got {got}: write the file with it")
        if PRIVILEGED in file.schema_arrow.names and PRIVILEGED not in self.info.features:
            info, got = self.info.root / "meta/info.json", f"it as a column of {path} only: mend that name"
            raise DataError(f"expected {PRIVILEGED!r} among the features in {info}, got {got}")
        metadata, expected = file.metadata, self._rows_in[row.chunk, row.file]
        if metadata.num_rows != expected:
            got = f"{metadata.num_rows} rows in {path}: {COPY_FILE}"
            raise DataError(f"expected {expected} rows as meta/episodes says (episode {row.index}), got {got}")
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        ends, offset = np.cumsum(sizes), self._offsets[row.index]
        first = int(np.searchsorted(ends, offset, side="right"))
        last = int(np.searchsorted(ends, offset + row.length, side="left"))
        # The last row groups stay in memory: the next episode is often in the same.
        key = (path, first, last)
        if columns not in self._kept or self._kept[columns][0] != key:
            self._kept[columns] = key, file.read_row_groups(list(range(first, last + 1)), columns=list(columns))
        return self._kept[columns][1].slice(offset - int(ends[first]) + sizes[first], row.length)

    def times(self, index: int, table: pa.Table) -> NDArray[np.float64]:
        """The rows are those of episode `index`, in order and at the stated rate; their times [L] [s]."""
        row, where = self.rows[index], self._where(index)
        rows = np.arange(row.length)
        wanted = {"episode_index": np.full(row.length, row.index), "frame_index": rows, "index": row.start + rows}
        for name, expected in wanted.items():
            got = _scalars(table[name], f"{name!r} of {where}")
            wrong = np.flatnonzero(got != expected)
            if len(wrong):
                at = int(wrong[0])
                mend = "write the rows in order"
                raise DataError(f"expected {name} {expected[at]} in row {at} of {where}, got {got[at]}: {mend}")
        times = _scalars(table["timestamp"], f"'timestamp' of {where}").astype(np.float64)
        late = np.flatnonzero(~(np.abs(times - rows / self.info.fps) < 0.5 / self.info.fps))
        if len(late):
            at = int(late[0])
            expected_time = f"{at / self.info.fps:.4f} s at {self.info.fps} fps"
            got_time = f"{times[at]:.4f} s: mend it, or fps in meta/info.json"
            raise DataError(f"expected timestamp {expected_time} in row {at} of {where}, got {got_time}")
        return times

    def frames(self, index: int, times: NDArray[np.float64]) -> NDArray[np.uint8]:
        """All pictures of episode `index` at its rows' times [L] [s]: uint8 [L,h,w,3]."""
        return np.stack(list(self.pictures(index, times)))

    def pictures(self, index: int, times: NDArray[np.float64]) -> Iterator[NDArray[np.uint8]]:
        """The pictures of episode `index` one by one, uint8 [h,w,3], so that a long episode need not fit in memory."""
        shape, row, where = self.camera.image_shape, self.rows[index], self._where(index)
        if self.camera.dtype == "video":
            span = row.videos[self.camera.name]
            path = self.info.video_file(self.camera.name, span.chunk, span.file)
            yield from read_video(path, span.start + times, self.info.fps, shape, f"episode {row.index}")
            return
        column = self._table(row, (self.camera.name,))[self.camera.name].combine_chunks()
        if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
            got = f"{column.type} in {where}: write it as lerobot does"
            raise DataError(f"expected {self.camera.name!r} as struct<bytes, path>, got {got}")
        for at, data in enumerate(pa.compute.struct_field(column, "bytes")):
            place = f"row {at} of {where}"
            if not data.is_valid:
                raise DataError(f"expected picture bytes in {self.camera.name!r}, got none in {place}: {COPY_FILE}")
            yield decode_image(data.as_py(), shape, place)


class Dataset:
    """One or several data sets read as one; episodes are numbered through in the order given."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        first = self.parts[0]
        for part in self.parts[1:]:
            for name, expected in first.dims.items():
                if part.dims[name] != expected:
                    got = f"{part.dims[name]} in {part.info.root}"
                    raise DataError(f"expected {name} {expected} as in {first.info.root}, got {got}: use them apart")
        self.places = tuple((part, index) for part in self.parts for index in range(len(part.rows)))
        self.episodes: int = len(self.places)
        self.lengths: tuple[int, ...] = tuple(part.rows[index].length for part, index in self.places)
        self.fps: int = first.info.fps
        self.action_dim: int = first.dims["action dimension"]
        self.proprio_dim: int = first.dims["proprioception dimension"]
        truth = first.info.features.get(PRIVILEGED)
        self.privileged_dim: int | None = None if truth is None else truth.shape[0]
        self.image_shape: tuple[int, int] = first.camera.image_shape

    def read_episode(self, index: int) -> Episode:
        """Episode `index`, 0 <= index < episodes. Raises DataError for any defect."""
        part, local = self.places[index]
        return part.read(local)

    def files(self) -> tuple[Path, ...]:
        """Every file that holds rows or frames, data set by data set, sorted within each."""
        return tuple(path for part in self.parts for path in part.files())


def open_dataset(path: str | Path, camera: str | None = None) -> Dataset:
    """The LeRobot v3.0 data set in `path`, through `camera` (needed only when it has several). Raises DataError."""
    return open_datasets(path, camera)


def open_datasets(paths: str | Path | Sequence[str | Path], camera: str | None = None) -> Dataset:
    """One path, or several whose dimensions, rate and picture size agree, as one data set. Raises DataError."""
    several = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not several:
        raise DataError("expected at least one dataset folder, got none: set data=")
    parts = [Part(path, camera) for path in several]
    for part in parts:
        part.require_colours()
    return Dataset(parts)


def choose_camera(info: DatasetInfo, camera: str | None) -> Feature:
    """The camera of that name, or the only one. Raises DataError, naming those that are there."""
    cameras = info.cameras
    names = ", ".join(cameras) or "none"
    if camera is None and len(cameras) != 1:
        raise DataError(f"expected one camera, got {names} in {info.root}: choose one with camera=")
    by_full_name = {feature.name: feature for feature in cameras.values()}
    chosen = next(iter(cameras.values())) if camera is None else (cameras | by_full_name).get(camera)
    if chosen is None:
        raise DataError(f"expected a camera among {names}, got {camera!r} for {info.root}: choose one of these")
    return chosen


def _scalars(column: pa.ChunkedArray, what: str) -> NDArray[Any]:
    if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        got = f"{column.type} with {column.null_count} gaps as {what}"
        raise DataError(f"expected numbers without gaps, got {got}: fill them")
    values: NDArray[Any] = column.to_numpy()
    return values


def _vectors(column: pa.ChunkedArray, size: int, what: str) -> NDArray[np.float32]:
    """A column of vectors, or of single numbers when size is 1, as finite float32 [L,size]."""
    array = column.combine_chunks()
    kind = array.type
    flat = array
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pa.compute.list_value_length(array).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != size)
        if len(wrong):
            got = lengths[wrong[0]]
            mend = "mend the row, or the shape in meta/info.json"
            raise DataError(f"expected {size} numbers, got {got} in row {wrong[0]} of {what}: {mend}")
        flat = array.flatten()
    if not pa.types.is_floating(flat.type) or len(flat) != len(array) * size:
        raise DataError(f"expected {size} float32 in each row, got {kind} as {what}: convert the column")
    values = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(array), size)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, at = bad[0]
        got = f"{values[row, at]} at index {at} in row {row} of {what}"
        raise DataError(f"expected finite numbers, got {got}: mend the row")
    return values
