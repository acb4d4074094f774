"""Many rows: each known by what decides it, none driven twice, and a run cut short ends like one that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_model import tiny_model

from benchmarks.run import run
from benchmarks.suite import Row, run_suite
from tests.benchmarks.test_evaluation_run import DRIVE, SEED, lines, subject
from worldmodel.bundle import save
from worldmodel.errors import ConfigError

HOLD = {**DRIVE, "agent": "hold", "episodes": 2}


def row(**settings: Any) -> Row:
    return Row(" ".join(f"{key}={value}" for key, value in settings.items()), {**HOLD, **settings}, "kept: true\n")


def timeless(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines(folder)]


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 6])
def test_a_run_that_was_cut_short_is_completed_to_the_same_lines(tmp_path: Path, cut: int) -> None:
    run(subject(), episodes=7, seed=SEED, out=tmp_path / "whole", parallel=3)
    run(subject(), episodes=7, seed=SEED, out=tmp_path / "cut", parallel=3)
    path = tmp_path / "cut" / "episodes.jsonl"
    text = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(text[:cut]) + text[cut][: len(text[cut]) // 2])  # the last line was being written
    (tmp_path / "cut" / "summary.json").unlink()
    summary = run(subject(), episodes=7, seed=SEED, out=tmp_path / "cut", parallel=3, resume=True)
    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")
    assert (summary["episodes"], summary["interrupted"]) == (7, False)
    kept = path.read_bytes().splitlines(keepends=True)[: cut // 3 * 3]
    assert kept == text[: cut // 3 * 3]  # complete batches are not driven again


def test_rows_are_driven_once_and_listed_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(seed=100_000), row(agent="random"), row(seed=100_002)]
    for shard in ("1/2", "0/2"):
        table = run_suite(rows, tmp_path, shard)
    text = table.read_text()
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:]] == [f"`{each.words}`" for each in rows]
    assert "| 2 |" in text
    assert (tmp_path / "index.html").is_file()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/episodes.jsonl")}
    assert len(before) == 3
    capsys.readouterr()
    assert run_suite(rows, tmp_path).read_text() == text
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/episodes.jsonl")}
    assert json.loads(next(tmp_path.glob("*random*/summary.json")).read_text())["agent"] == "random"


def test_a_row_is_what_decides_its_episodes(tmp_path: Path) -> None:
    torch_model = tiny_model()
    save(torch_model, tmp_path / "one", "# one")
    torch_model.tracker.origin.add_(1.0)
    save(torch_model, tmp_path / "two", "# two")
    planned = [row(agent="planning", model=str(tmp_path / name)).folder() for name in ("one", "two")]
    same = [row(threads=1).folder(), row(threads=2).folder(), row(out="elsewhere").folder()]
    others = [row(seed=3).folder(), row(parallel=2).folder(), row(agent="random").folder()]
    assert len(set(same)) == 1
    assert len({*planned, *same, *others}) == 6
    (tmp_path / "two" / "README.md").write_text("another card")
    assert row(agent="planning", model=str(tmp_path / "two")).folder() == planned[1]


@pytest.mark.parametrize(
    ("section", "key", "concerned", "others"),
    [
        ("planner", "name", ["planning", "oracle"], ["hold", "random"]),
        ("planning", "horizon", ["planning"], ["oracle", "hold"]),
        ("oracle", "rest", ["oracle"], ["planning", "hold"]),
    ],
)
def test_a_setting_makes_another_row_of_the_agents_it_concerns(
    section: str, key: str, concerned: list[str], others: list[str]
) -> None:
    changed = {section: {**DRIVE[section], key: "another"}}
    for agents, differ in ((concerned, True), (others, False)):
        for agent in agents:
            assert (row(agent=agent).folder() != row(agent=agent, **changed).folder()) is differ
    later = {section: {**DRIVE[section], "came_later": None}}
    assert row(agent="planning").folder() == row(agent="planning", **later).folder()


@pytest.mark.parametrize("shard", ["1/1", "2", "a/b", "-1/2", ""])
def test_impossible_shards_are_refused(tmp_path: Path, shard: str) -> None:
    with pytest.raises(ConfigError, match="expected shard=i/n"):
        run_suite([row()], tmp_path, shard)


def test_the_same_row_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected rows that differ"):
        run_suite([row(), row(threads=2)], tmp_path)
