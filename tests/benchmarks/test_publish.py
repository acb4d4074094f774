"""What the documents say was measured is what the packed rows beside them say, and packing loses nothing."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from benchmarks.latency import LATENCY
from benchmarks.latency_table import lines
from benchmarks.publish import DOCS, keys, main, pack, publish
from benchmarks.report_rows import read_rows
from benchmarks.suite import TABLE, line, run_suite
from benchmarks.summary import summarise
from tests.benchmarks.test_suite import row as tiny_row

ARCHIVES = sorted((DOCS / "rows").glob("*.tar.xz"))


def unpacked(archive: Path, out: Path) -> Path:
    with tarfile.open(archive) as packed:
        for entry in packed:  # extractall has its filter only since Python 3.11.4
            content = packed.extractfile(entry)
            assert content is not None
            (out / entry.name).parent.mkdir(parents=True, exist_ok=True)
            (out / entry.name).write_bytes(content.read())
    return out


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def test_every_number_in_the_documents_follows_from_the_packed_episodes(archive: Path, tmp_path: Path) -> None:
    table = (unpacked(archive, tmp_path) / TABLE).read_text(encoding="utf-8")
    name = archive.name.partition(".")[0]
    assert f"<!-- rows: {name} -->\n{table}<!-- end of rows -->" in (DOCS / "results.md").read_text(encoding="utf-8")
    if (tmp_path / LATENCY).is_file():
        measured = json.loads((tmp_path / LATENCY).read_text(encoding="utf-8"))
        assert table == "\n".join(lines(measured)) + "\n"
        return
    found = {each.folder.name: each for each in read_rows(tmp_path)}
    words = keys(table)
    assert len(words) == len(found)
    for folder, row in found.items():
        again = {**row.summary, **summarise(row.lines, goal_known=True)}
        assert line(words[folder.rpartition("-")[2]], again, folder) in table.splitlines()
        assert len(row.lines) == row.summary["episodes"]


def test_a_suite_is_published_and_its_archive_is_the_same_every_time(tmp_path: Path) -> None:
    suite, docs = tmp_path / "mine", tmp_path / "docs"
    run_suite([tiny_row(seed=100_000), tiny_row(agent="random")], suite, config="name: mine\n")
    docs.mkdir()
    (docs / "results.md").write_text("before\n<!-- rows: mine -->\nold\n<!-- end of rows -->\nafter\n")
    first = publish(suite, docs).read_bytes()
    table = (suite / TABLE).read_text()
    text = (docs / "results.md").read_text()
    assert text == f"before\n<!-- rows: mine -->\n{table}<!-- end of rows -->\nafter\n"
    again = unpacked(docs / "rows" / "mine.tar.xz", tmp_path / "again")
    assert [each.summary for each in read_rows(again)] == [each.summary for each in read_rows(suite)]
    assert [each.lines for each in read_rows(again)] == [each.lines for each in read_rows(suite)]
    pack(again, tmp_path / "second.tar.xz")
    assert (tmp_path / "second.tar.xz").read_bytes() == first


def test_what_the_probes_read_is_packed_and_said() -> None:
    with tarfile.open(DOCS / "rows" / "probes.tar.xz") as packed:
        found = [packed.extractfile(entry) for entry in packed if entry.name.startswith("probes-")]
        read = {each["task"]: each for each in (json.load(content) for content in found if content is not None)}
    assert sorted(read) == ["jaco_push", "jaco_reach"]
    reach, push = (read[task]["probe_errors_cm"] for task in ("jaco_reach", "jaco_push"))
    words = [f"{each['linear']:.1f} and {each['mlp']:.1f}" for each in (reach["hand"], push["hand"], push["object"])]
    said = f"read the hand to {words[0]} cm on reach, to {words[1]} on push, the cube to {words[2]} (saying the mean:"
    assert said in (DOCS / "results.md").read_text(encoding="utf-8")


def test_what_cannot_be_published_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "worldmodel bench" in capsys.readouterr().err
    (tmp_path / TABLE).write_text("a\nb\n")
    before = (DOCS / "results.md").read_bytes()
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert tmp_path.name in error
    assert (DOCS / "results.md").read_bytes() == before
