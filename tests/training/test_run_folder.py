"""A run's folder is begun once, whatever killed processes left in it, and left clean when it is finished."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.errors import OutputError
from worldmodel.storage import new_folder
from worldmodel.training.folder import CHECKPOINTS, IDENTITY, resume_folder


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
    with pytest.raises(OutputError, match="another seed"):
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
