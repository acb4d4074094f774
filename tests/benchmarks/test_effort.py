"""What a model cost: from its own card or from a file that names it by its sha256, never from anywhere else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report import write_report
from benchmarks.report_rows import EFFORT, efforts, read_rows
from benchmarks.report_suite import write_suite_report
from benchmarks.run import run
from tests.benchmarks.test_evaluation_run import SEED, subject
from tests.benchmarks.test_report_suite import holding
from worldmodel.bundle import fingerprint
from worldmodel.data.table import Table
from worldmodel.encoders import load_encoder
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
    with pytest.raises(ConfigError, match="expected decisions, encoder_decisions, configurations_tried") as caught:
        efforts(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_shipped_model_is_told_of(tmp_path: Path) -> None:
    told = efforts(tmp_path)[fingerprint("jaco")]
    assert told["decisions"] == len(learned(6000 + 600)) * 30  # as its card says
    assert told["encoder_decisions"] == len(learned(6000 + 600 + 700)) * 30
    assert "README.md" in told["effort"]
    assert (told["configurations_tried_at_least"], told.get("configurations_tried")) == (48, None)
    encoder = load_encoder("shipped")
    assert told["pixels"] == encoder.image_size
    assert efforts(tmp_path)[encoder.sha256()]["encoder_decisions"] == told["encoder_decisions"]
    rooms = efforts(tmp_path)[fingerprint("navigate")]
    assert rooms["decisions"] == rooms["encoder_decisions"] == len(learned(800)) * 60


def learned(episodes: int) -> np.ndarray:
    """The episodes of so many that training learns from: what baselines count, too."""
    return Table(*(np.zeros(0),) * 4, np.arange(episodes)).split()[0]


def test_an_encoder_that_several_share_is_told_of_once(tmp_path: Path) -> None:
    card = {"name": "dreamerv3", "sha256": "3" * 64, "encoder_sha256": "4" * 64, "decisions": 500}
    run(dataclasses.replace(subject(), model=card), episodes=1, seed=SEED, out=tmp_path / "d")
    told = {
        "4" * 64: {"encoder_decisions": 7777, "effort": "of the encoder"},
        "3" * 64: {"configurations_tried_at_least": 5},
    }
    (tmp_path / EFFORT).write_text(json.dumps(told))
    page = write_suite_report(tmp_path).read_text(encoding="utf-8")
    for shown in ("7,777", "at least 5", ">500<", "of the encoder"):
        assert shown in page


def test_the_arms_of_one_agent_are_told_apart(tmp_path: Path) -> None:
    """D3, D2, and D4, which no row may be compared with unawares."""
    common = {"name": "dreamerv3", "size": "1M", "steps": 5000}
    cards = {
        "d3": {
            "sha256": "3" * 64,
            **common,
            "sees": "features",
            "reward": "success",
            "pixels": 128,
            "parameters": 987654,
        },
        "d2": {"sha256": "2" * 64, **common, "sees": "pixels", "reward": "success", "pixels": 64},
        "d4": {"sha256": "4" * 64, **common, "sees": "pixels", "reward": "task", "privileged": "the <task's> reward"},
    }
    for name, card in cards.items():
        made = dataclasses.replace(subject(), agent="dreamerv3", planner=None, model=card)
        run(made, episodes=1, seed=SEED, out=tmp_path / name)
    names = {row.folder.name: row.name for row in read_rows(tmp_path)}
    assert names["d3"] == "dreamerv3, reward success, sees features"
    assert names["d2"] == "dreamerv3, reward success, sees pixels"
    assert names["d4"] == "dreamerv3, privileged the <task's> reward, reward task, sees pixels"
    for page in (write_suite_report(tmp_path), write_report(tmp_path)):
        text = page.read_text(encoding="utf-8")
        assert text.count('class="tag bad">privileged: the &lt;task&#x27;s&gt; reward<') == 1
        for badge in ("features, 128 px", "pixels, 64 px", "reward success", "reward task", "size 1M", "5,000 steps"):
            assert f'class="tag none">{badge}<' in text
    assert ">987,654<" in write_suite_report(tmp_path).read_text(encoding="utf-8")
    twin = {**cards["d3"], "sha256": "5" * 64}  # another seed
    run(
        dataclasses.replace(subject(), agent="dreamerv3", planner=None, model=twin),
        episodes=1,
        seed=SEED,
        out=tmp_path / "e",
    )
    assert {row.folder.name: "model 33333333" in row.name for row in read_rows(tmp_path)}["d3"]
