"""Rows in shifted looks: known by their look, compared with the standard one of the same agent, shown beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.drive import drive
from benchmarks.report_rows import pairs, read_rows
from benchmarks.report_shifts import shifts
from benchmarks.report_suite import write_suite_report
from benchmarks.run import run
from benchmarks.suite import Row
from tests.benchmarks.test_evaluation_run import DRIVE, SEED, subject
from tests.benchmarks.test_report_suite import holding
from tests.benchmarks.test_suite import HOLD, row
from worldmodel.cli import driven
from worldmodel.cli_options import Options

FAULT = {"fault": "raises", "fault_seed": SEED}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One agent in the standard look, which it solves, and in another, in which it fails once; one in one look only."""
    folder = tmp_path_factory.mktemp("looks")
    for name, shift, made in (
        ("a", None, subject()),
        ("b", "lighting", subject(**FAULT)),
        ("c", "camera", holding()),
    ):
        run(dataclasses.replace(made, variant={"shift": shift}), episodes=2, seed=SEED, out=folder / name)
    return folder


def test_an_agent_is_compared_with_itself_in_another_look(suite: Path) -> None:
    found = pairs(read_rows(suite))
    assert [{pair.first.folder.name, pair.second.folder.name} for pair in found] == [{"a", "b"}]
    assert {found[0].success.only_first, found[0].success.only_second} == {0, 1}


def test_looks_stand_side_by_side(suite: Path) -> None:
    head, body, _ = shifts(read_rows(suite))
    assert head[:3] == ["task", "agent", "standard"]
    assert set(head[3:]) == {"lighting", "camera"}
    (line,) = body  # the agent of one look has nothing to stand beside
    values = dict(zip(head, (value for _, value in line), strict=True))
    assert values == {"task": "tiny", "agent": "planning (cem)", "standard": 1.0, "lighting": 0.5, "camera": None}
    assert "p 1" in dict(zip(head, (text for text, _ in line), strict=True))["lighting"]
    page = write_suite_report(suite).read_text(encoding="utf-8")
    assert "<h2>Looks</h2>" in page
    assert "shift lighting" in page


def test_without_shifts_there_is_no_table_of_looks(tmp_path: Path) -> None:
    run(subject(), episodes=1, seed=SEED, out=tmp_path / "a")
    assert "<h2>Looks</h2>" not in write_suite_report(tmp_path).read_text(encoding="utf-8")


def test_a_look_is_part_of_the_row_and_rows_from_before_there_were_any_are_kept() -> None:
    before = Row("", {key: value for key, value in HOLD.items() if key != "shift"}, "")
    assert row(shift=None).folder() == before.folder()
    assert len({row(shift=shift).folder() for shift in (None, "camera", "colour")}) == 3


def test_the_command_shows_the_agent_the_shifted_world(tmp_path: Path) -> None:
    settings = {**DRIVE, "agent": "hold", "episodes": 1, "seed": 100_000}
    plain = drive(**{**settings, "out": tmp_path / "plain", "video": True})
    dark = drive(**{**settings, "out": tmp_path / "dark", "video": True, "shift": "lighting"})
    assert (plain["variant"]["shift"], dark["variant"]["shift"]) == (None, "lighting")
    assert plain["final_distance_m"] == dark["final_distance_m"]
    strips = [(tmp_path / name / "videos" / "100000.png").read_bytes() for name in ("plain", "dark")]
    assert strips[0] != strips[1]


def test_the_suite_has_every_look_beside_the_standard_one() -> None:
    suite = Options("bench").compose(["suite=shifts"])["suite"]
    common = {key: suite[key] for key in ("episodes", "seed", "parallel")}
    found = [driven(words, common, None)["settings"] for words in suite["rows"]]
    looks = {(each["task"]["name"], each["shift"]) for each in found}
    names = (None, "lighting", "camera", "colour", "distractor")
    assert looks == {(task, look) for task in ("jaco_reach", "jaco_push") for look in names}
    assert json.dumps(common) == '{"episodes": 100, "seed": 100000, "parallel": 10}'
