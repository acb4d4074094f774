"""What a model cost: from its own card or from a file that names it by its sha256, never from anywhere else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report_rows import EFFORT, efforts, read_rows
from benchmarks.report_suite import write_suite_report
from benchmarks.run import run
from tests.benchmarks.test_evaluation_run import SEED, subject
from tests.benchmarks.test_report_suite import holding
from worldmodel.bundle import fingerprint
from worldmodel.errors import ConfigError

TITLE = "Success and interactions"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a card of its effort, a baseline with one, and an agent that was not trained."""
    folder = tmp_path_factory.mktemp("effort")
    card = {"name": "inverse_dynamics", "sha256": "1" * 64, "decisions": 500, "configurations_tried": 4}
    taught = dataclasses.replace(subject(), agent="inverse_dynamics", planner=None, model=card)
    for name, made in (("a", subject()), ("b", taught), ("c", holding())):
        run(made, episodes=1, seed=SEED, out=folder / name)
    return folder


def costs(folder: Path) -> dict[str, tuple[Any, Any]]:
    return {
        row.folder.name: (row.interactions, row.summary["model"].get("configurations_tried"))
        for row in read_rows(folder)
    }


def test_what_nobody_recorded_is_not_made_up(suite: Path) -> None:
    assert costs(suite) == {"a": (None, None), "b": (500, 4), "c": (None, None)}
    assert TITLE in write_suite_report(suite).read_text(encoding="utf-8")


def test_a_file_beside_the_rows_tells_of_models_that_do_not(suite: Path) -> None:
    told = {"0" * 64: {"decisions": 9000, "configurations_tried": 7, "effort": "from <the> log book"}}
    told["1" * 64] = {"decisions": 1}  # what a card says of itself counts
    (suite / EFFORT).write_text(json.dumps(told))
    try:
        assert costs(suite) == {"a": (9000, 7), "b": (500, 4), "c": (None, None)}
        page = write_suite_report(suite).read_text(encoding="utf-8")
        assert "from &lt;the&gt; log book" in page
        assert "9,000" in page
    finally:
        (suite / EFFORT).unlink()


def test_without_a_trained_agent_there_is_no_axis_of_interactions(tmp_path: Path) -> None:
    run(holding(), episodes=1, seed=SEED, out=tmp_path / "c")
    assert TITLE not in write_suite_report(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "facts", [{"decisions": "many"}, {"decisions": -1}, {"trials": 3}, {"configurations_tried": 2.5}]
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    (tmp_path / EFFORT).write_text(json.dumps({"2" * 64: facts}))
    with pytest.raises(ConfigError, match="expected decisions and configurations_tried") as caught:
        efforts(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_shipped_model_is_told_of(tmp_path: Path) -> None:
    told = efforts(tmp_path)[fingerprint("jaco")]
    assert told["decisions"] == (6000 + 600 + 700) * 30  # as its card says
    assert "README.md" in told["effort"]
