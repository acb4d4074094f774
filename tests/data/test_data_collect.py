"""Collecting: what is written, and that neither processes nor repetition change a byte of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow.parquet as pq
import pytest

from worldmodel.data.collect import LOCK, collect
from worldmodel.data.load import load_table
from worldmodel.data.lock import folder_lock
from worldmodel.data.reader import open_dataset
from worldmodel.errors import ConfigError, OutputError, WorldModelError

ENV_ID = "dot_env:tiny/Dot-v0"


def dots(out: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"env_kwargs": {}, "episodes": 5, "steps": 8, "seed": 40, "workers": 2}
    return collect(env_id=ENV_ID, out=str(out), **(settings | changes))


def tree(root: Path) -> dict[str, str]:
    """Every file and its bytes."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collected") / "dots"
    summary = dots(out)
    expected = {"out": str(out), "task": "tiny_dot", "episodes": 5, "frames": 40, "kept": 0, "collected": 5}
    assert summary == expected | {"redraws": 0, "already_complete": False}
    return out


def test_episodes_are_functions_of_their_seeds(collected: Path) -> None:
    """Drawn again by hand, straight from the environment, every episode is the one on disk."""
    dataset = open_dataset(collected)
    assert (dataset.lengths, dataset.fps, dataset.privileged_dim) == ((8,) * 5, 5, 2)
    env = gymnasium.make(ENV_ID, max_episode_steps=-1)
    for index in range(5):
        episode = dataset.read_episode(index)
        assert episode.privileged is not None
        observation, info = env.reset(seed=40 + index, options={"explore": True})
        policy = env.get_wrapper_attr("exploration_policy")(np.random.default_rng([40, index]))
        for row in range(8):
            np.testing.assert_array_equal(episode.frames[row], observation["pixels"])
            np.testing.assert_array_equal(episode.proprio[row], observation["proprio"])
            np.testing.assert_array_equal(episode.privileged[row], info["privileged"])
            np.testing.assert_array_equal(episode.actions[row], policy().astype(np.float32))
            observation, _, _, _, info = env.step(episode.actions[row])


def test_the_folder_says_where_the_data_came_from_and_holds_nothing_else(collected: Path) -> None:
    about = json.loads((collected / "meta/worldmodel.json").read_text())
    assert (about["task"], about["env_id"], about["seeds"], about["redraws"]) == ("tiny_dot", ENV_ID, [40, 44], {})
    assert about["environment"]["shadows"] is False
    assert {"numpy", "gymnasium", "pyarrow", "zlib"} <= about["versions"].keys()
    info = json.loads((collected / "meta/info.json").read_text())
    assert (info["robot_type"], info["fps"], info["total_frames"]) == ("dot", 5, 40)
    data = {f"data/chunk-000/file-{i:03d}.parquet" for i in range(5)}
    meta = {"collect.json", "episodes/chunk-000/file-000.parquet", "info.json", "stats.json", "tasks.parquet"}
    assert set(tree(collected)) == data | {f"meta/{name}" for name in meta | {"worldmodel.json", "SHA256SUMS"}}


def test_each_episode_says_what_it_is_about(tmp_path: Path) -> None:
    """In the order of the environment's list in the data set, in alphabetical order in the table."""
    summary = dots(tmp_path / "dots", episodes=8, env_kwargs={"tasks": ["to the right", "to the left"]})
    assert summary["task"] == ["to the right", "to the left"]
    env = gymnasium.make(ENV_ID, max_episode_steps=-1, tasks=("to the right", "to the left"))
    wanted = [env.reset(seed=40 + index, options={"explore": True})[1]["task"] for index in range(8)]
    assert len(set(wanted)) == 2
    dataset, loaded = open_dataset(tmp_path / "dots"), load_table([str(tmp_path / "dots")])
    assert [dataset.read_episode(index).task for index in range(8)] == wanted
    assert loaded.tasks == ("to the left", "to the right")
    assert loaded.table.task is not None
    assert [loaded.tasks[number] for number in loaded.table.task[::8]] == wanted
    rows = [pq.read_table(path)["task_index"].to_pylist() for path in sorted(tmp_path.glob("dots/data/*/*.parquet"))]
    assert rows == [[("to the right", "to the left").index(task)] * 8 for task in wanted]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_processes_leaves_no_trace(collected: Path, tmp_path: Path, workers: int) -> None:
    dots(tmp_path / "dots", workers=workers)
    assert tree(tmp_path / "dots") == tree(collected)


def test_a_complete_data_set_is_left_alone(collected: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in collected.rglob("*") if path.is_file()}
    summary = dots(collected, workers=1)
    assert (summary["already_complete"], summary["kept"], summary["collected"]) == (True, 5, 0)
    assert {path: path.stat().st_mtime_ns for path in collected.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"episodes": 6}, "episodes 5 there and 6 asked"),
        ({"steps": 9, "seed": 0}, "steps 8 there and 9 asked, seed 40 there and 0 asked"),
        ({"env_kwargs": {"size": 8}}, "env_kwargs {} there and {'size': 8} asked"),
        ({"video": True}, "video False there and True asked"),
    ],
)
def test_other_settings_are_refused_by_name(collected: Path, changes: dict[str, Any], named: str) -> None:
    before = tree(collected)
    with pytest.raises(OutputError, match=f"begun with, got {named}: choose another out="):
        dots(collected, **changes)
    assert tree(collected) == before


def test_videos_show_what_pictures_show(tmp_path: Path) -> None:
    settings = {"episodes": 2, "env_kwargs": {"size": 32, "privileged": False}}
    dots(tmp_path / "pictures", **settings)
    for name, workers in (("one", 1), ("two", 2)):
        dots(tmp_path / name, video=True, workers=workers, **settings)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    pictures, videos = open_dataset(tmp_path / "pictures"), open_dataset(tmp_path / "one")
    assert videos.privileged_dim is None
    for index in range(2):
        exact, seen = pictures.read_episode(index), videos.read_episode(index)
        np.testing.assert_array_equal(exact.actions, seen.actions)
        error = np.abs(seen.frames[:, None].astype(int) - exact.frames[None]).mean(axis=(2, 3, 4))
        np.testing.assert_array_equal(error.argmin(axis=1), np.arange(8))


def test_a_diverged_episode_is_drawn_again_from_another_seed(tmp_path: Path) -> None:
    """The length stays, the number of attempts is on record, and it is the same whoever draws it."""
    for name, workers in (("one", 1), ("two", 2)):
        summary = dots(tmp_path / name, workers=workers, env_kwargs={"explode_above": 0.8})
        assert summary["redraws"] > 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    dataset = open_dataset(tmp_path / "one")
    assert dataset.lengths == (8,) * 5
    assert max(dataset.read_episode(i).actions[:-1, 0].max() for i in range(5)) <= 0.8
    redraws = json.loads((tmp_path / "one/meta/worldmodel.json").read_text())["redraws"]
    assert sum(redraws.values()) == summary["redraws"]
    assert all(count > 0 for count in redraws.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_kwargs": {"explode_above": -2}}, "expected a stable simulation, got 21 divergences in episode 0"),
        ({"env_kwargs": {"refuse": "no picture\ncan be made"}}, "RuntimeError: no picture can be made"),
        ({"env_kwargs": {"sise": 8}}, "TypeError: .*unexpected keyword argument 'sise'"),
    ],
)
def test_a_failing_world_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WorldModelError, match=message) as caught:
        dots(tmp_path / "dots", **({"workers": 1} | changes))
    assert "\n" not in str(caught.value)
    assert tree(tmp_path / "dots").keys() <= {"meta/collect.json", "meta/collect/scene.json"}


def test_an_unknown_environment_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorldModelError, match="NameNotFound: Environment `Dott` doesn't exist"):
        collect(env_id="dot_env:tiny/Dott-v9", env_kwargs={}, episodes=1, steps=2, out=str(tmp_path), seed=0, workers=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "expected episodes >= 1, got 0"),
        ({"steps": 1}, "expected steps >= 2, got 1"),
        ({"workers": 0}, "expected workers >= 1, got 0"),
        ({"seed": -1}, "expected seed >= 0, got -1"),
        ({"seed": 99_996}, "expected training seeds below 100000, got 99996 to 100000: the rest is for validation"),
        ({"env_kwargs": {"size": np.zeros(2)}}, "expected env_kwargs of plain numbers"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_happens(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dots(tmp_path / "dots", **changes)
    assert not (tmp_path / "dots").exists()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(OutputError, match=r"a new or empty folder, .* which has thesis.txt: choose another out="):
            dots(out)
    assert tree(tmp_path).keys() == {"thesis.txt"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match=r"expected a folder that can be written, got .*file/dots \(Not a directory\)"
    ):
        dots(tmp_path / "file/dots")


def test_the_lock_dies_with_its_holder_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    path.write_text("12345\n")  # left by a killed process: nobody holds it
    with folder_lock(path):
        with pytest.raises(OutputError, match=r"got process \d+ at work in .*: wait for it"), folder_lock(path):
            pass
        assert path.exists()
    assert not path.exists()


def test_a_holder_that_has_not_written_its_name_yet_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LOCK
    holder = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        monkeypatch.setattr(time, "sleep", lambda _: os.pwrite(holder, b"4711\n", 0))  # between two looks
        with pytest.raises(OutputError, match=r"got process 4711 at work in"), folder_lock(path):
            pass
    finally:
        os.close(holder)
