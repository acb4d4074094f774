"""Reading: the two reference data sets that LeRobot wrote, and one with everything they lack."""

from __future__ import annotations

from pathlib import Path

import foreign
import numpy as np
import pytest

from worldmodel.data.reader import Dataset, open_dataset, open_datasets
from worldmodel.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.make_two_cameras(tmp_path_factory.mktemp("foreign") / "data")


def dot(frames: np.ndarray) -> np.ndarray:
    """Centre of the red dot in each frame, (x, y) [px]."""
    weight = np.clip(frames[..., 0].astype(float) - frames[..., 1] - 40, 0, None)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    return np.stack([(weight * axis).sum(axis=(1, 2)) / weight.sum(axis=(1, 2)) for axis in (x, y)], axis=1)


@pytest.mark.parametrize(
    ("name", "fps", "lengths", "action", "proprio", "side"),
    [("lerobot_v3_image", 5, (14, 10, 10), 3, 3, 64), ("lerobot_v3_video", 10, (11, 12, 13), 4, 6, 96)],
)
def test_a_data_set_written_by_lerobot(
    name: str, fps: int, lengths: tuple[int, ...], action: int, proprio: int, side: int
) -> None:
    dataset = open_dataset(GOLDEN / name)
    assert (dataset.episodes, dataset.fps, dataset.lengths) == (3, fps, lengths)
    assert (dataset.action_dim, dataset.proprio_dim, dataset.privileged_dim) == (action, proprio, None)
    assert dataset.image_shape == (side, side)
    for index, length in enumerate(lengths):
        episode = dataset.read_episode(index)
        assert episode.frames.shape == (length, side, side, 3)
        assert episode.frames.dtype == np.uint8
        assert episode.actions.shape == (length, action)
        assert episode.proprio.shape == (length, proprio)
        assert episode.actions.dtype == episode.proprio.dtype == np.float32
        assert episode.privileged is None
        assert episode.task == ("move the dot" if index == 1 else "stay")
        # Where the dot is drawn is the state, and it moves by the action: frames, rows and times belong together.
        seen = dot(episode.frames)
        moved = np.diff(seen, axis=0)
        np.testing.assert_allclose(seen, episode.proprio[:, :2] * side, atol=1)
        free = np.isclose(np.diff(episode.proprio[:, :2], axis=0), episode.actions[1:, :2], atol=1e-4)  # not at the rim
        np.testing.assert_allclose(moved[free], episode.actions[1:, :2][free] * side, atol=1)
        assert free.mean() > 0.9
        assert np.abs(moved).max() > 3


@pytest.mark.parametrize("camera", ["wrist", "front", "observation.images.front"])
def test_several_episodes_per_file_several_files_two_cameras(two_cameras: Path, camera: str) -> None:
    dataset = open_dataset(two_cameras, camera)
    assert (dataset.fps, dataset.lengths) == (30, foreign.LENGTHS)
    assert (dataset.action_dim, dataset.proprio_dim) == (7, 5)
    assert dataset.image_shape == foreign.SIZES[camera.split(".")[-1]]
    for index in (4, 0, 3, 1, 2):
        episode = dataset.read_episode(index)
        np.testing.assert_array_equal(episode.actions, foreign.vectors(index, 7))
        np.testing.assert_array_equal(episode.proprio, -foreign.vectors(index, 5))
        levels = np.array([foreign.level(index, row) for row in range(foreign.LENGTHS[index])])
        np.testing.assert_allclose(episode.frames.mean(axis=(1, 2, 3)), levels, atol=1.4)  # neighbours differ by 3
        assert episode.frames.shape[1:3] == dataset.image_shape
    assert dataset.read_episode(4).task == "sort / stack"


def test_the_files_of_a_data_set(two_cameras: Path) -> None:
    names = [path.relative_to(two_cameras).as_posix() for path in open_dataset(two_cameras, "wrist").files()]
    data = [f"data/chunk-000/file-00{i}.parquet" for i in range(2)]
    assert names == data + [f"videos/observation.images.wrist/chunk-000/file-00{i}.mp4" for i in range(2)]


def test_a_camera_must_be_chosen_when_there_are_several(two_cameras: Path) -> None:
    with pytest.raises(DataError, match=r"expected one camera, got wrist, front in .*: choose one with camera="):
        open_dataset(two_cameras)
    with pytest.raises(DataError, match=r"expected a camera among wrist, front, got 'top'"):
        open_dataset(two_cameras, "top")


def test_several_data_sets_as_one() -> None:
    path = GOLDEN / "lerobot_v3_image"
    alone, both = open_dataset(path), open_datasets([path, str(path)])
    assert both.lengths == alone.lengths * 2
    assert both.files() == alone.files() * 2
    for index in range(both.episodes):
        a, b = alone.read_episode(index % 3), both.read_episode(index)
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.actions, b.actions)
    assert open_datasets(path).lengths == open_datasets(str(path)).lengths == alone.lengths
    with pytest.raises(IndexError):
        alone.read_episode(3)


def test_data_sets_that_differ_are_not_joined(two_cameras: Path) -> None:
    paths = [GOLDEN / "lerobot_v3_image", GOLDEN / "lerobot_v3_video"]
    with pytest.raises(DataError, match=r"expected action dimension 3 as in .*image, got 4 in .*video: use them apart"):
        open_datasets(paths)
    with pytest.raises(DataError, match="expected at least one dataset folder, got none"):
        open_datasets([])
    wrist, front = (open_dataset(two_cameras, camera).parts[0] for camera in ("wrist", "front"))
    with pytest.raises(DataError, match=r"expected picture size \(48, 64\) as in .*, got \(32, 32\)"):
        Dataset([wrist, front])
