"""A folder that is no data set, or one whose description is wrong, is one line that says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from spoil import CAMERA, DATA, GOLDEN, change_info, copy, refused


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return copy("lerobot_v3_image", tmp_path)


def test_not_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", f"got {tmp_path / 'nothing'}, which is not a folder", "check the path")


def test_not_a_data_set(tmp_path: Path) -> None:
    refused(tmp_path, "LeRobot v3.0 dataset", f"got {tmp_path} without meta/info.json", "check the path")


def test_an_unfinished_collection(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/collect.json").write_text("{}")
    refused(tmp_path, "without meta/info.json", "run the same collect command again")


@pytest.mark.parametrize("text", ["{", "", "\0\xff", "[1]"])
def test_info_that_is_no_json_object(pictures: Path, text: str) -> None:
    (pictures / "meta/info.json").write_text(text, encoding="latin1")
    refused(pictures, "expected", "JSON", str(pictures / "meta/info.json"))


FEATURES = json.loads((GOLDEN / "lerobot_v3_image/meta/info.json").read_text())["features"]


def feature(name: str, **fields: Any) -> dict[str, Any]:
    return {"features": FEATURES | {name: FEATURES[name] | fields}}


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"codebase_version": "v2.1"}, ["codebase_version 'v3.0', got 'v2.1'", "convert it"]),
        ({"codebase_version": None}, ["got None"]),
        ({"fps": 0}, ["a whole number >= 1 as 'fps', got 0"]),
        ({"fps": "5"}, ["'fps', got '5'"]),
        ({"fps": 7.5}, ["'fps', got 7.5"]),
        ({"fps": float("inf")}, ["'fps', got inf"]),
        ({"total_episodes": True}, ["'total_episodes', got True"]),
        ({"total_frames": -1}, ["'total_frames', got -1"]),
        ({"total_frames": 10**12}, ["sum to total_frames 1000000000000, got 34"]),
        ({"total_episodes": 4}, ["episodes 0 to 3 once each, got 3 rows"]),
        ({"data_path": None}, ["a path template as 'data_path', got None"]),
        ({"features": {}}, ["'features' by name"]),
        ({"features": {"action": FEATURES["action"]}}, ["a feature 'observation.state', got action"]),
        ({"features": FEATURES | {"action": 3}}, ["dtype and shape for feature 'action', got 3"]),
        (feature("action", shape=[-3]), ["a list of sizes as shape of feature 'action', got [-3]"]),
        (feature("action", shape="3"), ["shape of feature 'action', got '3'"]),
        (feature("action", dtype="int64"), ["feature 'action' as float32 of shape [n], got int64 [3]"]),
        (feature("action", shape=[3, 1]), ["got float32 [3, 1]"]),
        (feature(CAMERA, shape=[64, 64]), ["shape [height, width, 3] for camera 'observation.images.front'"]),
        (feature(CAMERA, shape=[64, 64, 1]), ["3 channels in camera 'observation.images.front'", "got 1"]),
        (feature(CAMERA, dtype="video"), ["'videos/observation.images.front/chunk_index'"]),
        (feature("action", shape=[4]), ["4 numbers, got 3 in row 0 of 'action' of episode 0", DATA]),
        (feature(CAMERA, shape=[32, 64, 3]), ["32 x 64 RGB, got 64 x 64 RGB in row 0 of episode 0", DATA]),
        ({"fps": 50}, ["timestamp 0.0200 s at 50 fps in row 1 of episode 0", "got 0.2000 s"]),
    ],
)
def test_info_that_is_wrong(pictures: Path, fields: dict[str, Any], parts: list[str]) -> None:
    change_info(pictures, **fields)
    refused(pictures, str(pictures), *parts)


@pytest.mark.parametrize(
    "template",
    [
        "/etc/passwd",
        "../secret/file-{file_index:03d}.parquet",
        "data/../../secret.parquet",
        "data/{chunk_index.__class__}/x.parquet",
        "data/{chunk_index!r}/x.parquet",
        "data/{chunk_index:0999999999d}/x.parquet",
        "data/{password}/x.parquet",
        "data/{0}/x.parquet",
        "data/{chunk_index",
        "data\\..\\x.parquet",
        "data/\0.parquet",
    ],
)
def test_paths_stay_inside_the_data_set(pictures: Path, template: str) -> None:
    (pictures.parent / "secret").mkdir()
    shutil.copy(pictures / DATA, pictures.parent / "secret/file-000.parquet")
    change_info(pictures, data_path=template)
    refused(pictures, str(pictures), "path")
