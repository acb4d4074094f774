"""The page of a suite: what it says, what it leaves out, and what a real browser makes of it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.agents import HoldAgent
from benchmarks.report_figures import pareto
from benchmarks.report_rows import pairs, read_rows
from benchmarks.report_suite import report, write_suite_report
from benchmarks.run import Subject, run
from benchmarks.stats import mcnemar
from tests.benchmarks.test_evaluation_page import Page
from tests.benchmarks.test_evaluation_run import SEED, subject
from worldmodel.cli import main
from worldmodel.errors import ConfigError

FIGURES, PICTURES = 3, 3 + 1  # of the suite below: strips of its three filmed episodes, and one forecast
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def holding(**options: Any) -> Subject:
    none = {"name": None, "sha256": None}
    base = subject(lambda env: HoldAgent(3), **options)
    return dataclasses.replace(base, agent="hold", planner=None, model=none, settings={})


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows: one that solves all but a broken episode, with films; one that solves nothing; one half of it."""
    folder = tmp_path_factory.mktemp("suite")
    broken = {"fault": "raises", "fault_seed": SEED + 1}
    run(subject(**broken), episodes=3, seed=SEED, out=folder / "a", video=True, config="# worldmodel drive <a>\n")
    run(holding(), episodes=3, seed=SEED, out=folder / "b")
    run(holding(), episodes=2, seed=SEED + 1, out=folder / "c")
    Image.new("RGB", (64, 32), "red").save(folder / "a" / "forecast.png")
    return folder


@pytest.fixture(scope="module")
def text(suite: Path) -> str:
    return report(data=suite).read_text(encoding="utf-8")


def test_the_page_says_what_was_measured(suite: Path, text: str) -> None:
    page = Page(text.replace("<script>", "<style>").replace("</script>", "</style>"))
    assert "planning (cem)67%21 to 94" in page.text  # two of three, with its Wilson interval
    assert f"hold, seeds from {SEED}" in page.text
    assert f"hold, seeds from {SEED + 1}" in page.text
    assert "environment at decision 3: RuntimeError: the world broke" in page.text
    assert "worldmodel drive <a>" in page.text
    summary = json.loads((suite / "a" / "summary.json").read_text())
    assert summary["protocol"]["sha256"] in page.text
    assert f"torch {summary['versions']['torch']}" in page.text
    assert [reference.partition(";")[0] for reference in page.references].count("data:image/jpeg") == PICTURES


def test_the_page_needs_no_other_file(suite: Path, text: str) -> None:
    assert all(reference.startswith("data:image/") for reference in Page(text).references)
    assert not re.search(r"url\(|@import|<link|src=\"(?!data:)", text)
    assert write_suite_report(suite).read_text(encoding="utf-8") == text  # the same bytes for the same results


def test_failed_episodes_come_first(text: str) -> None:
    order = [int(seed) for seed in re.findall(r"<header><b>seed (\d+)", text)]
    assert order[0] == SEED + 1
    assert sorted(order) == [SEED, SEED + 1, SEED + 2]


def test_rows_are_compared_on_the_seeds_they_share(suite: Path) -> None:
    rows = read_rows(suite)
    found = {(pair.first.folder.name, pair.second.folder.name): pair for pair in pairs(rows)}
    assert {names: pair.seeds for names, pair in found.items()} == {("a", "b"): 3, ("a", "c"): 2, ("b", "c"): 2}
    assert found["a", "b"].success == mcnemar([True, False, True], [False] * 3)
    distance = found["a", "b"].distance
    assert distance is not None
    assert distance.mean < 0  # over the two seeds on which neither failed
    other = {**rows[0].summary, "protocol": {"version": 2, "sha256": "1" * 64}}
    elsewhere = dataclasses.replace(rows[0], summary=other)
    assert pairs([elsewhere, rows[1]]) == []
    guarded = {**rows[0].summary, "planner_settings": {"guardrails": {"keep_out": 0.3}}}
    assert pairs([dataclasses.replace(rows[0], summary=guarded), rows[1]]) == []


def test_success_over_decisions_never_falls(suite: Path) -> None:
    row = read_rows(suite)[0]
    shares = row.reached_within()
    assert len(shares) == row.summary["budget"] + 1
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, pytest.approx(2 / 3))


def test_the_front_is_what_nothing_beats() -> None:
    assert pareto([(3, 5), (1, 2), (2, 1), (4, 5), (2, 4)]) == [(1, 2), (2, 4), (3, 5)]
    assert pareto([(1, 1), (1, 3)]) == [(1, 3)]


def test_what_users_named_is_escaped(tmp_path: Path) -> None:
    nasty = dataclasses.replace(holding(), task='<script>alert("1")</script>')
    run(nasty, episodes=1, seed=SEED, out=tmp_path / "row", config='# <img src="x">\n')
    text = write_suite_report(tmp_path).read_text(encoding="utf-8")
    assert text.count("<script") == 1
    assert (
        '<script>alert("1")</script>'
        in Page(text.replace("<script>\n", "<style>").replace("</script>", "</style>")).text
    )


def test_the_verb(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(suite / "b", tmp_path / "few" / "b")
    for words in (["report", str(tmp_path / "few")], ["report", f"data={tmp_path / 'few'}"]):
        assert main(words) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / "few" / "index.html")
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "drive first" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "give data=DIR" in capsys.readouterr().err
    shutil.copytree(suite / "a", tmp_path / "single")
    assert "<video" in report(data=tmp_path / "single").read_text()  # one result keeps its films
    with pytest.raises(ConfigError):
        read_rows(tmp_path / "absent")


PROBE = """<script>
addEventListener("load", () => {
  const table = document.querySelector("table.sortable"), said = {};
  const column = (index) => [...table.tBodies[0].rows].map((row) => row.cells[index].textContent);
  const press = (index) => { table.tHead.rows[0].cells[index].querySelector("button").click(); return column(index); };
  said.names = [press(0), press(0)];
  said.rates = [press(1), press(1)];
  said.sorted = [...table.tHead.rows[0].cells].map((head) => head.getAttribute("aria-sort"));
  const images = [...document.images];
  said.images = images.map((image) => image.complete && image.naturalWidth > 0);
  const result = document.createElement("pre");
  result.id = "said";
  result.textContent = JSON.stringify(said);
  document.body.append(result);
});
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: install it to see the page in a real browser")
def test_in_a_browser(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", PROBE), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    flags += ["--virtual-time-budget=10000", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [str(CHROMIUM), *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    (said,) = re.findall(r'<pre id="said">(.*?)</pre>', done.stdout, re.DOTALL)
    found = json.loads(said)
    names = [f"hold, seeds from {SEED}", f"hold, seeds from {SEED + 1}", "planning (cem)"]
    assert found["names"] == [names, names[::-1]]
    rates = [["".join(re.findall(r"^\d+%", cell)) for cell in column] for column in found["rates"]]
    assert rates == [["0%", "0%", "67%"], ["67%", "0%", "0%"]]
    assert found["sorted"][:3] == ["none", "descending", "none"]
    assert found["images"] == [True] * (FIGURES + PICTURES)
