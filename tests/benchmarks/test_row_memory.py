"""The memory of a suite's process does not grow with its rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DRIVES = """
import sys
from pathlib import Path
from worldmodel.cli import main

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) // 1024

found = []
for row in range(3):
    code = main(["drive", "task=jaco_reach", "agent=hold", "episodes=10", "parallel=10", f"out={sys.argv[1]}/{row}"])
    assert code == 0
    found.append(resident())
print(found[0], found[2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the resident memory is read from /proc")
def test_rows_one_after_another_leave_no_memory_behind(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", DRIVES, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    first, last = map(int, run.stdout.split()[-2:])
    assert last < first + 64  # MiB; what ten scenes leave behind in glibc's heaps is twice that for each row
