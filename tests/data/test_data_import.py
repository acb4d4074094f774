"""HDF5 logs in the layouts of robomimic, Minari and stable-worldmodel become a LeRobotDataset, row for row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from worldmodel.cli import main
from worldmodel.data.check import check
from worldmodel.data.hdf5 import import_hdf5
from worldmodel.data.reader import open_dataset
from worldmodel.errors import ConfigError, DataError, OutputError

LENGTHS = (7, 5, 6)
EPISODES = dict(enumerate(LENGTHS))


def pictures(episode: int, length: int) -> np.ndarray:
    return np.random.default_rng(episode).integers(0, 255, (length, 8, 10, 3), dtype=np.uint8)


def numbers(episode: int, length: int, width: int) -> np.ndarray:
    return np.random.default_rng(10 + episode).normal(size=(length, width))


def robomimic(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        for name, episode in (("demo_0", 0), ("demo_10", 2), ("demo_2", 1)):
            length = LENGTHS[episode]
            group = data.create_group(name)
            group["actions"] = numbers(episode, length, 7)
            group["obs/agentview_image"] = pictures(episode, length)
            group["obs/wrist_image"] = pictures(episode + 50, length)
            group["obs/robot0_eef_pos"] = numbers(episode + 20, length, 3)
            group["obs/robot0_gripper_qpos"] = numbers(episode + 30, length, 2).astype(np.float32)
    return path


def minari(path: Path) -> Path:
    """One more observation than actions; the file lies in the folder of the data set."""
    (path / "data").mkdir(parents=True)
    with h5py.File(path / "data/main_data.hdf5", "w") as file:
        for episode, length in EPISODES.items():
            group = file.create_group(f"episode_{episode}")
            group["actions"] = numbers(episode, length, 7)[:-1]
            group["observations/pixels"] = pictures(episode, length)
            group["observations/state"] = numbers(episode + 20, length, 3)
            group["rewards"] = np.zeros(length - 1)
    return path


def swm(path: Path) -> Path:
    """Flat arrays; an episode's last action is NaN."""
    with h5py.File(path, "w") as file:
        actions = [numbers(episode, length, 7) for episode, length in EPISODES.items()]
        for rows in actions:
            rows[-1] = np.nan
        file["pixels"] = np.concatenate([pictures(episode, length) for episode, length in EPISODES.items()])
        file["action"] = np.concatenate(actions).astype(np.float32)
        file["proprio"] = np.concatenate([numbers(e + 20, length, 3) for e, length in EPISODES.items()])
        file["ep_len"], file["ep_offset"] = np.array(LENGTHS), np.array([0, 7, 12])
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {"robomimic": robomimic, "minari": minari, "swm": swm}


@pytest.mark.parametrize("format", MAKERS)
def test_every_layout_comes_through_row_for_row(format: str, tmp_path: Path) -> None:
    source, out, words = MAKERS[format](tmp_path / "logs"), tmp_path / "out", []
    if format != "robomimic":
        (tmp_path / "names.yaml").write_text("fps: 20\ntask: lift it\n")
        words = [f"mapping={tmp_path / 'names.yaml'}"]
    assert main(["import", f"source={source}", f"format={format}", f"out={out}", *words]) == 0
    dataset = open_dataset(out)
    assert (dataset.fps, dataset.lengths, dataset.action_dim, dataset.proprio_dim) == (20, LENGTHS, 7, 3)
    for index, length in EPISODES.items():
        episode = dataset.read_episode(index)
        np.testing.assert_array_equal(episode.frames, pictures(index, length))
        np.testing.assert_array_equal(episode.proprio, numbers(index + 20, length, 3).astype(np.float32))
        np.testing.assert_array_equal(episode.actions[:-1], numbers(index, length, 7).astype(np.float32)[:-1])
        assert np.isfinite(episode.actions[-1]).all()
        assert episode.task == ("unnamed" if format == "robomimic" else "lift it")
    assert check(data=[str(out)])["clean"] is True


def test_a_mapping_names_cameras_and_joins_proprioception(tmp_path: Path) -> None:
    source, names = robomimic(tmp_path / "logs"), tmp_path / "names.yaml"
    mapping: dict[str, Any] = {
        "image": {"front": "obs/agentview_image", "wrist": "obs/wrist_image"},
        "proprio": ["obs/robot0_gripper_qpos", "obs/robot0_eef_pos"],
        "fps": 10,
        "task": "lift",
    }
    names.write_text(yaml.safe_dump(mapping))
    out = tmp_path / "out"
    assert main(["import", f"source={source}", "format=robomimic", f"out={out}", f"mapping={names}", "video=true"]) == 0
    dataset = open_dataset(out, "wrist")
    assert (dataset.fps, dataset.proprio_dim) == (10, 5)
    episode = dataset.read_episode(2)
    np.testing.assert_array_equal(episode.proprio[:, :2], numbers(32, 6, 2).astype(np.float32))
    np.testing.assert_array_equal(episode.proprio[:, 2:], numbers(22, 6, 3).astype(np.float32))
    assert open_dataset(out, "front").image_shape == (8, 10)


@pytest.mark.parametrize(
    ("format", "mapping", "parts"),
    [
        (
            "robomimic",
            {"image": "obs/rgb"},
            ["'obs/rgb' in /data/demo_0 of ", "obs/agentview_image uint8 [7, 8, 10, 3]"],
        ),
        (
            "robomimic",
            {"action": "obs"},
            ["expected the array 'obs' in", "actions float64 [7, 7]", "mapping=FILE.yaml"],
        ),
        ("minari", {"fps": 20}, ["expected /episode_0, ... for format=minari, got data/demo_0/actions"]),
        ("swm", {"fps": 20}, ["expected the array 'ep_offset' in", "data/demo_0/actions float64"]),
        ("robomimic", {"image": "actions"}, ["expected pictures uint8 [L,h,w,3] as 'actions', got float64 [7, 7]"]),
        (
            "robomimic",
            {"proprio": "obs/agentview_image"},
            ["expected numbers [L,n] as 'obs/agentview_image', got uint8"],
        ),
    ],
)
def test_an_unknown_layout_says_what_is_there_and_what_is_needed(
    format: str, mapping: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    source = robomimic(tmp_path / "logs")
    with pytest.raises(DataError) as caught:
        import_hdf5(source=str(source), format=format, out=str(tmp_path / "out"), mapping=mapping)
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@pytest.mark.parametrize(
    ("format", "mapping", "part"),
    [
        ("minari", {}, "expected whole frames per second, got None"),
        ("minari", {"fps": 7.5}, "expected whole frames per second, got 7.5"),
        ("robomimic", {"fps": True}, "got True"),
        ("robomimic", {"camera": "x"}, "expected a mapping of image, action, proprio, fps, task, got ['camera']"),
        ("robomimic", {"image": 3}, "expected names of arrays in the mapping"),
        ("robomimic", {"proprio": []}, "expected names of arrays in the mapping"),
        ("robomimic", {"image": {"front": None}}, "expected names of arrays in the mapping"),
        ("hdf5", {}, "expected robomimic | minari | swm for 'format' of import, got 'hdf5'"),
    ],
)
def test_a_mapping_that_is_wrong(format: str, mapping: dict[str, Any], part: str, tmp_path: Path) -> None:
    source = MAKERS.get(format, robomimic)(tmp_path / "logs")
    with pytest.raises(ConfigError) as caught:
        import_hdf5(source=str(source), format=format, out=str(tmp_path / "out"), mapping=mapping)
    assert part in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "fps: 20: 3\n"])
def test_a_mapping_file_that_is_none(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.yaml").write_text(text)
    words = ["source=x", "format=swm", f"out={tmp_path / 'out'}", f"mapping={tmp_path / 'names.yaml'}"]
    assert main(["import", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected ")
    assert (str(tmp_path / "names.yaml") in error, error.count("\n")) == (True, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_file_cut_short(share: float, tmp_path: Path) -> None:
    source = robomimic(tmp_path / "logs")
    whole = source.read_bytes()
    source.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"expected a whole HDF5 file, got .* in "):
        import_hdf5(source=str(source), format="robomimic", out=str(tmp_path / "out"))
    with pytest.raises(DataError, match="which is none: check the path"):
        import_hdf5(source=str(tmp_path / "none"), format="robomimic", out=str(tmp_path / "out"))


def test_defects_in_the_logs_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    source, out = robomimic(tmp_path / "logs"), tmp_path / "out"
    with h5py.File(source, "a") as file:
        file["data/demo_2/actions"][1, 3] = np.nan
    with pytest.raises(DataError, match=r"expected finite action, got .* in row 1 of episode 1"):
        import_hdf5(source=str(source), format="robomimic", out=str(out))
    with h5py.File(source, "a") as file:
        file["data/demo_2/actions"][1, 3] = 0.0
        del file["data/demo_10/obs/robot0_eef_pos"]
        file["data/demo_10/obs/robot0_eef_pos"] = np.zeros((4, 3))
    with pytest.raises(
        DataError, match=r"expected observation.state as float32 \[6, 3\] with rows, got float32 \[4, 3\]"
    ):
        import_hdf5(source=str(source), format="robomimic", out=str(out))
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    out.mkdir()
    with pytest.raises(OutputError, match="expected a folder that does not exist yet"):
        import_hdf5(source=str(source), format="robomimic", out=str(out))
