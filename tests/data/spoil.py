"""Ways to spoil a copy of a reference data set, and the one way reading it may answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worldmodel.data.reader import open_dataset
from worldmodel.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"
CAMERA = "observation.images.front"


def copy(name: str, folder: Path) -> Path:
    """A reference data set to be spoiled."""
    return Path(shutil.copytree(GOLDEN / name, folder / "logs"))


def read_all(root: Path) -> None:
    dataset = open_dataset(root)
    for index in range(dataset.episodes):
        dataset.read_episode(index)


def refused(root: Path, *parts: str) -> None:
    """Reading everything raises one DataError of one line that contains the parts."""
    with pytest.raises(DataError) as caught:
        read_all(root)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    assert [part for part in parts if part not in message] == [], message


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
