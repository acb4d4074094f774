"""Writing: the same columns as LeRobot's own files, and what is written is what is read."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from worldmodel.data.images import png_bytes
from worldmodel.data.layout import Layout, Record
from worldmodel.data.reader import open_dataset
from worldmodel.data.stats import aggregate, image_stats, vector_stats
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"
LENGTHS = (9, 4, 6)


def picture(rng: np.random.Generator, length: int, height: int, width: int) -> np.ndarray:
    """Smooth pictures, which survive a lossy codec: a gradient whose ends are drawn at random."""
    ends = rng.uniform(30, 220, (2, length, 1, 1, 3))
    share = np.linspace(0, 1, width)[None, None, :, None]
    return np.broadcast_to(ends[0] + share * (ends[1] - ends[0]), (length, height, width, 3)).astype(np.uint8)


def rollout(layout: Layout, length: int, seed: int = 0) -> Rollout:
    rng = np.random.default_rng(seed)
    frames = {name: picture(rng, length, *size) for name, size in layout.cameras.items()}
    columns = [rng.normal(size=(length, n)).astype(np.float32) for n in (layout.state_dim, layout.action_dim)]
    truth = None if layout.privileged_dim is None else rng.normal(size=(length, layout.privileged_dim))
    return Rollout(frames, *columns, None if truth is None else truth.astype(np.float32))


def write(root: Path, layout: Layout, tasks: tuple[str, ...] = ("stay", "move the dot")) -> list[Rollout]:
    rollouts = [rollout(layout, length, seed) for seed, length in enumerate(LENGTHS)]
    records: list[Record] = []
    for episode, what in enumerate(rollouts):
        task = episode % len(tasks)
        start = sum(LENGTHS[:episode])
        record = write_episode(root, layout, what, episode=episode, start=start, task=tasks[task], task_index=task)
        records.append(record)
    finalize(root, layout, records, tasks=tasks, extra={"seeds": [0, 2]})
    return rollouts


def like(name: str) -> Layout:
    """The layout of a reference data set."""
    if name == "lerobot_v3_image":
        return Layout(5, 3, 3, {"front": (64, 64)}, robot_type="arm")
    return Layout(10, 6, 4, {"front": (96, 96)}, video=True, robot_type="arm")


def without_values(metadata: dict[str, Any]) -> dict[str, Any]:
    """A description without the parts that differ between two writers of the same form."""
    hidden = {"fingerprint", "creator"}
    return {key: value for key, value in metadata.items() if key not in hidden}


@pytest.mark.parametrize("name", ["lerobot_v3_image", "lerobot_v3_video"])
def test_schemas_equal_those_of_lerobot_column_for_column(tmp_path: Path, name: str) -> None:
    write(tmp_path, like(name))
    for path in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"):
        ours, theirs = pq.read_schema(tmp_path / path), pq.read_schema(GOLDEN / name / path)
        assert ours.names == theirs.names
        assert ours.equals(theirs)
        assert (ours.metadata or {}).keys() == (theirs.metadata or {}).keys()
        for key, value in (ours.metadata or {}).items():
            assert without_values(json.loads(value)) == without_values(json.loads(theirs.metadata[key]))
    ours, theirs = (json.loads((root / "meta/info.json").read_text()) for root in (tmp_path, GOLDEN / name))
    assert list(ours) == list(theirs)
    assert ours["features"].keys() == theirs["features"].keys()
    for key, value in theirs["features"].items():
        if key == "observation.images.front" and name == "lerobot_v3_video":
            value["info"]["video.codec"] = "h264"  # theirs is av1, both legal
        assert ours["features"][key] == value
    same = ("codebase_version", "robot_type", "chunks_size", "fps", "data_path", "video_path", "total_tasks")
    assert [ours[key] for key in same] == [theirs[key] for key in same]
    assert (ours["total_episodes"], ours["total_frames"], ours["splits"]) == (3, 19, {"train": "0:3"})


@pytest.mark.parametrize("name", ["lerobot_v3_image", "lerobot_v3_video"])
def test_statistics_have_the_form_of_lerobots(tmp_path: Path, name: str) -> None:
    rollouts = write(tmp_path, like(name))
    ours, theirs = (json.loads((root / "meta/stats.json").read_text()) for root in (tmp_path, GOLDEN / name))
    assert ours.keys() == theirs.keys()
    for feature, stats in theirs.items():
        assert list(ours[feature]) == list(stats)
        for key, value in stats.items():
            assert np.shape(ours[feature][key]) == np.shape(value)
    actions = np.concatenate([r.actions for r in rollouts]).astype(float)
    np.testing.assert_allclose(ours["action"]["mean"], actions.mean(axis=0))
    np.testing.assert_allclose(ours["action"]["std"], actions.std(axis=0))
    assert ours["action"]["count"] == [19]
    np.testing.assert_array_equal(ours["action"]["max"], actions.max(axis=0))
    pixels = np.concatenate([r.frames["front"] for r in rollouts]) / 255
    np.testing.assert_allclose(np.ravel(ours["observation.images.front"]["mean"]), pixels.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(np.ravel(ours["observation.images.front"]["std"]), pixels.std(axis=(0, 1, 2)))


def test_the_references_own_statistics_are_reproduced() -> None:
    """Ours over LeRobot's rows equal what LeRobot computed, quantiles apart (theirs come from a histogram)."""
    root = GOLDEN / "lerobot_v3_image"
    theirs = json.loads((root / "meta/stats.json").read_text())
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    dataset = open_dataset(root)
    episodes = [dataset.read_episode(i) for i in range(3)]
    for row, episode in zip(rows, episodes, strict=True):
        stats = vector_stats(episode.actions)
        for key in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(stats[key], row[f"stats/action/{key}"], rtol=1e-5, atol=1e-7)
        pictures = image_stats(episode.frames)
        for key in ("min", "max", "mean", "count"):
            np.testing.assert_allclose(pictures[key], row[f"stats/observation.images.front/{key}"], rtol=1e-6)
    total = aggregate([vector_stats(episode.actions) for episode in episodes])
    for key in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(total[key], theirs["action"][key], rtol=1e-5, atol=1e-7)


def test_image_statistics_equal_numpys_on_random_pixels() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 31, 3), dtype=np.uint8)
    stats = image_stats(frames)
    flat = frames.reshape(-1, 3) / 255
    for key, value in (("min", flat.min(0)), ("max", flat.max(0)), ("mean", flat.mean(0)), ("std", flat.std(0))):
        np.testing.assert_allclose(np.ravel(stats[key]), value)
    for key, q in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        np.testing.assert_allclose(np.ravel(stats[key]), np.quantile(flat, q, axis=0), atol=1.01 / 255)
    assert image_stats(np.zeros((100, 2, 2, 3), np.uint8))["count"] == [32]


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (16, 16), (5, 128)])
def test_a_png_holds_its_picture(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png_bytes(image))) as opened:
        assert (opened.format, opened.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(opened), image)
    assert zlib.crc32(png_bytes(image)) == zlib.crc32(png_bytes(image.copy()))


@pytest.mark.parametrize("privileged", [None, 1, 6])
def test_pictures_and_numbers_come_back_exactly(tmp_path: Path, privileged: int | None) -> None:
    layout = Layout(7, 5, 1, {"top": (10, 14)}, privileged_dim=privileged)
    rollouts = write(tmp_path, layout)
    dataset = open_dataset(tmp_path)
    assert (dataset.lengths, dataset.fps, dataset.action_dim, dataset.privileged_dim) == (LENGTHS, 7, 1, privileged)
    for index, written in enumerate(rollouts):
        episode = dataset.read_episode(index)
        np.testing.assert_array_equal(episode.frames, written.frames["top"])
        np.testing.assert_array_equal(episode.actions, written.actions)
        np.testing.assert_array_equal(episode.proprio, written.proprio)
        assert episode.task == ("stay", "move the dot")[index % 2]
        if privileged is None:
            assert episode.privileged is None
        else:
            np.testing.assert_array_equal(episode.privileged, written.privileged)
    about = json.loads((tmp_path / "meta/worldmodel.json").read_text())
    assert about["seeds"] == [0, 2]
    assert len(about["data_sha256"]) == 64


def test_videos_come_back_in_order_and_nearly_equal(tmp_path: Path) -> None:
    layout = Layout(12, 2, 2, {"left": (32, 48), "right": (48, 32)}, video=True)
    rollouts = write(tmp_path, layout)
    for camera in layout.cameras:
        dataset = open_dataset(tmp_path, camera)
        for index, written in enumerate(rollouts):
            frames = dataset.read_episode(index).frames.astype(int)
            assert frames.shape == written.frames[camera].shape
            error = np.abs(frames[:, None] - written.frames[camera][None].astype(int)).mean(axis=(2, 3, 4))
            np.testing.assert_array_equal(error.argmin(axis=1), np.arange(LENGTHS[index]))
            assert error.diagonal().max() < 4


@pytest.mark.parametrize("video", [False, True])
def test_the_same_rollouts_give_the_same_bytes(tmp_path: Path, video: bool) -> None:
    layout = Layout(5, 2, 2, {"front": (16, 16)}, video=video)
    for name in ("one", "two"):
        write(tmp_path / name, layout)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 3 + 6 + (3 if video else 0)
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    """Pages carry checksums: no damage to a data file is read as other data."""
    write(tmp_path, Layout(5, 3, 2, {"front": (8, 8)}))
    before = open_dataset(tmp_path).read_episode(1)
    path = tmp_path / "data/chunk-000/file-001.parquet"
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            after = open_dataset(tmp_path).read_episode(1)
        except DataError:
            refused += 1
            continue
        for name in ("frames", "actions", "proprio"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert refused > 100


def test_file_names_roll_over_after_a_thousand_episodes(tmp_path: Path) -> None:
    layout = Layout(5, 2, 2, {"front": (4, 4)})
    record = write_episode(tmp_path, layout, rollout(layout, 2), episode=2001, start=4002, task="stay")
    assert list(record.files) == ["data/chunk-002/file-001.parquet"]
    table = pq.read_table(tmp_path / "data/chunk-002/file-001.parquet")
    assert table["index"].to_pylist() == [4002, 4003]
    assert table["observation.images.front"].type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def changed(base: Rollout, **fields: Any) -> Rollout:
    return Rollout(**({name: getattr(base, name) for name in ("frames", "proprio", "actions", "privileged")} | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"actions": np.zeros((5, 2), np.float64)}, r"action as float32 \[5, 2\] with rows, got float64 \[5, 2\]"),
        ({"actions": np.zeros((5, 3), np.float32)}, r"action as float32 \[5, 2\] with rows, got float32 \[5, 3\]"),
        ({"proprio": np.zeros((4, 3), np.float32)}, r"observation.state as float32 \[5, 3\].*got float32 \[4, 3\]"),
        ({"frames": {"front": np.zeros((5, 3, 8, 8), np.uint8)}}, r"images.front as uint8 \[5, 8, 8, 3\]"),
        ({"frames": {"front": np.zeros((5, 8, 8, 3), np.float32)}}, r"got float32 \[5, 8, 8, 3\] in episode 7"),
        ({"frames": {"front": np.zeros((6, 8, 8, 3), np.uint8)}}, r"got uint8 \[6, 8, 8, 3\] in episode 7"),
        ({"privileged": None}, r"privileged.state as float32 \[5, 1\] with rows, got none in episode 7"),
        ({"actions": np.full((5, 2), np.nan, np.float32)}, r"finite action, got \[nan, nan\] in row 0 of episode 7"),
        ({"actions": np.zeros((0, 2), np.float32)}, r"observation.state as float32 \[0, 3\] with rows"),
    ],
)
def test_an_episode_that_does_not_fit_is_not_written(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    layout = Layout(5, 3, 2, {"front": (8, 8)}, privileged_dim=1)
    with pytest.raises(DataError, match=message):
        write_episode(tmp_path, layout, changed(rollout(layout, 5), **fields), episode=7, start=35, task="stay")
    assert list(tmp_path.iterdir()) == []


def test_odd_sides_cannot_be_video(tmp_path: Path) -> None:
    layout = Layout(5, 3, 2, {"front": (9, 8)}, video=True)
    with pytest.raises(DataError, match="expected even picture sides for video, got 9 x 8"):
        write_episode(tmp_path, layout, rollout(layout, 2), episode=0, start=0, task="stay")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
