"""Goal images of the user's own: any size and format in, one square out, one line for everything that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.goal_image import centre_square, load_goal_image
from worldmodel.errors import ImageError


@given(st.integers(1, 90), st.integers(1, 90))
def test_the_crop_is_the_largest_centred_square(width: int, height: int) -> None:
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    picture = Image.fromarray(np.stack([columns, rows, columns * 0], -1).astype(np.uint8))
    square = np.asarray(centre_square(picture)).astype(int)
    side = min(width, height)
    assert square.shape == (side, side, 3)
    left, right = square[0, 0, 0], width - 1 - square[0, -1, 0]
    top, bottom = square[0, 0, 1], height - 1 - square[-1, 0, 1]
    assert right - left in (0, 1)
    assert bottom - top in (0, 1)
    assert (square[0, :, 0] == left + np.arange(side)).all()
    assert (square[:, 0, 1] == top + np.arange(side)).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([16, 64]), st.tuples(*[st.integers(0, 255)] * 3))
def test_what_is_outside_the_square_leaves_no_trace(
    tmp_path: Path, width: int, height: int, side: int, colour: tuple[int, int, int]
) -> None:
    inner, edge = colour, tuple(255 - value for value in colour)
    picture = Image.new("RGB", (width, height), edge)
    crop = min(width, height)
    left, top = (width - crop) // 2, (height - crop) // 2
    picture.paste(inner, (left, top, left + crop, top + crop))
    picture.save(tmp_path / "goal.png")
    loaded = load_goal_image(tmp_path / "goal.png", side)
    assert loaded.pixels.shape == (side, side, 3)
    assert loaded.pixels.dtype == np.uint8
    assert (loaded.pixels == np.array(inner)).all()
    assert f"{width} x {height} px, centre-cropped to {crop} x {crop}, resized to {side} x {side}" in loaded.note


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "goal.png")
    assert np.array_equal(load_goal_image(tmp_path / "goal.png", 128).pixels, pixels)


def test_shrinking_averages(tmp_path: Path) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "goal.png")
    pixels = load_goal_image(tmp_path / "goal.png", 32).pixels.astype(int)
    assert abs(pixels - 127.5).max() < 8  # picking every eighth column would give 0 or 255


@pytest.mark.parametrize("name", ["goal.png", "goal.jpg", "goal.webp", "goal.bmp", "goal.tiff", "goal.gif"])
def test_common_formats(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (90, 60), (200, 40, 40)).save(tmp_path / name)
    pixels = load_goal_image(tmp_path / name, 64).pixels.astype(int)
    assert abs(pixels - np.array([200, 40, 40])).max() <= 6


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 90, (90, 90, 90)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("LA", (10, 0), (255, 255, 255)),
        ("I;16", 90 * 257, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_other_kinds_of_pixels(tmp_path: Path, mode: str, colour: object, expected: tuple[int, ...]) -> None:
    Image.new(mode, (40, 40), colour).save(tmp_path / "goal.png")  # type: ignore[arg-type]
    assert (load_goal_image(tmp_path / "goal.png", 20).pixels == np.array(expected)).all()


def test_the_camera_that_was_turned_is_turned_back(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste((255, 255, 255), (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise: the top goes to the right
    picture.save(tmp_path / "goal.png", exif=exif)
    pixels = load_goal_image(tmp_path / "goal.png", 64).pixels
    assert pixels[:, 40:].min() == 255
    assert pixels[:, :24].max() == 0


def bad_files(folder: Path) -> dict[str, str]:
    """File name to what the message must say."""
    Image.new("RGB", (64, 64), "red").save(folder / "whole.png")
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:-40])
    (folder / "folder.png").mkdir()
    Image.new("1", (10_001, 10_000)).save(folder / "large.png")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    Image.new("F", (8, 8)).save(folder / "float.tiff")
    return {
        "text.png": "in a format that cannot be read",
        "empty.png": "in a format that cannot be read",
        "cut.png": "expected an intact image",
        "folder.png": "which is not a file",
        "absent.png": "which is not a file",
        "large.png": "at most 100 million pixels",
        "bomb.png": "at most 100 million pixels",
        "float.tiff": "neither 8-bit nor 16-bit",
    }


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    for name, said in bad_files(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            load_goal_image(tmp_path / name, 64)
        assert said in str(caught.value)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
