"""What identifies data is what is in it: changed content is other data, the same content elsewhere is the same."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import foreign
import numpy as np
import pytest
from spoil import CAMERA, DATA, EPISODES, change_column, change_info, copy, write_noise
from tiny_model import ARCHITECTURE, TRAIN

from worldmodel.cli import main
from worldmodel.data.load import load_table
from worldmodel.pretrain.vjepa import build_model
from worldmodel.storage import sha256_file

VIDEO_FROM = f"videos/{CAMERA}/from_timestamp"
READS: list[str] = []
ARMED: list[Path] = []


def note_reads(event: str, arguments: tuple[Any, ...]) -> None:
    if ARMED and event == "open" and str(arguments[0]).startswith(str(ARMED[0])):
        READS.append(str(arguments[0]))


def flip_actions(root: Path) -> None:
    """All action signs, in place: every file keeps its size."""
    size = (root / DATA).stat().st_size
    change_column(root, "action", lambda rows: [[-value for value in row] for row in rows])
    assert (root / DATA).stat().st_size == size


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """What lerobot wrote, once rewritten, so that a later change keeps the size."""
    root = copy("lerobot_v3_image", tmp_path)
    change_column(root, "action", lambda rows: rows)
    return root


def test_signs_flipped_in_place_are_other_data(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_model(ARCHITECTURE, 0).save_pretrained(tmp_path / "encoder")
    words = ["train", f"data={logs}", f"encoder={tmp_path / 'encoder'}", f"out={tmp_path / 'out'}", *TRAIN]
    assert main(words) == 0
    before = load_table([str(logs)])
    actions = before.table.actions.copy()
    flip_actions(logs)
    after = load_table([str(logs)])
    np.testing.assert_array_equal(after.table.actions, -actions)
    assert after.sha256 != before.sha256
    capsys.readouterr()
    assert main(words) == 2
    assert "got another data_sha256" in capsys.readouterr().err


def test_a_change_that_hides_its_time_is_noticed(logs: Path) -> None:
    before, times = load_table([str(logs)]), (logs / DATA).stat()
    flip_actions(logs)
    os.utime(logs / DATA, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = load_table([str(logs)])
    assert after.sha256 != before.sha256
    flip_actions(logs)
    assert load_table([str(logs)]).sha256 == before.sha256


def test_descriptions_that_decide_what_is_read_belong_to_it(tmp_path: Path) -> None:
    root = copy("lerobot_v3_video", tmp_path)
    found = [load_table([str(root)]).sha256]
    change_column(root, VIDEO_FROM, lambda starts: [start + 0.01 for start in starts], EPISODES)
    found.append(load_table([str(root)]).sha256)
    change_info(root, robot_type="another")
    found.append(load_table([str(root)]).sha256)
    assert len(set(found)) == 3


def test_the_same_data_elsewhere_is_the_same(logs: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(logs, tmp_path / "elsewhere" / "under-another-name"))
    os.utime(other / DATA, ns=(1, 1))
    assert load_table([str(other)]).sha256 == load_table([str(logs)]).sha256 == load_table([str(logs)]).sha256


def test_every_way_to_read_it_is_another_table(tmp_path: Path) -> None:
    root = foreign.make_two_cameras(tmp_path / "data")
    ways: list[dict[str, Any]] = [
        {"camera": "wrist"},
        {"camera": "front"},
        {"camera": "wrist", "frame_skip": 2},
        {"camera": "wrist", "side": 32},
    ]
    assert len({load_table([str(root)], **way).sha256 for way in ways}) == len(ways)
    assert load_table([str(root)], camera="front", side=32).sha256 == load_table([str(root)], camera="front").sha256


def test_a_second_start_reads_no_file_of_the_data_again(tmp_path: Path) -> None:
    root = write_noise(tmp_path / "data", 6, 8, video=True)
    first = load_table([str(root)])
    sys.addaudithook(note_reads)
    READS.clear()
    ARMED.append(root)
    try:
        again = load_table([str(root)])
        assert {Path(name).name for name in READS} == {"info.json", "SHA256SUMS"}
        READS.clear()
        os.utime(root / "data/chunk-000/file-001.parquet", ns=(1, 1))
        touched = load_table([str(root)])
        assert "file-001.parquet" in {Path(name).name for name in READS}
        assert "file-002.parquet" not in {Path(name).name for name in READS}
    finally:
        ARMED.clear()
    assert again.sha256 == touched.sha256 == first.sha256


@pytest.mark.parametrize("text", ["", "[1]", '{"x": 3}', "{", None])
def test_a_damaged_memory_is_made_anew(text: str | None, logs: Path) -> None:
    before = load_table([str(logs)])
    (memory,) = logs.parent.glob(".cache/digests.json")
    written = memory.read_text()
    digest = sha256_file(logs / DATA)
    assert digest in written
    memory.write_text(written.replace(digest, "0" * 64) if text is None else text)
    assert load_table([str(logs)]).sha256 == before.sha256
    assert memory.read_text() == written


def test_other_sums_are_held_against_the_files_again(tmp_path: Path) -> None:
    root = write_noise(tmp_path / "data", 6, 8)
    whole = load_table([str(root)])
    sums = root / "meta/SHA256SUMS"
    sums.write_text("0" * 64 + sums.read_text()[64:])
    assert load_table([str(root)], skip_bad_episodes=True).skipped == (0,)
    sums.unlink()
    assert load_table([str(root)]).sha256 == whole.sha256
