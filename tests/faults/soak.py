"""A long run watched: `python -m tests.faults.soak COMMAND...` samples the memory and the open files of a real command.

Its length is that of the command: a number of episodes or rows, given to it. Memory is the proportional set size of the
process and its children (Linux, /proc), so that what workers share is counted once.
"""

from __future__ import annotations

import argparse
import datetime
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign import PAGE

HEAD = (
    "| command | minutes | memory early [MiB] | late [MiB] | files early | late | exit code | verdict |",
    "|---|---|---|---|---|---|---|---|",
)
SLACK = 0.05  # of the early memory by which the late may be larger
SLACK_MIB = 8.0  # and this, of allocators
SLACK_FILES = 2.0


@dataclass(frozen=True)
class Sample:
    """Of a process and all below it: memory [MiB] and open file descriptors."""

    memory: float
    files: int


def sample(pid: int) -> Sample:
    """Now; processes that end meanwhile count as nothing."""
    memory, files = 0.0, 0
    for member in family(pid):
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text(encoding="ascii")
            files += sum(1 for _ in Path(f"/proc/{member}/fd").iterdir())
        except (OSError, UnicodeDecodeError):
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, flags=re.MULTILINE)
        memory += int(found[1]) / 1024 if found else 0.0
    return Sample(memory, files)


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for member in found:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text(encoding="ascii").split()]
            except OSError:
                continue
    return found


def watch(command: list[str], every: float) -> tuple[int, float, list[Sample]]:
    """Run the command to its end: exit code, seconds, and a sample every so many seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command)
    samples = []
    while True:
        try:
            return process.wait(every), time.monotonic() - began, samples
        except subprocess.TimeoutExpired:
            samples.append(sample(process.pid))


def line(words: str, code: int, seconds: float, samples: list[Sample]) -> tuple[str, bool]:
    """One row of the table, and whether it is flat: the last fifth against the second, medians; the first warms up."""
    fifth = len(samples) // 5
    if fifth == 0:
        return f"| `{words}` | {seconds / 60:.1f} | – | – | – | – | {code} | too short |", False
    early, late = samples[fifth : 2 * fifth], samples[-fifth - 1 : -1]  # the last one sees the end
    memory = [statistics.median(each.memory for each in part) for part in (early, late)]
    files = [statistics.median(each.files for each in part) for part in (early, late)]
    flat = memory[1] <= memory[0] * (1 + SLACK) + SLACK_MIB and files[1] <= files[0] + SLACK_FILES
    fine = flat and code == 0
    cells = [f"`{words}`", f"{seconds / 60:.1f}", *(f"{each:.0f}" for each in (*memory, *files)), str(code)]
    return f"| {' | '.join(cells)} | {'flat' if fine else 'grows' if not flat else 'failed'} |", fine


def write(row: str, words: str) -> None:
    """Put the row between the marks of docs/reliability.md, in the place of an older one of the same command."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = PAGE.read_text(encoding="utf-8")
    marks = r"(<!-- soak -->\n)(.*)(<!-- end of soak -->)"

    def renewed(found: re.Match[str]) -> str:
        kept = [old for old in found[2].splitlines() if old.startswith("| `") and f"`{words}`" not in old]
        return "\n".join([f"{found[1]}Date: {date}.", "", *HEAD, *kept, row, found[3]])

    PAGE.write_text(re.sub(marks, renewed, text, flags=re.DOTALL), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Watch the command given; 0 where it ended well and stayed flat."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two samples")
    parser.add_argument("--write", action="store_true", help="put the row into docs/reliability.md")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="as after `worldmodel`, e.g. collect task=jaco_push")
    given = parser.parse_args(arguments)
    words = " ".join(["worldmodel", *given.command])
    code, seconds, samples = watch([sys.executable, "-m", "worldmodel.cli", *given.command], given.every)
    row, flat = line(words, code, seconds, samples)
    print(*HEAD, row, sep="\n")
    if given.write:
        write(row, words)
    return int(not flat)


if __name__ == "__main__":
    sys.exit(main())
