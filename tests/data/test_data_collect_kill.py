"""Collecting, killed: whatever dies, and when, the same command finishes the same data set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from test_data_collect import dots, tree

from worldmodel.data.collect import LOCK
from worldmodel.errors import OutputError, WorldModelError

HERE = Path(__file__).parent
PROGRAM = """
import os, signal, sys
from pathlib import Path
from worldmodel.data import collect as module
from worldmodel.errors import WorldModelError

def counted(function, number, last):
    calls = []
    def call(*arguments):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), last)
        return function(*arguments)
    return call

if __name__ == "__main__":
    what, number, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if what == "kill-at-episode":
        module._received = counted(module._received, number, signal.SIGKILL)
    if what == "interrupt-at-episode":
        module._received = counted(module._received, number, signal.SIGINT)
    if what == "kill-at-rename":
        os.replace = counted(os.replace, number, signal.SIGKILL)
    try:
        module.collect(env_id="dot_env:tiny/Dot-v0", env_kwargs={}, episodes=5, steps=8, out=out, seed=40, workers=2)
    except WorldModelError as error:
        print(error)
        sys.exit(2)
    except KeyboardInterrupt:
        import multiprocessing
        print(len(multiprocessing.active_children()), "left")
        sys.exit(130)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an uninterrupted collection gives."""
    out = tmp_path_factory.mktemp("whole") / "dots"
    dots(out)
    return tree(out)


def start(tmp_path: Path, what: str, number: int, **variables: str) -> subprocess.Popen[str]:
    """Another process that collects into tmp_path/dots, and is stopped as `what` says."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    path = os.pathsep.join([str(HERE.parent.parent), str(HERE)])
    return subprocess.Popen(
        [sys.executable, str(program), what, str(number), str(tmp_path / "dots")],
        env=os.environ | {"PYTHONPATH": path} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [1, 3])
def test_killed_half_way_and_run_again(tmp_path: Path, whole: dict[str, str], number: int) -> None:
    process = start(tmp_path, "kill-at-episode", number)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "meta/info.json" not in tree(tmp_path / "dots")
    summary = dots(tmp_path / "dots", workers=1)
    assert summary["kept"] + summary["collected"] == 5
    assert summary["kept"] >= number - 1
    assert tree(tmp_path / "dots") == whole


def test_killed_at_every_rename_of_the_parent(tmp_path: Path, whole: dict[str, str]) -> None:
    """Settings; then, the settings being there: episodes, statistics, tasks, origin and info."""
    for number in (1, 1, 2, 3, 4, 5):
        process = start(tmp_path, "kill-at-rename", number)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert "meta/info.json" not in tree(tmp_path / "dots")
    summary = dots(tmp_path / "dots")
    assert summary["collected"] == 0
    assert tree(tmp_path / "dots") == whole


def test_a_worker_that_dies_is_one_line_and_the_rest_is_kept(
    tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOT_DIE_AT", "43")
    with pytest.raises(WorldModelError, match="got a worker that ended with status -9: run the same command again"):
        dots(tmp_path / "dots", workers=1)
    assert LOCK not in tree(tmp_path / "dots")
    monkeypatch.delenv("DOT_DIE_AT")
    assert dots(tmp_path / "dots")["kept"] == 3
    assert tree(tmp_path / "dots") == whole


def test_an_interrupt_stops_the_workers_and_loses_nothing(tmp_path: Path, whole: dict[str, str]) -> None:
    process = start(tmp_path, "interrupt-at-episode", 3)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "0 left\n")
    assert "Traceback" not in stderr
    left = tree(tmp_path / "dots")
    assert not [name for name in left if ".tmp-" in name or name == LOCK]
    assert dots(tmp_path / "dots")["kept"] >= 2
    assert tree(tmp_path / "dots") == whole


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "record", "scene"])
def test_what_does_not_verify_is_drawn_again(tmp_path: Path, whole: dict[str, str], damage: str) -> None:
    out = tmp_path / "dots"
    process = start(tmp_path, "kill-at-rename", 2)  # after the last episode, before any description
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    file = out / "data/chunk-000/file-003.parquet"
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "flip":
        file.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "missing":
        file.unlink()
    elif damage == "record":
        (out / "meta/collect/episode-000003.json").write_text("{")
    else:
        (out / "meta/collect/scene.json").unlink()
    (out / "data/chunk-000/.tmp-1-file-004.parquet").write_bytes(b"half")
    summary = dots(out, workers=1)
    assert summary["collected"] == (5 if damage == "scene" else 1)
    assert tree(out) == whole


def test_of_several_processes_on_one_folder_exactly_one_works(tmp_path: Path, whole: dict[str, str]) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    processes = [start(tmp_path, "run", 0, DOT_GATE=str(gate)) for _ in range(3)]
    waiting = os.open(gate, os.O_RDWR)  # while it is open, the winner's workers stand at the gate
    try:
        with ThreadPoolExecutor(3) as pool:
            ends = {pool.submit(process.communicate): process for process in processes}
            losers, others = set(), set(ends)
            while len(losers) < 2:
                done, others = wait(others, return_when=FIRST_COMPLETED)
                losers |= done
            with pytest.raises(OutputError) as refusal:
                dots(tmp_path / "dots")
            os.write(waiting, b"12")
            (winner,) = others
            winner.result()
    finally:
        os.close(waiting)
        for process in processes:
            process.kill()
    assert ends[winner].returncode == 0
    for message in (str(refusal.value), *(loser.result()[0] for loser in losers)):
        assert f"got process {ends[winner].pid} at work in {tmp_path / 'dots'}" in message
    assert [ends[loser].returncode for loser in losers] == [2, 2]
    assert tree(tmp_path / "dots") == whole
