"""What pretrain and train refuse: one line, exit code 2, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worldmodel.cli import main


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small dataset, the same with a NaN in it, and a folder of something else."""
    root = tmp_path_factory.mktemp("input")
    places = {"data": root / "data, good", "nan": root / "nan", "other": root / "other", "absent": root / "absent"}
    for name in ("data", "nan"):
        assert main(["collect", f"out={places[name]}", "episodes=2", "steps=3", "workers=1"]) == 0
    path = next(places["nan"].glob("data/**/*.parquet"))
    table = pq.read_table(path)
    rows = np.array(table["action"].to_pylist(), dtype=np.float32)
    rows[1, 0] = np.nan
    index = table.schema.get_field_index("action")
    column = pa.array(list(rows), type=table.schema.field(index).type)
    pq.write_table(table.set_column(index, table.schema.field(index), column), path)
    places["other"].mkdir()
    (places["other"] / "thesis.txt").write_text("mine")
    return places


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "data={absent}"], "{absent}"),
        (["pretrain", "data={other}"], "expected a LeRobot v3.0 dataset"),
        (["pretrain", "data={nan}"], "{nan}"),
        (["pretrain", "data={data},{absent}"], "{absent}"),
        (["train", "data={other}", "encoder={other}"], "{other}"),
        (["train", "data={data}", "encoder={absent}"], "expected an encoder folder, a hub id"),
        (["train", "data={data}", "encoder={other}"], "expected an encoder folder with config.json"),
    ],
)
def test_unusable_input_is_refused(
    words: list[str], message: str, places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*(word.format(**places) for word in words), f"out={tmp_path / 'out'}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert message.format(**places) in lines[-1]
    assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(places: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", f"data={places['data']}", f"out={places['other']}"]) == 2
    assert "choose another out=" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in places["other"].iterdir()] == ["thesis.txt"]
