"""Files of rows: the bytes of np.save, the answers of an array, and no memory for what was read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.data.rows import RowFile, RowWriter
from worldmodel.errors import DataError


def written(path: Path, values: np.ndarray) -> Path:
    with RowWriter(path, values.shape, values.dtype) as writer:
        writer.put(0, values)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize("shape", [(5,), (7, 3), (4, 2, 3)])
def test_what_is_written_is_what_numpy_saves(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "saved.npy", values)
    assert written(tmp_path / "rows.npy", values).read_bytes() == (tmp_path / "saved.npy").read_bytes()
    rows = RowFile(tmp_path / "saved.npy")
    assert (rows.shape, rows.dtype, len(rows)) == (values.shape, values.dtype, len(values))
    np.testing.assert_array_equal(rows[:], values)


@given(data=st.data())
def test_rows_are_those_of_the_array(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    values = np.arange(60, dtype=np.float32).reshape(12, 5)
    rows = RowFile(written(tmp_path_factory.mktemp("rows") / "rows.npy", values))
    shape = data.draw(st.sampled_from([(0,), (1,), (9,), (3, 4), (2, 1, 2)]))
    count = int(np.prod(shape))
    asked = np.array(data.draw(st.lists(st.integers(0, 11), min_size=count, max_size=count)), np.int64).reshape(shape)
    np.testing.assert_array_equal(rows[asked], values[asked])
    begin, end, step = (data.draw(st.none() | st.integers(-14, 14).filter(bool)) for _ in range(3))
    np.testing.assert_array_equal(rows[begin:end:step], values[begin:end:step])
    np.testing.assert_array_equal(rows[3], values[3])


def test_rows_never_written_are_zeros_and_those_after_the_count_are_not_there(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows.npy", (6, 2), np.float32) as writer:
        writer.put(1, np.full((4, 2), 7.0))
        writer.end(3)
    assert RowFile(tmp_path / "rows.npy")[:].tolist() == [[0, 0], [7, 7], [7, 7], [0, 0], [0, 0], [0, 0]]
    rows = RowFile(tmp_path / "rows.npy", 3)
    assert rows.shape == (3, 2)
    for beyond in (3, np.array([0, 3]), -1):
        with pytest.raises(IndexError, match="expected rows of 0 to 2, got"):
            rows[beyond]
    with pytest.raises(IndexError, match="got a mask"):
        rows[np.array([True, False, True])]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"not rows at all, but longer than a magic string", None],
    ids=["0", "6", "text", "none"],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rows.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected a file of rows, got .*rows.npy .*: remove it, it is made anew"):
        RowFile(path)


def test_rows_of_objects_and_too_few_rows_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}, {}], object), allow_pickle=True)
    np.save(tmp_path / "turned.npy", np.asfortranarray(np.ones((2, 3))))
    np.save(tmp_path / "few.npy", np.ones((2, 3)))
    for name, count in (("objects", None), ("turned", None), ("few", 3)):
        with pytest.raises(
            DataError, match=rf"rows of numbers in the order of C, got shape.* in .*{name}\.npy: remove it"
        ):
            RowFile(tmp_path / f"{name}.npy", count)


def test_a_file_that_became_shorter_is_no_crash(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.npy", np.ones((1000, 100)))
    rows = RowFile(path)
    with path.open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(DataError, match=r"expected 1000 rows, got .*rows.npy, cut short: start again"):
        rows[900:]


READS_ALL = """
import sys
from pathlib import Path
import numpy as np
from worldmodel.data.rows import RowFile, RowWriter

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

path, rows = Path(sys.argv[1]), 4096
before = peak()
with RowWriter(path, (rows, 65536), np.uint8) as writer:
    for row in range(0, rows, 64):
        writer.put(row, np.full((64, 65536), row % 251, np.uint8))
file, total = RowFile(path), 0
for row in range(0, rows, 64):
    total += int(file[np.arange(row, row + 64)].sum(dtype=np.int64))
assert total == sum(64 * 65536 * (row % 251) for row in range(0, rows, 64))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the resident memory is read from /proc")
def test_a_file_that_was_written_and_read_whole_is_not_in_memory(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", READS_ALL, str(tmp_path / "rows.npy")], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 64  # MiB, of 256 in the file
