"""Decoded frames are streamed to the disk in the size the encoder needs, and never all in memory."""

from __future__ import annotations

import io
import json
import math
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from spoil import CAMERA, DATA, VIDEO, change_column, change_info, copy, put, write_lengths

from worldmodel.data.cache import load_features
from worldmodel.data.images import png_bytes
from worldmodel.data.load import load_table
from worldmodel.data.reader import Part, open_dataset
from worldmodel.data.table import Table
from worldmodel.encoders import normalise_pixels
from worldmodel.errors import DataError, OutputError

GREY = 1 / (255 * 0.224)  # a level after normalising, the least of the three channels


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("side", [None, 64, 80])
def test_pictures_that_are_no_larger_are_kept_to_the_byte(side: int | None, tmp_path: Path) -> None:
    root = copy("lerobot_v3_image", tmp_path)
    load_table([str(root)], side=side)
    (path,) = (tmp_path / ".cache").glob("frames-*.npy")
    dataset = open_dataset(root)
    assert path.read_bytes() == saved(np.concatenate([dataset.read_episode(i).frames for i in range(3)]))


def test_rows_of_a_bad_episode_leave_zeros(tmp_path: Path) -> None:
    root = write_lengths(tmp_path / "data", (6, 7, 6, 8))
    good = load_table([str(root)]).table.frames[:19].copy()
    shutil.rmtree(tmp_path / ".cache")
    (root / "meta/SHA256SUMS").unlink()
    black = {"bytes": png_bytes(np.zeros((16, 16, 3), np.uint8)), "path": "a.png"}
    change_column(root, CAMERA, put(7, black), DATA.replace("000.parquet", "003.parquet"))
    loaded = load_table([str(root)], skip_bad_episodes=True)
    assert loaded.skipped == (3,)
    np.testing.assert_array_equal(loaded.table.frames[:], good)
    (path,) = (tmp_path / ".cache").glob("frames-*.npy")
    assert path.read_bytes() == saved(np.concatenate([good, np.zeros((8, 16, 16, 3), np.uint8)]))


@pytest.mark.parametrize("video", [False, True])
def test_larger_pictures_are_kept_as_the_encoder_would_resize_them(video: bool, tmp_path: Path) -> None:
    root = write_lengths(tmp_path / "data", (4, 5, 4), (48, 64), video=video)
    frames = load_table([str(root)], side=32, frame_skip=2).table.frames
    assert frames.shape == (7, 32, 32, 3)
    dataset = open_dataset(root)
    whole = np.concatenate([dataset.read_episode(i).frames[::2] for i in range(3)])
    wanted, got = (normalise_pixels(torch.from_numpy(each), 32) for each in (whole, frames[:]))
    assert float((wanted - got).abs().max()) <= 0.51 * GREY
    assert float((wanted - got).abs().max()) > 0


@pytest.mark.parametrize("video", [False, True])
def test_a_long_episode_is_never_in_memory(video: bool, tmp_path: Path) -> None:
    root = write_lengths(tmp_path / "data", (240, 240), (64, 96), video=video)
    load_table([str(write_lengths(tmp_path / "small" / "data", (9, 9)))])  # what is imported on the way
    tracemalloc.start()
    try:
        table = load_table([str(root)]).table
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    episode = 240 * 64 * 96 * 3
    assert math.prod(table.frames.shape) == 2 * episode
    assert peak < episode / 4


def test_a_video_is_decoded_picture_by_picture(tmp_path: Path) -> None:
    root = copy("lerobot_v3_video", tmp_path)
    whole = (root / VIDEO).read_bytes()
    (root / VIDEO).write_bytes(whole[: int(0.9 * len(whole))])
    part = Part(root)
    pictures = part.pictures(2, part.times(2, part.table(2)))
    assert next(pictures).shape == (96, 96, 3)  # before it is known how the video ends
    with pytest.raises(DataError, match="for episode 2"):
        list(pictures)


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_decoded(tmp_path: Path) -> None:
    root = copy("lerobot_v3_image", tmp_path)
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["observation.images.front"]["shape"] = [10**6, 10**6, 3]
    change_info(root, features=features)
    with pytest.raises(OutputError) as caught:
        load_table([str(root)])
    message = str(caught.value)
    assert message.startswith("expected 102000.0 GB of disk for 34 decoded pictures of 1000000 x 1000000, got ")
    assert f"GB free in {tmp_path / '.cache'}: free some, or copy the data to a larger disk" in message
    assert [path.name for path in (tmp_path / ".cache").iterdir()] == ["digests.json"]


class Wide:
    """An encoder whose features fill any disk."""

    tokens, width, image_size = 10**6, 10**7, 16

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        raise AssertionError("encoded before there was space for it")


def test_features_without_space_are_not_begun(tmp_path: Path) -> None:
    empty = np.zeros((4, 1), np.float32)
    table = Table(np.zeros((4, 16, 16, 3), np.uint8), empty, empty, empty, np.zeros(4, np.int64))
    with pytest.raises(OutputError, match=r"expected 80000\.0 GB of disk for the features of 4 pictures, got "):
        load_features(Wide(), table.frames, "a" * 32, tmp_path, lambda x: x, torch.device("cpu"))
    assert list(tmp_path.iterdir()) == []
