"""Ways to spoil a copy of a reference data set, and the one way reading it may answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worldmodel.data.layout import Layout
from worldmodel.data.reader import open_dataset
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"
CAMERA = "observation.images.front"
MENDS = ("check", "choose", "convert", "copy", "fill", "its", "mend", "rename", "write")  # how a way out begins


def copy(name: str, folder: Path) -> Path:
    """A reference data set to be spoiled."""
    return Path(shutil.copytree(GOLDEN / name, folder / "logs"))


def read_all(root: Path) -> None:
    dataset = open_dataset(root)
    for index in range(dataset.episodes):
        dataset.read_episode(index)


def refused(root: Path, *parts: str) -> None:
    """Reading everything raises one DataError of one line that contains the parts and ends with a way out."""
    with pytest.raises(DataError) as caught:
        read_all(root)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    assert [part for part in parts if part not in message] == [], message
    assert message.rpartition(": ")[2].split()[0] in MENDS, message


def change_info(root: Path, **fields: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_column(root: Path, name: str, change: Callable[[list[Any]], Any], file: str = DATA) -> None:
    """Rewrite one column of a parquet file, its type kept unless `change` returns an arrow array."""
    table = pq.read_table(root / file)
    position, kind = table.schema.get_field_index(name), table.schema.field(name).type
    values = change(table[name].to_pylist())
    array = values if isinstance(values, pa.Array) else pa.array(values, type=kind)
    pq.write_table(table.set_column(position, name, array), root / file)


def put(row: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [*values[:row], value, *values[row + 1 :]]


def write_noise(
    root: Path,
    length: int,
    side: int,
    *,
    video: bool = False,
    frames: Mapping[int, np.ndarray] | None = None,
    still: Collection[int] = (),
) -> Path:
    """Four episodes of noise by our own writer, but for the `frames` given and the `still`, whose pose rests."""
    layout = Layout(5, 2, 2, {"front": (side, side)}, video=video)
    rng = np.random.default_rng(0)
    records = []
    for episode in range(4):
        pictures = rng.integers(0, 255, (length, side, side, 3), dtype=np.uint8)
        proprio, actions = rng.uniform(-1, 1, (2, length, 2)).astype(np.float32)
        if episode in still:
            proprio[:] = proprio[0]
        rollout = Rollout({"front": (frames or {}).get(episode, pictures)}, proprio, actions)
        records.append(write_episode(root, layout, rollout, episode=episode, start=length * episode, task="stay"))
    finalize(root, layout, records, tasks=["stay"], extra={})
    return root


def write_lengths(root: Path, lengths: Sequence[int], size: tuple[int, int] = (16, 16), *, video: bool = False) -> Path:
    """Episodes of noise of these lengths, pictures of (h, w), by our own writer."""
    layout, rng, records = Layout(5, 2, 2, {"front": size}, video=video), np.random.default_rng(0), []
    for episode, length in enumerate(lengths):
        proprio, actions = rng.uniform(-1, 1, (2, length, 2)).astype(np.float32)
        rollout = Rollout({"front": rng.integers(0, 255, (length, *size, 3), dtype=np.uint8)}, proprio, actions)
        start = sum(lengths[:episode])
        records.append(write_episode(root, layout, rollout, episode=episode, start=start, task="stay"))
    finalize(root, layout, records, tasks=["stay"], extra={})
    return root
