"""Measured rows become documents: `python -m benchmarks.publish DIR` packs the rows of a suite and copies its table.

docs/rows/NAME.tar.xz holds what every number of the table was computed from: settings, summary and episodes of each
row, what probes read, or the seconds of the latency suite. Unpacked, it is a folder that `worldmodel report` reads.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency import LATENCY
from benchmarks.report_probes import FILE
from benchmarks.suite import SUMMARY, TABLE
from worldmodel.errors import ConfigError
from worldmodel.storage import atomic_file

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT = ("config.yaml", SUMMARY, "episodes.jsonl")


def keys(table: str) -> dict[str, str]:
    """The words of each row of a table.md, by its key."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {row[-1]: row[0].strip("`") for row in cells}


def pack(folder: Path, archive: Path) -> None:
    """Write the rows of folder/table.md to a tar archive that depends on nothing but their bytes."""
    files = [folder / TABLE, folder / "config.yaml"]
    if (folder / LATENCY).is_file():
        files.append(folder / LATENCY)
    else:
        rows = [_row(folder, key) for key in keys((folder / TABLE).read_text(encoding="utf-8"))]
        files += [row / name for row in sorted(rows) for name in KEPT] + sorted(folder.glob(FILE))
    archive.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(archive) as temporary, tarfile.open(temporary, "w:xz") as packed:
        for path in files:
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                packed.addfile(entry, content)


def with_table(text: str, name: str, table: str) -> str:
    """The document with the table between its marks. Raises ConfigError where it has none of that name."""
    marks = rf"(<!-- rows: {re.escape(name)} -->\n).*?(<!-- end of rows -->)"
    new, count = re.subn(marks, lambda found: found[1] + table + found[2], text, flags=re.DOTALL)
    if count != 1:
        raise ConfigError(
            f"expected one pair of marks '<!-- rows: {name} -->' in docs/results.md, got {count}: add them"
        )
    return new


def publish(folder: Path, docs: Path = DOCS) -> Path:
    """Pack the rows of a suite's folder and put its table into docs/results.md; returns the archive's path."""
    if not (folder / TABLE).is_file():
        raise ConfigError(
            f"expected a folder that `worldmodel bench` wrote, got no {folder / TABLE}: run the suite first"
        )
    page, archive = docs / "results.md", docs / "rows" / f"{folder.name}.tar.xz"
    text = with_table(page.read_text(encoding="utf-8"), folder.name, (folder / TABLE).read_text(encoding="utf-8"))
    pack(folder, archive)
    with atomic_file(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return archive


def _row(folder: Path, key: str) -> Path:
    (found,) = folder.glob(f"*-{key}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of a suite, as bench wrote it")
    for folder in parser.parse_args(arguments).folders:
        try:
            print(publish(folder))
        except ConfigError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
