"""Faults 2 and 14 at one save: killed at every call, a disk that is full at every call, and the order of the calls."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

from tests.faults import toy
from tests.faults.checkpoints import load, save, two
from tests.faults.harness import Fault, Lab, Tally, run
from tests.faults.interrupt import Watch, die, full_disk


def counted(lab: Lab, first: int) -> int:
    """How many file-system calls the save of step `first` + 1 makes."""
    folder, report = lab.fresh("checkpoints"), lab.fresh("calls")
    folder.mkdir()
    for step in range(1, first + 1):
        save(folder, step)

    def work() -> None:
        watch = Watch(folder)
        save(folder, first + 1)
        watch.asleep = True
        report.write_text(str(len(watch.calls)))

    assert run(work).status == 0
    return int(report.read_text())


def saves_killed(tally: Tally, lab: Lab) -> None:
    """Every call of a save, with none, one or two checkpoints there before: the old step or the new one loads."""
    for first in (0, 1, 2):
        for number in range(1, counted(lab, first) + 1):
            folder = lab.fresh("checkpoints")
            folder.mkdir()
            for step in range(1, first + 1):
                save(folder, step)

            def stopped(folder: Path = folder, number: int = number, first: int = first) -> None:
                Watch(folder, number, die)
                save(folder, first + 1)

            assert run(stopped).status == -signal.SIGKILL
            note = f"killed at call {number} of the save of step {first + 1}"
            try:
                step, weight = load(folder)
                whole = step == weight and (step or 0) in (first, first + 1)
                tally.count("detected" if whole else "silent", f"{note}: step {step}, weight {weight}")
                save(folder, first + 1)
                tally.resume(load(folder) == (first + 1, first + 1.0), note)
            except Exception as error:
                tally.count("wrong", f"{note}: {type(error).__name__}: {error}")
            left = [path.name for path in folder.iterdir() if path.name.startswith(".tmp-")]
            tally.holds(not left, f"{note}: {left} is left")


def full_disks(tally: Tally, lab: Lab) -> None:
    """ENOSPC at every call, and files that may not grow: one line, the old checkpoints as they were, nothing left."""
    for number in range(1, counted(lab, 2) + 1):
        folder = two(lab)
        before, said = toy.tree(folder), lab.fresh("said")

        def starved(folder: Path = folder, number: int = number, said: Path = said) -> None:
            attempt = Tally()
            watch = Watch(folder, number, full_disk)
            attempt.refused(f"full at call {number}", lambda: save(folder, 3), "No space left", "free")
            watch.asleep = True
            said.write_text("\n".join(attempt.notes))

        ended = run(starved)
        now = {name: digest for name, digest in toy.tree(folder).items() if not name.startswith("step-00000003")}
        notes = said.read_text() if said.exists() else ended.err[-200:]
        cleaning = "silent" in notes  # the disk refused only the removal of what is old: the save itself is done
        kept = all(now.get(name) == digest for name, digest in before.items()) or cleaning
        good = kept and (not notes or cleaning) and not [name for name in now if ".tmp-" in name]
        tally.count("detected" if good else "wrong", f"full at call {number}: {notes}")
    for limit in (1, 100, 300):
        folder = two(lab)
        before = toy.tree(folder)

        def bounded(folder: Path = folder, limit: int = limit) -> int:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return toy.verb_of(lambda: save(folder, 3))

        ended = run(bounded)
        # What it says does not fit into its log either.
        good = ended.status in (2, 70, 120) and toy.tree(folder) == before
        tally.count(
            "detected" if good else "wrong", f"files of at most {limit} bytes: {ended.status} {ended.err[-300:]}"
        )


def order_of_calls(tally: Tally, lab: Lab) -> None:
    """No kill shows what a loss of power would: whatever takes its name is synced before, and its folder after."""
    for what in ("checkpoint", "file"):
        folder, report = lab.fresh("trace"), lab.fresh("calls")
        folder.mkdir()

        def work(folder: Path = folder, report: Path = report, what: str = what) -> None:
            from worldmodel.storage import write_json

            watch = Watch(folder)
            save(folder, 1) if what == "checkpoint" else write_json(folder / "a.json", {})
            watch.asleep = True
            report.write_text(json.dumps([watch.calls, watch.unsynced]))

        assert run(work).status == 0
        calls, unsynced = json.loads(report.read_text())
        tally.holds(not unsynced, f"{what}: renamed before it was synced: {unsynced}")
        for at, (name, path) in enumerate(calls):
            if name == "rename":
                after = [p for n, p in calls[at:] if n == "fsync"]
                tally.holds(os.path.dirname(path) in after, f"{what}: the folder of {path} is not synced")


FAULTS = (
    Fault(
        2,
        "SIGKILL at every file-system call of a save",
        "the old step or the new one loads",
        saves_killed,
        guards=("rename",),
    ),
    Fault(
        2,
        "loss of power: order of fsync and rename",
        "fsync of all, rename, fsync of the folder",
        order_of_calls,
        guards=("fsync",),
    ),
    Fault(14, "disk full at every call of a save", "one line with the free space; old ones intact", full_disks),
)
