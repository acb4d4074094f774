"""Faults 1, 2, 3, 17 and 27: processes that die, at any instant, and the same command again."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Any

from tests.faults import toy
from tests.faults.harness import Child, Fault, Lab, Tally, one_line_error, run
from tests.faults.interrupt import Watch, die


def killed_at_random(which: str, count: int, tally: Tally, lab: Lab) -> None:
    """SIGKILL uniformly in the wall time of a whole run from a cold cache; then the same command again."""
    wanted, rng = toy.tree(toy.whole(which, lab)), random.Random(which)
    length = toy.start(which, lab, toy.cold(which, lab)).wait().seconds
    while count:
        out = toy.cold(which, lab)
        child = toy.start(which, lab, out)
        status = child.wait_or_kill(rng.uniform(0.0, length))
        if status != -signal.SIGKILL:
            continue  # it was done before
        count -= 1
        again(which, tally, lab, out, wanted, "killed at random")


def again(which: str, tally: Tally, lab: Lab, out: Path, wanted: dict[str, str], note: str) -> None:
    """Run the command once more and compare what it leaves with an uninterrupted run."""
    ended = toy.start(which, lab, out).wait()
    if ended.status or ended.hung:
        said = one_line_error(ended) or ended.err.strip().splitlines()[-1]
        tally.count("hung" if ended.hung else "wrong", f"{which}, {note}: the same command ended with {said}")
        tally.resume(False, f"{which}, {note}")
        return
    tally.count("detected")
    found = toy.tree(out)
    tally.resume(found == wanted, f"{which}, {note}: {toy.differing(found, wanted)}")
    shutil.rmtree(out.parent)


def training(tally: Tally, lab: Lab) -> None:
    killed_at_random("train", lab.times(1, 150), tally, lab)
    killed_at_random("pretrain", lab.times(1, 50), tally, lab)


def caching(tally: Tally, lab: Lab) -> None:
    """At the first sign of frames, and of features, in the cache beside the data."""
    moments = (("train", "features"), ("pretrain", "frames"), ("train", "frames")) * lab.times(1, 5)
    for which, name in moments[: lab.times(1, len(moments))]:
        wanted, out = toy.tree(toy.whole(which, lab)), toy.cold(which, lab)
        child = toy.start(which, lab, out)
        child.wait_for(lambda out=out, name=name: any((out.parent / ".cache").glob(f"*{name}-*")))  # type: ignore[misc]
        child.kill()
        assert child.wait().status == -signal.SIGKILL
        again(which, tally, lab, out, wanted, f"killed with {name} in the cache")


def collecting(tally: Tally, lab: Lab) -> None:
    killed_at_random("collect", lab.times(1, 50), tally, lab)


def calls_of(which: str, lab: Lab) -> int:
    """How many file-system calls a whole run makes in its own folder."""
    out, report = lab.fresh(which), lab.fresh("calls")

    def counted() -> int:
        watch = Watch(out)
        status = toy.act(which, lab, out)
        report.write_text(str(len(watch.calls)))
        return status

    assert run(counted).status == 0
    return int(report.read_text())


def at_calls(which: str, lab: Lab, tally: Tally, step: int) -> None:
    """The whole verb, killed at every `step`-th file-system call, and at each of the last ones."""
    toy.prepare(which, lab)
    wanted, total = toy.tree(toy.whole(which, lab)), calls_of(which, lab)
    for number in range(1, total + 1, step):
        out = lab.fresh(which)

        def stopped(number: int = number, out: Path = out) -> Any:
            Watch(out, number, die)
            return toy.act(which, lab, out)

        assert run(stopped).status == -signal.SIGKILL
        again(which, tally, lab, out, wanted, f"killed at call {number} of {total}")


def every_call(tally: Tally, lab: Lab) -> None:
    for which in ("pretrain", "train"):
        at_calls(which, lab, tally, lab.times(200, 1))


def at_the_end(tally: Tally, lab: Lab) -> None:
    """Between the result and the report that says so, and between that and the removal of the checkpoints."""
    for which, name in (
        ("pretrain", "encoder"),
        ("pretrain", "health.json"),
        ("train", "model"),
        ("train", "report.json"),
    ):
        after(which, f"/{name}", tally, lab)


def in_the_middle(tally: Tally, lab: Lab) -> None:
    """Just after a checkpoint: where it was in the data, and in its random numbers, must not be lost."""
    for which in ("pretrain", "train"):
        after(which, "/step-00000010" if which == "pretrain" else "joint/step-00000006", tally, lab)


def after(which: str, name: str, tally: Tally, lab: Lab) -> None:
    """Kill the verb at the first call after the rename to `name`."""
    toy.prepare(which, lab)
    wanted, out = toy.tree(toy.whole(which, lab)), lab.fresh(which)

    def stopped() -> Any:
        watch = Watch(out)

        def when() -> None:
            if watch.calls[-1][1].endswith(name) and watch.calls[-1][0] == "rename":
                watch.stop_at(len(watch.calls) + 1, die)

        watch.at_each(when)
        return toy.act(which, lab, out)

    assert run(stopped).status == -signal.SIGKILL
    again(which, tally, lab, out, wanted, f"killed after {name}")


def signals(tally: Tally, lab: Lab) -> None:
    """SIGINT: 130 and one line. SIGTERM: the system's own end. The same command goes on."""
    rng = random.Random(3)
    for number in (signal.SIGINT, signal.SIGTERM) * lab.times(1, 10):
        toy.prepare("train", lab)
        out = lab.fresh("train")
        child: Child = toy.start("train", lab, out)
        child.wait_for(lambda out=out: any(out.glob("checkpoints/*/step-*")))
        child.kill(number)
        ended = child.wait()
        legal = ended.status in ((130,) if number == signal.SIGINT else (-number, 143))
        said = "goes on from there" in ended.err or number == signal.SIGTERM
        tally.count("detected" if legal and said and "Traceback" not in ended.err else "wrong", f"{number}: {ended}")
        again("train", tally, lab, out, toy.tree(toy.whole("train", lab)), f"signal {number} after {rng.random()}")


def stale_lock(tally: Tally, lab: Lab) -> None:
    """The lock file of a killed collection is left, and stops nobody."""
    out = lab.fresh("collect")
    child = toy.start("collect", lab, out)
    child.wait_for(lambda: any(out.glob("meta/collect/episode-*.json")))
    child.kill()
    child.wait()
    assert (out / "collect.lock").exists()
    again("collect", tally, lab, out, toy.tree(toy.whole("collect", lab)), "stale lock")


SAME = "the same command ends with the same bytes"
FAULTS = (
    Fault(1, "SIGKILL at a random instant of pretrain and train", SAME, training),
    Fault(1, "SIGKILL while frames and features are cached", SAME, caching),
    Fault(2, "SIGKILL at file-system calls of pretrain and train", SAME, every_call),
    Fault(2, "SIGKILL between the result, its report and the end", SAME, at_the_end),
    Fault(3, "SIGINT, SIGTERM", "130 with one line, or the system's end; the same bytes", signals),
    Fault(12, "position in the data and random numbers after a kill", "the same bytes", in_the_middle,
          guards=("rng", "sampler")),
    Fault(17, "lock left by kill -9", "released by the kernel; the same command continues", stale_lock),
    Fault(27, "SIGKILL at a random instant of collect", SAME, collecting),
)  # fmt: skip
