"""A run's folder is begun once, whatever killed processes left in it, and left clean when it is finished."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worldmodel.errors import OutputError
from worldmodel.pretrain.fit import Metrics
from worldmodel.storage import new_folder
from worldmodel.training.folder import CHECKPOINTS, IDENTITY, checkpoints_at, resume_folder


def ended() -> int:
    """The number of a process that is no more."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)


def left(folder: Path, process: int, name: str) -> Path:
    path = folder / f".tmp-{platform.node()}-{process}-{name}"
    path.write_bytes(b"half")
    return path


def test_what_a_killed_process_was_writing_does_not_make_a_folder_full(tmp_path: Path) -> None:
    dead = left(tmp_path, ended(), IDENTITY)
    assert resume_folder(tmp_path, {"seed": 1}, "report.json") is None
    assert not dead.exists()
    assert resume_folder(tmp_path, {"seed": 1}, "report.json") is None
    with pytest.raises(OutputError, match=r"another seed \(1 -> 2\): choose"):
        resume_folder(tmp_path, {"seed": 2}, "report.json")


def test_what_a_living_process_writes_and_files_of_the_users_are_left_alone(tmp_path: Path) -> None:
    living = left(tmp_path, os.getppid(), "report.json")
    with pytest.raises(OutputError, match="empty or new"):
        new_folder(tmp_path)
    assert living.read_bytes() == b"half"
    living.rename(tmp_path / ".tmp-mine")
    with pytest.raises(OutputError, match="empty or new"):
        new_folder(tmp_path)
    assert (tmp_path / ".tmp-mine").exists()


def test_a_finished_run_that_was_killed_while_it_tidied_up_is_tidied_up(tmp_path: Path) -> None:
    resume_folder(tmp_path, {"seed": 1}, "report.json")
    (tmp_path / "report.json").write_text('{"loss": 1.0}')
    (tmp_path / CHECKPOINTS / "step-00000001").mkdir(parents=True)
    assert resume_folder(tmp_path, {"seed": 1}, "report.json") == {"loss": 1.0}
    assert not (tmp_path / CHECKPOINTS).exists()


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"name": "a", "sizes": {"width": 8, "depth": {"of": [1, 2]}}}, "sizes.width (4 -> 8)"),
        ({"name": "a", "sizes": {"width": 4, "depth": {"of": [1, 3]}}}, "sizes.depth.of ([1, 2] -> [1, 3])"),
        ({"name": "a", "sizes": {"width": 4, "depth": None}}, 'sizes.depth ({"of": [1, 2]} -> null)'),
        ({"name": "a", "sizes": {"width": 4, "depth": {"of": [1, 2]}}, "ema": 0.9}, "ema (null -> 0.9)"),
    ],
)
def test_the_setting_that_differs_is_named_with_both_values(now: dict[str, object], said: str, tmp_path: Path) -> None:
    before = {"name": "a", "sizes": {"width": 4, "depth": {"of": [1, 2]}}}
    resume_folder(tmp_path, before, "report.json")
    with pytest.raises(OutputError) as caught:
        resume_folder(tmp_path, now, "report.json")
    assert f"got another {said}: choose another out=" in str(caught.value)


@contextmanager
def full_disk() -> Iterator[None]:
    """Not one more byte goes into any file: the kernel refuses it, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_takes_no_line_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "joint.jsonl"
    report = Metrics(path, 0)
    for step in (0, 50, 100):
        report({"step": step, "loss": 1.0})
    before = path.read_bytes()
    with full_disk():
        with pytest.raises(OutputError, match=r"joint\.jsonl, got .* free in .*: mend that"):
            report({"step": 150, "loss": 1.0})
        with pytest.raises(OutputError, match=r"joint\.jsonl, got .* free in .*: mend that"):
            Metrics(path, 100)
    assert path.read_bytes() == before
    Metrics(path, 100)
    assert path.read_bytes() == b"".join(before.splitlines(keepends=True)[:2])
    assert [each.name for each in tmp_path.iterdir()] == ["joint.jsonl"]


def test_checkpoints_that_cannot_be_kept_are_said_in_one_line(tmp_path: Path) -> None:
    assert checkpoints_at(tmp_path / "run" / CHECKPOINTS) == 0
    (tmp_path / "run" / CHECKPOINTS / "step-00000020").mkdir()
    assert checkpoints_at(tmp_path / "run" / CHECKPOINTS) == 20
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="Not a directory"):
        checkpoints_at(tmp_path / "file" / CHECKPOINTS)
