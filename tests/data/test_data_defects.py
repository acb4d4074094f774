"""Every way a data file can be wrong is one line that names the place, what was expected and what came."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from spoil import CAMERA, DATA, EPISODES, VIDEO, change_column, change_info, copy, put, refused

from worldmodel.data.reader import open_dataset


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return copy("lerobot_v3_image", tmp_path)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return copy("lerobot_v3_video", tmp_path)


@pytest.mark.parametrize("file", [DATA, EPISODES])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_parquet_cut_short(pictures: Path, file: str, share: float) -> None:
    whole = (pictures / file).read_bytes()
    (pictures / file).write_bytes(whole[: int(share * len(whole))])
    refused(pictures, "a whole parquet file", str(pictures / file), "damaged or cut short")


@pytest.mark.parametrize("file", [DATA, EPISODES])
def test_a_missing_parquet(pictures: Path, file: str) -> None:
    (pictures / file).unlink()
    refused(pictures, str(pictures / file) if file == DATA else "file-*.parquet")


@pytest.mark.parametrize("name", ["action", "observation.state"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("row", "at", "place"), [(0, 0, "row 0"), (16, 2, "row 2"), (33, 1, "row 9")])
def test_numbers_that_are_none(pictures: Path, name: str, value: float, row: int, at: int, place: str) -> None:
    vector = [0.0, 0.0, 0.0]
    vector[at] = value
    change_column(pictures, name, put(row, vector))
    episode = 0 if row < 14 else 1 if row < 24 else 2
    refused(pictures, f"finite numbers, got {value} at index {at} in {place} of {name!r} of episode {episode}", DATA)


def wide(values: list[Any]) -> pa.Array:
    return pa.array([[*value, 0.0] for value in values], pa.list_(pa.float32(), 4))


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("action", wide, ["expected 3 numbers, got 4 in row 0 of 'action' of episode 0"]),
        ("action", lambda v: pa.array([[1, 2, 3]] * len(v), pa.list_(pa.int64(), 3)), ["3 float32 in each row, got"]),
        ("action", lambda v: pa.array([1.0] * len(v), pa.float32()), ["3 float32 in each row, got float"]),
        ("action", lambda v: pa.array(["x"] * len(v)), ["3 float32 in each row, got string"]),
        ("action", put(15, None), ["in row 1 of 'action' of episode 1"]),
        ("timestamp", put(20, 9.0), ["timestamp 1.2000 s at 5 fps in row 6 of episode 1", "got 9.0000 s"]),
        ("timestamp", put(20, float("nan")), ["row 6 of episode 1", "got nan"]),
        ("timestamp", put(20, None), ["numbers without gaps", "'timestamp' of episode 1"]),
        ("episode_index", put(23, 2), ["expected episode_index 1 in row 9 of episode 1", "got 2"]),
        ("frame_index", put(3, 4), ["expected frame_index 3 in row 3 of episode 0", "got 4"]),
        ("index", put(33, 34), ["expected index 33 in row 9 of episode 2", "got 34"]),
        ("index", lambda v: pa.array(["x"] * len(v)), ["numbers without gaps, got string"]),
        (CAMERA, put(1, {"bytes": None, "path": "a.png"}), ["picture bytes", "got none in row 1 of episode 0"]),
        (CAMERA, put(1, {"bytes": b"", "path": "a.png"}), ["a PNG or JPEG picture", "in row 1 of episode 0"]),
        (CAMERA, lambda v: pa.array(["x"] * len(v)), ["as struct<bytes, path>, got string in episode 0"]),
    ],
)
def test_a_column_that_is_wrong(
    pictures: Path, name: str, change: Callable[[list[Any]], Any], parts: list[str]
) -> None:
    change_column(pictures, name, change)
    refused(pictures, DATA, *parts)


def encoded(mode: str, size: tuple[int, int], form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (encoded("RGBA", (64, 64)), "64 x 64 RGB, got 64 x 64 RGBA"),
        (encoded("L", (64, 64)), "got 64 x 64 L"),
        (encoded("RGB", (64, 32)), "got 32 x 64 RGB"),
        (encoded("RGB", (8000, 8000)), "got 8000 x 8000 RGB"),
        (encoded("RGB", (64, 64), "GIF"), "a PNG or JPEG picture"),
        (encoded("RGB", (64, 64))[:-40], "a PNG or JPEG picture"),
        (b"not a picture", "a PNG or JPEG picture"),
    ],
)
def test_a_picture_that_is_wrong(pictures: Path, data: bytes, got: str) -> None:
    change_column(pictures, CAMERA, put(24 + 4, {"bytes": data, "path": "a.png"}))
    refused(pictures, got, "in row 4 of episode 2", DATA)


def test_a_jpeg_is_a_picture_too(pictures: Path) -> None:
    change_column(pictures, CAMERA, put(0, {"bytes": encoded("RGB", (64, 64), "JPEG"), "path": "a.jpg"}))
    assert open_dataset(pictures).read_episode(0).frames[0].max() == 0


@pytest.mark.parametrize("name", ["action", "timestamp", "episode_index", CAMERA])
def test_a_missing_column(pictures: Path, name: str) -> None:
    pq.write_table(pq.read_table(pictures / DATA).drop_columns([name]), pictures / DATA)
    refused(pictures, f"the column {name!r} in {pictures / DATA}", "got ")


def test_more_or_fewer_rows_than_described(pictures: Path) -> None:
    pq.write_table(pq.read_table(pictures / DATA).slice(0, 33), pictures / DATA)
    refused(pictures, "expected 34 rows as meta/episodes says (episode 0), got 33 rows in", DATA)


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("length", put(1, 11), ["equals its rows, got 11 with rows 14 to 24 for episode 1"]),
        ("length", put(1, 0), ["a length >= 1"]),
        ("episode_index", put(1, 2), ["episodes 0 to 2 once each"]),
        ("dataset_from_index", put(2, None), ["numbers without gaps as 'dataset_from_index'", "with 1 gaps"]),
        ("length", lambda v: pa.array([str(x) for x in v]), ["'length'", "got string"]),
        ("data/file_index", put(2, 7), ["expected 24 rows as meta/episodes says (episode 0), got 34 rows"]),
    ],
)
def test_descriptions_that_are_wrong(
    pictures: Path, name: str, change: Callable[[list[Any]], Any], parts: list[str]
) -> None:
    change_column(pictures, name, change, EPISODES)
    refused(pictures, str(pictures), *parts)


def test_a_description_without_a_column(pictures: Path) -> None:
    pq.write_table(pq.read_table(pictures / EPISODES).drop_columns(["length"]), pictures / EPISODES)
    refused(pictures, "the column 'length'", EPISODES)


def test_a_missing_video(videos: Path) -> None:
    (videos / VIDEO).unlink()
    refused(videos, f"the video {videos / VIDEO} for episode 0, which does not exist")


@pytest.mark.parametrize(("share", "episode"), [(0.0, 0), (0.3, 0), (0.9, 2)])
def test_a_video_cut_short(videos: Path, share: float, episode: int) -> None:
    whole = (videos / VIDEO).read_bytes()
    (videos / VIDEO).write_bytes(whole[: int(share * len(whole))])
    refused(videos, str(videos / VIDEO), f"for episode {episode}")


def test_a_video_of_another_size(videos: Path) -> None:
    info = json.loads((videos / "meta/info.json").read_text())
    info["features"][CAMERA]["shape"] = [48, 96, 3]
    change_info(videos, features=info["features"])
    refused(videos, "a video of 48 x 96, got 96 x 96 for episode 0")


@pytest.mark.parametrize("shift", [0.06, 3.0, -9.0, float("nan"), 1e300])
def test_a_video_of_another_episode(videos: Path, shift: float) -> None:
    """Shifted by more than half a frame, the last frame of the last episode has no picture."""
    change_column(videos, f"videos/{CAMERA}/from_timestamp", lambda v: [*v[:2], v[2] + shift], EPISODES)
    refused(videos, "of episode 2 in" if np.isfinite(shift) and shift < 1e6 else "episode 2", str(videos / VIDEO))


def test_a_video_without_a_template(videos: Path) -> None:
    change_info(videos, video_path=None)
    refused(videos, f"a video_path in {videos / 'meta/info.json'}", "got null")


def test_truth_that_the_description_has_lost(videos: Path) -> None:
    """One flipped bit in its name, and the optional column would be left out without a word."""
    table = pq.read_table(videos / DATA)
    truth = pa.array([[0.0]] * len(table), type=pa.list_(pa.float32(), 1))
    pq.write_table(table.append_column("privileged.state", truth), videos / DATA)
    refused(videos, f"'privileged.state' among the features in {videos / 'meta/info.json'}", str(videos / DATA))
