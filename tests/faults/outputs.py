"""Faults 14 to 16, 18 and 54: folders that are full, read-only, gone, shared or somebody else's."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import toy
from tests.faults.harness import Child, Ended, Fault, Lab, Tally, one_line_error, run, verb, without_privileges
from tests.faults.interrupt import Watch, full_disk

TAKES_ROOM = ("open", "mkdir", "fsync")
FIRST_PART = 40  # calls: until pretrain and train have written their first checkpoint


def drive(out: Path, *words: str) -> Callable[[], int]:
    return verb("drive", f"out={out}", "agent=hold", "task=jaco_reach", "episodes=2", *words)


def verbs(lab: Lab, out: Path) -> dict[str, Callable[[], int]]:
    """Every verb that writes a folder, with the toy's sizes."""
    for which in ("pretrain", "train"):
        toy.prepare(which, lab)
    trained = {which: partial(toy.act, which, lab, out) for which in ("collect", "pretrain", "train", "baseline")}
    return {**trained, "drive": drive(out)}


def judge(tally: Tally, ended: Ended, note: str, *says: str) -> None:
    """The command said no, in one line, with code 2."""
    said = one_line_error(ended)
    good = said and all(part in said for part in says)
    what = "hung" if ended.hung else "detected" if good else "silent" if ended.status == 0 else "wrong"
    tally.count(what, f"{note}: {said or ended.err.strip()[-160:]}")


def room(which: str, lab: Lab) -> list[int]:
    """The numbers of the calls of a whole run that take room on the disk, the first of each kind.

    In the quick form those that open or make something in the first part of the run.
    """
    out, report = lab.fresh(which), lab.fresh("calls")

    def noted() -> int:
        watch = Watch(out)
        status = toy.act(which, lab, out)
        report.write_text(json.dumps(watch.calls))
        return status

    assert run(noted).status == 0
    found: dict[tuple[str, str], int] = {}
    for number, (what, path) in enumerate(json.loads(report.read_text()), 1):
        if what in TAKES_ROOM and (lab.full or (what != "fsync" and number <= FIRST_PART)):
            found.setdefault((what, re.sub(r"\d+", "", path)), number)
    return list(found.values())[:: lab.times(3, 1)]


def full(tally: Tally, lab: Lab) -> None:
    """The disk is full from some call of a verb on; with room again, the same command ends with the same bytes."""
    for which in ("collect", "pretrain", "train"):
        toy.prepare(which, lab)
        wanted = toy.tree(toy.whole(which, lab))
        for turn, number in enumerate(room(which, lab)):
            out = lab.fresh(which)

            def starved(which: str = which, out: Path = out, number: int = number) -> int:
                watch = Watch(out, number)
                watch.at_each(full_disk)
                return toy.act(which, lab, out)

            ended = run(starved)
            if ended.status == 0:
                continue  # collect's own process makes fewer calls: its workers write
            judge(tally, ended, f"{which}, full from call {number}", "No space left")
            if turn % 2 and not lab.full:
                continue
            again = run(partial(toy.act, which, lab, out))
            same = again.status == 0 and toy.tree(out) == wanted
            tally.resume(
                same, f"{which}, full from call {number}: {again.err[-200:] or toy.differing(toy.tree(out), wanted)}"
            )


def unprivileged(function: Callable[[], Any]) -> Any:
    """Call it without root's right to write everywhere."""
    without_privileges()
    return function()


def locked_away(tally: Tally, lab: Lab) -> None:
    """Folders that cannot be written or made are refused at the start."""
    for which in ("collect", "pretrain", "train", "baseline", "drive"):
        for note in ("below a file", "in /proc", "read-only"):
            parent = lab.fresh("parent")
            if note == "below a file":
                parent.write_text("a file")
            elif note == "in /proc":
                parent = Path("/proc")
            else:
                parent.mkdir(mode=0o555)
            call = verbs(lab, parent / "out")[which]
            ended = run(partial(unprivileged, call))
            judge(tally, ended, f"{which}, {note}", "expected")


def foreign(tally: Tally, lab: Lab) -> None:
    """A folder that holds something else, or is a file, is left as it is, by every verb."""
    for which in ("collect", "pretrain", "train", "drive"):
        for note in ("a file in it", "a file of that name", "another verb's run"):
            out = lab.fresh("out")
            if note == "a file of that name":
                out.write_text("mine")
            elif note == "a file in it":
                out.mkdir()
                (out / "thesis.txt").write_text("mine")
            else:
                shutil.copytree(toy.whole("pretrain" if which != "pretrain" else "collect", lab), out)
            before = toy.tree(out) if out.is_dir() else {"": out.read_text()}
            judge(tally, run(verbs(lab, out)[which]), f"{which}, {note}", "out=")
            after = toy.tree(out) if out.is_dir() else {"": out.read_text()}
            tally.holds(before == after, f"{which}, {note}: {toy.differing(before, after)}")


def race(tally: Tally, lab: Lab, which: str, count: int) -> None:
    """Several processes start on one folder at once: one works, the others say who has it."""
    toy.prepare(which, lab)
    wanted, out = toy.tree(toy.whole(which, lab)), lab.fresh(which)
    children = [Child(partial(toy.act, which, lab, out)) for _ in range(count)]
    ends = [child.wait() for child in children]
    winners = [child.pid for child, ended in zip(children, ends, strict=True) if ended.status == 0]
    for ended in ends:
        if ended.status:
            judge(tally, ended, f"{which}: a loser", "expected a folder nobody writes to", f"process {winners[0]}")
    tally.holds(len(winners) == 1, f"{which}: {len(winners)} of {count} worked")
    tally.resume(toy.tree(out) == wanted, f"{which}: {toy.differing(toy.tree(out), wanted)}")


def racing_collections(tally: Tally, lab: Lab) -> None:
    race(tally, lab, "collect", lab.times(4, 20))


def racing_trainings(tally: Tally, lab: Lab) -> None:
    race(tally, lab, "pretrain", 3)
    race(tally, lab, "train", 3)
    race(tally, lab, "baseline", 3)


def racing_benchmarks(tally: Tally, lab: Lab) -> None:
    """Of several drives into one folder, and of several benches, one works; shards of a bench work side by side."""
    rows = "suite.rows=['task=jaco_reach agent=hold','task=jaco_push agent=hold']"
    bench = ("bench", "suite=smoke", rows)
    for which in ("drive", "bench"):
        out = lab.fresh(which)
        call = drive(out) if which == "drive" else verb(*bench, f"out={out}")
        ends = [child.wait() for child in [Child(call) for _ in range(2)]]
        for ended in ends:
            if ended.status:
                judge(tally, ended, f"{which}: a loser", "expected")
        worked = [ended.status for ended in ends].count(0)
        tally.holds(worked == 1, f"{which}: {worked} of 2 worked")
    out = lab.fresh("shards")
    shards = [Child(verb(*bench, f"out={out}", f"shard={index}/2")) for index in range(2)]
    worked = [child.wait().status for child in shards].count(0)
    whole = [json.loads(path.read_text())["interrupted"] for path in out.glob("*/summary.json")]
    tally.holds(worked == 2 and whole == [False, False], f"{worked} of 2 shards worked, {len(whole)} rows")


def benchmarks(tally: Tally, lab: Lab) -> None:
    """A benchmark killed half-way: its lines are whole, and its folder takes no other episodes."""
    out = lab.fresh("drive")
    child = Child(verb("drive", f"out={out}", "agent=random", "task=jaco_reach", "episodes=50", "seed=100000"))
    child.wait_for(lambda: (out / "episodes.jsonl").is_file())
    child.kill(signal.SIGKILL)
    child.wait()
    lines = (out / "episodes.jsonl").read_text().splitlines()
    tally.holds([json.loads(line)["seed"] for line in lines] == list(range(100000, 100000 + len(lines))), "torn lines")
    tally.holds(not (out / "summary.json").exists(), "a summary of what was not driven")
    before = toy.tree(out)
    judge(tally, run(drive(out)), "another agent in the folder of a killed benchmark", "choose another out=")
    tally.holds(toy.tree(out) == before, "the folder changed")


def counting(tally: Tally, lab: Lab) -> None:
    """No episode is lost from the count; what is not a number is a failure."""
    from benchmarks.episode import Episode
    from benchmarks.stats import percentile, wilson_interval
    from benchmarks.summary import summarise

    row = Episode(1, reached=True, held=True, decisions=3, first_reached=1, final_distance_m=0.01, seconds=[0.1]).line()
    failed = Episode(2, reached=False, held=False, decisions=1, error="environment at decision 1: diverged").line()
    found = summarise([row, failed, failed], True)
    tally.holds(found["episodes"] == 3 and len(found["failures"]) == 2, "failed episodes are dropped")
    rate = json.dumps(found)
    tally.holds("NaN" not in rate and "Infinity" not in rate, "a summary with NaN")
    for trials in ((0, 0), (3, 2), (-1, 2)):
        tally.refused(f"a rate of {trials}", partial(wilson_interval, *trials), "expected", also=(ValueError,))
    tally.refused("percentile of NaN", partial(percentile, [1.0, math.nan], 50.0), "NaN", also=(ValueError,))
    nothing = json.dumps(summarise([], True))
    tally.holds("NaN" not in nothing and percentile([], 50.0) is None, "a summary of nothing")


FAULTS = (
    Fault(14, "disk full from some call of a verb on", "one line; with room again, the same bytes", full),
    Fault(15, "folders that are read-only, below a file, in /proc", "refused in one line at the start", locked_away),
    Fault(16, "several collections of one folder at once", "one works, the others name it", racing_collections),
    Fault(16, "several trainings in one folder at once", "one works, the others name it", racing_trainings),
    Fault(16, "several drives or benches of one folder", "one works, but shards do together", racing_benchmarks),
    Fault(18, "folders that hold something else", "refused, left as they are", foreign),
    Fault(54, "benchmark killed, then another agent in its folder", "whole lines; refused", benchmarks),
    Fault(54, "failed episodes, NaN, no episodes in the statistics", "failures count; no rate of nothing", counting),
)  # fmt: skip
