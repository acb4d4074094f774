"""The watch over long runs sees memory and open files that grow, in children too, and only those."""

from __future__ import annotations

import sys

import pytest

from tests.faults.soak import line, watch

LOOP = """
import os, sys, time
kept = []
def work(grows):
    for step in range(60):
        block = bytearray(4 << 20)
        block[::4096] = b"x" * len(block[::4096])
        if grows == "memory":
            kept.append(block)
        if grows == "files":
            kept.append(open(os.devnull))
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass
work(sys.argv[1])
"""
IN_A_CHILD = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', *sys.argv[1:]]).returncode)"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize(("grows", "verdict"), [("memory", "grows"), ("files", "grows"), ("nothing", "flat")])
def test_growth_is_seen_and_only_growth(grows: str, verdict: str, child: bool) -> None:
    program = [sys.executable, "-c", *([IN_A_CHILD] if child else []), LOOP, grows]
    code, seconds, samples = watch(program, 0.03)
    row, fine = line("this", code, seconds, samples)
    assert row.endswith(f"| 0 | {verdict} |"), row
    assert fine is (verdict == "flat")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_command_that_fails_or_ends_at_once_is_not_a_soak() -> None:
    code, seconds, samples = watch([sys.executable, "-c", LOOP + "\nsys.exit(3)", "nothing"], 0.03)
    assert line("this", code, seconds, samples)[0].endswith("| 3 | failed |")
    assert line("this", *watch([sys.executable, "-c", ""], 60.0))[0].endswith("| too short |")
