"""HDF5 logs that are not what their format says: one line that names file, episode and the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from worldmodel.cli import main
from worldmodel.data.hdf5 import import_hdf5
from worldmodel.data.reader import open_dataset
from worldmodel.errors import DataError

LENGTHS = (6, 5, 7, 4)
JOINED = {"fps": 20, "proprio": ["obs/robot0_eef_pos", "obs/gripper"]}
Change = Callable[[h5py.File], None]


def robomimic(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for episode, length in enumerate(LENGTHS):
            group, rng = file.create_group(f"data/demo_{episode}"), np.random.default_rng(episode)
            group["actions"], group["obs/robot0_eef_pos"] = rng.normal(size=(length, 2)), rng.normal(size=(length, 3))
            group["obs/gripper"] = rng.normal(size=length)
            group["obs/agentview_image"] = rng.integers(0, 255, (length, 8, 10, 3), dtype=np.uint8)
    return path


def swm(path: Path) -> Path:
    rows, rng = sum(LENGTHS), np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["pixels"] = rng.integers(0, 255, (rows, 8, 10, 3), dtype=np.uint8)
        file["action"], file["proprio"] = rng.normal(size=(2, rows, 3))
        file["ep_len"], file["ep_offset"] = np.array(LENGTHS), np.cumsum((0, *LENGTHS[:-1]))
    return path


def put(name: str, value: np.ndarray) -> Change:
    """Replace what is called `name`, group or array."""

    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return change


WRONG: list[tuple[str, Change, list[str]]] = [
    ("robomimic", put("data", np.zeros((5, 3))), ["expected data/demo_0, ...", "got data float64 [5, 3] in {0}: give"]),
    (
        "robomimic",
        put("data/demo_0", np.zeros((5, 3))),
        ["expected a group of an episode's arrays, got one array [5, 3] as /data/demo_0 of {0}: give the format"],
    ),
    (
        "robomimic",
        put("data/demo_1/obs/gripper", np.zeros((4, 2))),
        ["as many rows to join, got 5 of 'obs/robot0_eef_pos', 4 of 'obs/gripper' in /data/demo_1 of {0}: give"],
    ),
    (
        "robomimic",
        put("data/demo_1/actions", np.zeros((0, 2))),
        ["got float32 [5, 4] in episode 1, which is /data/demo_1 of {0}; skip_"],
    ),
    (
        "swm",
        put("ep_offset", np.array([0])),
        ["expected 'ep_offset' and 'ep_len' of one length, got 1 and 4 in {0}: write one of each"],
    ),
    (
        "swm",
        put("ep_offset", np.array([0.0, 6.0, 11.0, 18.0])),
        ["expected whole numbers [episodes] as 'ep_offset', got float64 [4] in {0}: convert them"],
    ),
    ("swm", put("ep_len", np.array([6, 5, -7, 4])), ["expected numbers >= 0 as 'ep_len', got -7 in {0}: mend them"]),
    (
        "swm",
        put("ep_len", np.array([6, 5, 7, 9])),
        ["expected 27 rows of 'pixels', got 22 in episode 3", "of {0}: mend"],
    ),
]


@pytest.mark.parametrize(("format", "change", "parts"), WRONG)
def test_a_file_that_is_not_what_its_format_says(format: str, change: Change, parts: list[str], tmp_path: Path) -> None:
    source = {"robomimic": robomimic, "swm": swm}[format](tmp_path / "logs.hdf5")
    with h5py.File(source, "a") as file:
        change(file)
    mapping = JOINED if format == "robomimic" else {"fps": 20}
    with pytest.raises(DataError) as caught:
        import_hdf5(source=str(source), format=format, out=str(tmp_path / "out"), mapping=mapping)
    message = str(caught.value)
    assert message.startswith("expected ")
    assert "\n" not in message
    assert [part for part in parts if part.format(source) not in message] == [], message
    assert [path.name for path in tmp_path.iterdir()] == ["logs.hdf5"]


def spoiled(tmp_path: Path) -> Path:
    """The first, a NaN; the third, empty; the fourth, joined from arrays of different lengths."""
    source = robomimic(tmp_path / "logs.hdf5")
    with h5py.File(source, "a") as file:
        file["data/demo_0/actions"][2, 1] = np.nan
        for name in ("actions", "obs/robot0_eef_pos", "obs/agentview_image", "obs/gripper"):
            put(f"data/demo_2/{name}", file[f"data/demo_2/{name}"][:0])(file)
        put("data/demo_3/obs/gripper", np.zeros(3))(file)
    (tmp_path / "names.yaml").write_text(json.dumps(JOINED))
    return source


def test_one_bad_episode_names_itself_and_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = spoiled(tmp_path)
    words = ["import", f"source={source}", "format=robomimic", f"out={tmp_path / 'out'}"]
    assert main([*words, f"mapping={tmp_path / 'names.yaml'}"]) == 2
    (error,) = capsys.readouterr().err.splitlines()[-1:]
    assert "expected finite action, got [" in error
    assert f"in row 2 of episode 0, which is /data/demo_0 of {source}" in error
    assert error.endswith("; skip_bad_episodes=true leaves bad episodes out")
    assert not (tmp_path / "out").exists()


def test_bad_episodes_are_left_out_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = spoiled(tmp_path), tmp_path / "out"
    words = ["import", f"source={source}", "format=robomimic", f"out={out}", f"mapping={tmp_path / 'names.yaml'}"]
    assert main([*words, "skip_bad_episodes=true"]) == 0
    *named, counted, done = capsys.readouterr().out.splitlines()
    assert [[f"/data/demo_{number} of {source}" in line for line in named] for number in (0, 2, 3)] == np.eye(
        3
    ).tolist()
    assert (counted, done) == ("left out 3 of 4 episodes", f"{out}: 1 episodes, 5 frames")
    dataset = open_dataset(out)
    assert (dataset.lengths, dataset.proprio_dim) == ((5,), 4)
    with h5py.File(source) as file:
        np.testing.assert_array_equal(dataset.read_episode(0).frames, file["data/demo_1/obs/agentview_image"][:])
    assert json.loads((out / "meta/worldmodel.json").read_text())["left_out"] == named


def test_a_file_without_one_good_episode_is_refused_anyway(tmp_path: Path) -> None:
    source = robomimic(tmp_path / "logs.hdf5")
    with h5py.File(source, "a") as file:
        for episode in range(len(LENGTHS)):
            file[f"data/demo_{episode}/actions"][0] = np.nan
    with pytest.raises(DataError, match=r"got none of 4 in logs.hdf5: expected finite action, .*which is /data/demo_0"):
        import_hdf5(
            source=str(source), format="robomimic", out=str(tmp_path / "out"), mapping=JOINED, skip_bad_episodes=True
        )
    assert not (tmp_path / "out").exists()
