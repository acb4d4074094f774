"""The table that training sees: inspected, split by episode, one camera, decisions joined, bad episodes left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import foreign
import numpy as np
import pytest
from spoil import CAMERA, DATA, change_column, copy, put, write_noise

from worldmodel.data.layout import Layout
from worldmodel.data.load import Loaded, concatenate_actions, load_table
from worldmodel.data.reader import open_dataset
from worldmodel.data.table import Table
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.errors import DataError

SIDES = ((0, "left"), (1, "right"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return copy("lerobot_v3_image", tmp_path)


def equals(loaded: Loaded, root: Path, episodes: list[int], camera: str | None = None, skip: int = 1) -> None:
    """The table holds exactly these episodes, as the reader gives them."""
    table, dataset = loaded.table, open_dataset(root, camera)
    assert sorted(set(table.episode.tolist())) == episodes
    for episode in episodes:
        rows, read = np.flatnonzero(table.episode == episode), dataset.read_episode(episode)
        np.testing.assert_array_equal(table.frames[rows], read.frames[::skip])
        np.testing.assert_array_equal(table.proprio[rows], read.proprio[::skip])
        np.testing.assert_array_equal(table.actions[rows], concatenate_actions(read.actions, skip))
    assert np.isnan(table.privileged).all()


def test_the_table_is_what_the_reader_reads(pictures: Path) -> None:
    loaded = load_table([str(pictures)])
    equals(loaded, pictures, [0, 1, 2])
    assert (loaded.episodes, loaded.skipped, loaded.defects) == (3, (), ())
    again = load_table([str(pictures)])
    assert again.sha256 == loaded.sha256
    assert np.array_equal(again.table.frames[:], loaded.table.frames[:])


def test_several_data_sets_are_numbered_through(pictures: Path, tmp_path: Path) -> None:
    other = copy("lerobot_v3_image", tmp_path / "other")
    loaded = load_table([str(pictures), str(other)])
    assert np.unique(loaded.table.episode).tolist() == list(range(6))
    np.testing.assert_array_equal(loaded.table.frames[:34], loaded.table.frames[34:])
    with pytest.raises(DataError, match="expected each data set once, got one twice in"):
        load_table([str(pictures), f"{other}/../../logs"])


def test_a_camera_is_chosen_by_name(tmp_path: Path) -> None:
    root = foreign.make_two_cameras(tmp_path / "data")
    found = [load_table([str(root)], camera=camera) for camera in ("wrist", "front")]
    for loaded, camera in zip(found, ("wrist", "front"), strict=True):
        equals(loaded, root, [0, 1, 2, 3, 4], camera)
    assert found[0].sha256 != found[1].sha256
    with pytest.raises(DataError, match="expected one camera, got wrist, front in"):
        load_table([str(root)])
    with pytest.raises(DataError, match="expected a camera among wrist, front, got 'top'"):
        load_table([str(root)], camera="top")


@pytest.mark.parametrize("skip", [2, 3, 20])
def test_decisions_are_joined(pictures: Path, skip: int) -> None:
    plain, loaded = load_table([str(pictures)]), load_table([str(pictures)], frame_skip=skip)
    equals(loaded, pictures, [0, 1, 2], skip=skip)
    assert loaded.sha256 != plain.sha256
    assert len(loaded.table) == sum(-(-length // skip) for length in (14, 10, 10))


def test_joined_actions_are_those_between_the_frames_that_are_kept() -> None:
    actions = np.arange(14, dtype=np.float32).reshape(7, 2)
    joined = concatenate_actions(actions, 3)
    assert joined.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 13, 12, 13, 12, 13]]
    assert concatenate_actions(actions, 1).tolist() == actions.tolist()


def test_data_with_a_defect_is_refused_with_the_way_out(pictures: Path) -> None:
    change_column(pictures, "action", put(16, [0.0, float("nan"), 0.0]))
    with pytest.raises(DataError) as caught:
        load_table([str(pictures)])
    message = str(caught.value)
    assert "got nan at index 1 in row 2 of 'action' of episode 1" in message
    assert message.endswith(
        f"; for all defects: worldmodel check data={pictures}; skip_bad_episodes=true leaves bad episodes out"
    )
    assert "\n" not in message


@pytest.mark.parametrize(("column", "value"), [("action", [float("nan")] * 3), (CAMERA, {"bytes": b"x", "path": "a"})])
def test_bad_episodes_are_left_out_on_request(
    pictures: Path, column: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_table([str(pictures)])
    times = {path: path.stat().st_mtime_ns for path in pictures.rglob("*.parquet")}
    good = (pictures / DATA).read_bytes()
    change_column(pictures, column, put(16, value))
    loaded = load_table([str(pictures)], skip_bad_episodes=True)
    assert "left out 1 of 3 episodes: [1]" in capsys.readouterr().out
    equals_the_good_ones(loaded, before)
    assert loaded.sha256 != before.sha256
    assert loaded.about()["skipped"] == [1]
    assert f"of episode 1 in {pictures / DATA}" in loaded.about()["defects"][0]
    with pytest.raises(DataError, match="of episode 1 in"):
        load_table([str(pictures)])
    (pictures / DATA).write_bytes(good)
    os.utime(pictures / DATA, ns=(times[pictures / DATA] + 10**9,) * 2)
    mended = load_table([str(pictures)], skip_bad_episodes=True)
    equals(mended, pictures, [0, 1, 2])
    assert (mended.sha256, mended.skipped) == (before.sha256, ())


def test_cameras_in_the_same_files_are_kept_apart(tmp_path: Path) -> None:
    layout = Layout(5, 2, 2, {"left": (8, 8), "right": (8, 8)})
    records = []
    for episode in range(2):
        frames = {name: np.random.default_rng(seed).integers(0, 255, (3, 8, 8, 3), np.uint8) for seed, name in SIDES}
        rollout = Rollout(frames, *np.random.default_rng(0).uniform(size=(2, 3, 2)).astype(np.float32))
        records.append(write_episode(tmp_path / "data", layout, rollout, episode=episode, start=3 * episode, task="x"))
    finalize(tmp_path / "data", layout, records, tasks=["x"], extra={})
    for seed, name in SIDES:
        table = load_table([str(tmp_path / "data")], camera=name).table
        expected = np.random.default_rng(seed).integers(0, 255, (3, 8, 8, 3), np.uint8)
        np.testing.assert_array_equal(table.frames[:3], expected)


def test_files_that_are_not_what_was_written_are_left_out_and_mended(tmp_path: Path) -> None:
    root = write_noise(tmp_path / "data", 6, 8)
    whole = load_table([str(root)])
    file, sums = root / "data/chunk-000/file-002.parquet", root / "meta/SHA256SUMS"
    written, good = sums.read_text(), file.read_bytes()
    sums.write_text(written.replace(written.splitlines()[1][:64], "0" * 64))  # all else about episode 1 is right
    file.write_bytes(good[:400] + bytes([good[400] ^ 1]) + good[401:])
    os.utime(file, ns=(file.stat().st_mtime_ns + 10**9,) * 2)
    rest = load_table([str(root)], skip_bad_episodes=True)
    assert (rest.skipped, np.unique(rest.table.episode).tolist()) == ((1, 2), [0, 3])
    sums.write_text(written)
    file.write_bytes(good)
    os.utime(file, ns=(file.stat().st_mtime_ns + 2 * 10**9,) * 2)
    mended = load_table([str(root)], skip_bad_episodes=True)
    assert (mended.skipped, mended.sha256) == ((), whole.sha256)


def equals_the_good_ones(loaded: Loaded, before: Loaded) -> None:
    rows = np.flatnonzero(before.table.episode != 1)
    assert loaded.table.episode.tolist() == before.table.episode[rows].tolist()
    for name in ("frames", "actions", "proprio"):
        np.testing.assert_array_equal(getattr(loaded.table, name)[:], getattr(before.table, name)[rows])


def test_what_no_skipping_mends_is_refused_anyway(pictures: Path) -> None:
    for row in (3, 16):
        change_column(pictures, "action", put(row, [float("nan")] * 3))
    with pytest.raises(DataError, match="expected at least two good episodes, one of them to be held out, got 1 of 3"):
        load_table([str(pictures)], skip_bad_episodes=True)


@pytest.mark.parametrize("episodes", [2, 3, 19, 20, 21, 100])
def test_the_split_is_by_episode_and_disjoint(episodes: int, tmp_path: Path) -> None:
    rows = np.repeat(3 * np.arange(episodes), 4)
    empty = np.zeros((len(rows), 1), np.float32)
    table = Table(np.zeros((len(rows), 1, 1, 3), np.uint8), empty, empty, empty, rows)
    train, held_out = table.split()
    assert not set(train) & set(held_out)
    assert set(train) | set(held_out) == set(rows)
    assert len(held_out) == max(1, episodes // 20)
    Loaded(table, "", (), (), episodes, (), ()).store_split(tmp_path / "split.json")
    stored = json.loads((tmp_path / "split.json").read_text())
    assert stored == {"train": train.tolist(), "validation": held_out.tolist()}


def test_one_episode_cannot_be_split() -> None:
    empty = np.zeros((4, 1), np.float32)
    table = Table(np.zeros((4, 1, 1, 3), np.uint8), empty, empty, empty, np.zeros(4, np.int64))
    with pytest.raises(DataError, match="expected at least two episodes"):
        table.split()
