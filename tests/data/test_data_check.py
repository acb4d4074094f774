"""`check` reads everything and names every defect: file, episode, row, what was expected and what came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pyarrow.parquet as pq
import pytest
from spoil import CAMERA, DATA, EPISODES, VIDEO, change_column, change_info, copy, put, write_noise

from worldmodel.cli import main
from worldmodel.data.check import check, lines
from worldmodel.errors import ConfigError, DataError

LENGTH, SIDE = 12, 16


def messages(*data: Path) -> list[str]:
    """All defects of one data set."""
    report = check(data=[str(path) for path in data])
    assert report["clean"] is (report["defects"] == [] and all(one["defects"] == [] for one in report["datasets"]))
    return [entry["message"] for entry in report["datasets"][0]["defects"]]


def write(root: Path, frames: np.ndarray, still: bool = False, video: bool = False) -> Path:
    """Three good episodes of noise, and one in the middle with the given frames."""
    return write_noise(root, LENGTH, SIDE, video=video, frames={2: frames}, still=(2,) if still else ())


def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (LENGTH, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "fps", "frames"), [("lerobot_v3_image", 5, 34), ("lerobot_v3_video", 10, 36)])
def test_what_lerobot_wrote_is_clean(
    tmp_path: Path, name: str, fps: int, frames: int, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy(name, tmp_path)
    assert main(["check", f"data={root}", "json=true"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (report["schema"]["fps"], report["counts"]["frames"], report["bad_episodes"]) == (fps, frames, [])
    stats = json.loads((root / "meta/stats.json").read_text())
    for vector, feature in (("action", "action"), ("proprio", "observation.state")):
        for key in ("min", "max", "mean", "std"):
            got = [row[key] for row in report[vector].values()]
            np.testing.assert_allclose(got, stats[feature][key], rtol=1e-4, atol=1e-6)
    seen = report["frames"][CAMERA]
    assert seen["usable"] == frames
    assert seen["brightness"] == pytest.approx(
        255 * np.mean(stats[CAMERA]["mean"]), abs=2
    )  # theirs are from before the codec
    assert main(["check", f"data={root}"]) == 0
    assert capsys.readouterr().out.endswith("\nno defects\n")


def test_every_camera_is_looked_at_unless_one_is_named(tmp_path: Path) -> None:
    root = foreign.make_two_cameras(tmp_path / "data")
    cameras = ["observation.images.wrist", "observation.images.front"]
    (report,) = check(data=[str(root)])["datasets"]
    assert {name: seen["usable"] for name, seen in report["frames"].items()} == dict.fromkeys(cameras, 52)
    assert list(report["action"]) == [f"m{i}" for i in range(7)]
    (root / foreign_video("front")).write_bytes(b"")
    (defect,) = check(data=[str(root)])["datasets"][0]["defects"]
    assert (defect["episodes"], str(root / foreign_video("front")) in defect["message"]) == ([0], True)
    assert check(data=[str(root)], camera="wrist")["clean"] is True


def foreign_video(camera: str) -> str:
    return f"videos/observation.images.{camera}/chunk-000/file-000.mp4"


def test_all_defects_are_named_not_just_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy("lerobot_v3_image", tmp_path)
    change_column(root, "action", put(3, [0.0, float("nan"), 0.0]))
    change_column(root, "observation.state", put(5, [float("inf"), 0.0, 0.0]))
    change_column(root, "timestamp", put(14 + 6, 9.0))
    change_column(root, CAMERA, put(24 + 4, {"bytes": b"x", "path": "a.png"}))
    assert main(["check", f"data={root}"]) == 1
    printed = capsys.readouterr().out
    for part in (
        f"expected finite numbers, got nan at index 1 in row 3 of 'action' of episode 0 in {root / DATA}",
        f"expected finite numbers, got inf at index 0 in row 5 of 'observation.state' of episode 0 in {root / DATA}",
        f"expected timestamp 1.2000 s at 5 fps in row 6 of episode 1 in {root / DATA}, got 9.0000 s",
        "expected a PNG or JPEG picture, got cannot identify image file",
        f"in row 4 of episode 2 in {root / DATA}",
        "defects: 4, bad episodes: 3",
    ):
        assert part in printed


def test_a_camera_without_colours_hides_nothing_else(tmp_path: Path) -> None:
    root = foreign.make_two_cameras(tmp_path / "data")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["observation.images.wrist"]["shape"] = [1, 48, 64]
    change_info(root, features=features)
    change_column(root, "action", put(1, [float("nan")] * 7))
    (report,) = check(data=[str(root)])["datasets"]
    nan, depth = sorted(report["defects"], key=lambda defect: len(defect["episodes"]), reverse=True)
    assert (nan["episodes"], depth["episodes"], report["bad_episodes"]) == ([0], [], [0])
    assert "got nan at index 0 in row 1 of 'action' of episode 0" in nan["message"]
    assert "expected 3 channels in camera 'observation.images.wrist' of" in depth["message"]
    assert {name: seen["usable"] for name, seen in report["frames"].items()} == {"observation.images.front": 45}


def test_a_damaged_file_is_one_defect_of_all_its_episodes(tmp_path: Path) -> None:
    root = copy("lerobot_v3_image", tmp_path)
    whole = (root / DATA).read_bytes()
    (root / DATA).write_bytes(whole[: len(whole) // 2])
    (report,) = check(data=[str(root)])["datasets"]
    (defect,) = report["defects"]
    assert defect["episodes"] == report["bad_episodes"] == [0, 1, 2]
    assert f"got {root / DATA} damaged or cut short" in defect["message"]
    assert any(
        line.endswith("(episodes 0, 1, 2)") for line in lines({"clean": False, "datasets": [report], "defects": []})
    )


@pytest.mark.parametrize(("length", "stop"), [(0, 14), (11, 24)])
def test_an_empty_episode_and_one_of_another_length(tmp_path: Path, length: int, stop: int) -> None:
    root = copy("lerobot_v3_image", tmp_path)
    change_column(root, "length", put(1, length), EPISODES)
    change_column(root, "dataset_to_index", put(1, stop), EPISODES)
    if stop == 14:
        for column in ("dataset_from_index", "dataset_to_index"):
            change_column(root, column, lambda values: [*values[:2], values[2] - 10], EPISODES)
        change_column(root, "dataset_from_index", put(1, 14), EPISODES)
        change_column(root, "dataset_to_index", put(1, 14), EPISODES)
        change_info(root, total_frames=24)
        table = pq.read_table(root / DATA)
        pq.write_table(table.take([*range(14), *range(24, 34)]), root / DATA)
        change_column(root, "index", lambda values: list(range(24)))
    (message,) = messages(root)
    assert f"got {length} with rows 14 to {stop} for episode 1" in message


@pytest.mark.parametrize("file", ["data/chunk-000/file-001.parquet", VIDEO.replace("000.mp4", "001.mp4")])
def test_a_flipped_bit_in_what_we_wrote_is_always_found(tmp_path: Path, file: str) -> None:
    root = write(tmp_path / "data", noise(), video=True)
    assert messages(root) == []
    whole, rng = (root / file).read_bytes(), np.random.default_rng(0)
    for _ in range(10):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        (root / file).write_bytes(damaged)
        assert f"for {root / file}, got" in messages(root)[0]
        assert "expected sha256" in messages(root)[0]


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("level", [0, 255])
def test_pictures_of_one_colour(tmp_path: Path, video: bool, level: int) -> None:
    frames = noise()
    frames[3:5] = level
    (message,) = messages(write(tmp_path / "data", frames, video=video))
    assert "2 of 12 of one colour" in message
    assert f"(grey level {level})" in message
    assert "the first in row 3 of episode 2 from camera 'observation.images.front' in " in message


@pytest.mark.parametrize("video", [False, True])
def test_a_picture_that_stands_still_while_the_robot_moves(tmp_path: Path, video: bool) -> None:
    frames = noise()
    frames[4:] = frames[4]
    (message,) = messages(write(tmp_path / "data", frames, video=video))
    assert "the same picture in rows 4 to 11, in which the robot moved of episode 2" in message
    assert messages(write(tmp_path / "still", frames, still=True, video=video)) == []


def test_data_sets_that_differ(tmp_path: Path) -> None:
    paths = [str(copy(name, tmp_path / name)) for name in ("lerobot_v3_image", "lerobot_v3_video")]
    report = check(data=paths)
    assert not report["clean"]
    assert [one["defects"] for one in report["datasets"]] == [[], []]
    assert f"expected action dimension 3 as in {paths[0]}, got 4 in {paths[1]}" in report["defects"][0]["message"]


def test_descriptions_that_are_damaged_are_defects(tmp_path: Path) -> None:
    root = copy("lerobot_v3_image", tmp_path)
    (root / "meta/info.json").write_text("{")
    (message,) = messages(root)
    assert f"expected JSON in {root / 'meta/info.json'}" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data={0}/nothing"], "which is not a folder"),
        (["data={0}"], "without meta/info.json"),
        (["data={0}/logs", "camera=top"], "expected a camera among front, got 'top'"),
    ],
)
def test_a_bad_command_line_is_no_defect(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy("lerobot_v3_image", tmp_path)
    assert main(["check", *(word.format(tmp_path) for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_no_folder_at_all() -> None:
    empty: list[Any] = []
    with pytest.raises(ConfigError, match="expected at least one dataset folder"):
        check(data=empty)
    with pytest.raises(DataError, match="not a folder"):
        check(data=["/nowhere"])
