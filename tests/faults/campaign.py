"""The fault campaign: `python -m tests.faults.campaign` injects every fault of the list and prints one table."""

from __future__ import annotations

import argparse
import datetime
import importlib
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.breaks import BREAKS
from tests.faults.harness import ROOT, Child, Fault, Lab, Tally, measure

GROUPS = (
    "kills", "saves", "checkpoints", "bundles", "data_files", "data_values", "training", "planner", "outputs",
    "simulator", "commands",
)  # fmt: skip
COLUMNS = {
    "injected": "injected", "detected": "detected", "harmless": "harmless", "silent": "silently accepted",
    "hung": "hung", "wrong": "wrong message",
}  # fmt: skip
PAGE = ROOT / "docs/reliability.md"
WARM = (
    "transformers", "worldmodel.cli", "worldmodel.training.run", "worldmodel.pretrain.run", "worldmodel.data.collect",
    "gymnasium", "envs", "benchmarks.drive", "PIL.Image", "pyarrow.parquet",
)  # fmt: skip


def chosen(only: str, off: str | None) -> list[Fault]:
    """The faults of the list in the order of their numbers: all, those asked for, or those that must notice `off`."""
    wanted = set(filter(None, only.split(",")))
    found = []
    for group in GROUPS:
        for fault in importlib.import_module(f"tests.faults.{group}").FAULTS:
            asked = {group, str(fault.number)} & wanted if wanted else off is None or off in fault.guards
            found += [fault] if asked else []
    return sorted(found, key=lambda fault: fault.number)


def warm_up() -> None:
    """Import once what every child needs; nothing is computed, so that children can be forked."""
    for name in WARM:
        importlib.import_module(name)
    from transformers import AutoModel, VJEPA2Model  # noqa: F401


def verdict(fault: Fault, tally: Tally | None) -> str:
    """green | red | error (of the check itself) | open (a known defect) | mended (no longer open: unmark it)."""
    if tally is None:
        return "absent"
    if tally.failed:
        return "error"
    if fault.open:
        return "mended" if tally.green() else "open"
    return "green" if tally.green() else "red"


def line(fault: Fault, tally: Tally | None) -> str:
    """One row of the table."""
    cells = ["–"] * (len(COLUMNS) + 1)
    if tally is not None:
        exact = f"{tally.exact}/{tally.resumed}" if tally.resumed else "–"
        cells = [*(str(getattr(tally, name)) for name in COLUMNS), exact]
    return f"| {fault.number} | {fault.name} | {' | '.join(cells)} | {verdict(fault, tally)} |"


def campaign(faults: list[Fault], lab: Lab) -> tuple[list[str], set[str]]:
    """Inject the faults one after another; the table, and its verdicts."""
    names = ["#", "fault", *COLUMNS.values(), "resume exact", "verdict"]
    rows, verdicts, sums = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"], set[str](), Tally()
    print("\n".join(rows))
    for fault in faults:
        began = time.monotonic()
        tally = None if fault.check is None else measure(fault, lab, 36000.0 if lab.full else 300.0)
        verdicts.add(verdict(fault, tally))
        rows.append(line(fault, tally))
        print(rows[-1], flush=True)
        if tally is not None and not fault.open:
            for name in (*COLUMNS, "exact", "resumed"):
                setattr(sums, name, getattr(sums, name) + getattr(tally, name))
        print(f"  {time.monotonic() - began:.0f} s", *(tally.notes[:8] if tally else []), sep="\n  ", file=sys.stderr)
    total = [str(getattr(sums, name)) for name in COLUMNS]
    rows.append(f"| | all but the open ones | {' | '.join(total)} | {sums.exact}/{sums.resumed} | |")
    print(rows[-1])
    return rows, verdicts


def remarks(faults: list[Fault]) -> list[str]:
    """What is expected of each fault, which defects are known, and why some faults cannot happen."""
    lines = [f"* {f.number}, {f.name}: open, {f.open}." for f in faults if f.open]
    lines += [f"* {f.number}, {f.name}: absent, {f.absent}." for f in faults if f.check is None]
    return [*lines, "", "| # | fault | expected |", "|---|---|---|", *(
        f"| {f.number} | {f.name} | {f.expected} |" for f in faults if f.check is not None
    )]  # fmt: skip


def write(name: str, lines: list[str]) -> None:
    """Put date, command and lines between the marks of that name in docs/reliability.md."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = " ".join(["python -m tests.faults.campaign", *(sys.argv[1:])])
    body = "\n".join([f"Date: {date}. Command: `{command}`.", "", *lines])
    text = PAGE.read_text(encoding="utf-8")
    marks = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    new = re.sub(marks, lambda found: f"{found[1]}{body}\n{found[2]}", text, flags=re.DOTALL)
    PAGE.write_text(new, encoding="utf-8")


def broken(off: str, only: str, full: bool) -> tuple[bool, list[str]]:
    """Run with one protection switched off, in a child of its own; whether the table turned red, and which rows."""

    def work() -> int:
        BREAKS[off]()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            verdicts = campaign(chosen(only, off), Lab(Path(folder), full))[1]
            return 0 if verdicts == {"red"} else 1  # each of them guards it

    ended = Child(work).wait(36000.0 if full else 300.0)
    print(ended.out, end="")
    print(ended.err, end="", file=sys.stderr)
    print(f"\n{off} switched off: {'red, as it must be' if ended.status == 0 else 'not noticed, which is wrong'}\n")
    red = [line.split(" | ")[1] for line in ended.out.splitlines() if line.endswith("| red |")]
    return ended.status == 0, red


def all_broken(only: str, full: bool) -> tuple[bool, list[str]]:
    """Every protection switched off, one after another: whether each was noticed, and the table of it."""
    rows, noticed = ["| switched off | rows that turn red | verdict |", "|---|---|---|"], True
    for off in BREAKS:
        seen, red = broken(off, only, full)
        noticed = noticed and seen
        rows.append(f"| `{off}` | {'; '.join(red)} | {'noticed' if seen else 'not noticed'} |")
    print("\n".join(rows))
    return noticed, rows


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 0 where everything is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the long form: hundreds of kills, thousands of mutations")
    parser.add_argument("--only", default="", help="numbers or groups, separated by commas")
    parser.add_argument(
        "--break", dest="off", choices=[*BREAKS, "all"], help="switch a protection off; 0 if the table turns red"
    )
    parser.add_argument(
        "--plain", action="store_true", help="kill a loop that uses torch.save in place, for comparison"
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    given = parser.parse_args(arguments)
    warm_up()
    if given.off == "all":
        noticed, rows = all_broken(given.only, given.full)
        if given.write:
            write("breaks", rows)
        return int(not noticed)
    if given.off:
        return int(not broken(given.off, given.only, given.full)[0])
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        lab = Lab(Path(folder), given.full)
        if given.plain:
            from tests.faults.plain import compare

            rows = [
                "| saving | kills | lost or unreadable | other weights at the end | exact |",
                "|---|---|---|---|---|",
                compare(lab, lab.times(20, 200)),
            ]
            print("\n".join(rows))
            if given.write:
                write("plain", rows)
            return 0
        faults = chosen(given.only, None)
        rows, verdicts = campaign(faults, lab)
    if given.write:
        write("table", [*rows, "", *remarks(faults)])
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{len(faults)} rows, {used:.0f} s of processor time", file=sys.stderr)
    return int(bool(verdicts & {"red", "error", "mended"}))


if __name__ == "__main__":
    sys.exit(main())
