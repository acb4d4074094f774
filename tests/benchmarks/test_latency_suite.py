"""`worldmodel bench suite=latency` with toy sizes: what it measures, what it writes, and what it refuses."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from tiny_model import tiny_model

from benchmarks.bench import SUITES
from benchmarks.latency import FOREIGN, Row, latency
from benchmarks.latency_subjects import has_swm
from benchmarks.latency_table import ratio, targets
from worldmodel.bundle import save
from worldmodel.cli import VERBS, main
from worldmodel.precision import multiplies_bf16
from worldmodel.training.device import choose_device

TOY = {"num_samples": 8, "num_elites": 3, "num_iterations": 4, "horizon": 3, "tokens": 4, "width": 12, "depth": 2}


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save(tiny_model(), path, "# card")
    threads = torch.get_num_threads()
    yield [
        "bench",
        "suite=latency",
        f"model={path}",
        "threads=1",
        *(f"suite.{key}={value}" for key, value in TOY.items()),
    ]
    torch.set_num_threads(threads)


def test_one_table_of_all_rows_is_printed_and_written(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*command, f"out={out}", "suite.repeats=2"]) == 0
    table = (out / "table.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == table
    found = json.loads((out / "latency.json").read_text(encoding="utf-8"))
    kept = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert kept["suite"] == {"name": "latency", **found["settings"]}
    assert {"cpu", "cores", "threads", "device", "bf16"} <= set(found["machine"])
    device = choose_device("auto")
    assert found["machine"]["device"].partition(":")[0] == device.type
    planners = ["cem", "icem", "mppi"] + [FOREIGN] * has_swm()
    fast = ["compact bf16"] * multiplies_bf16(device), ["cached bf16"] * multiplies_bf16(device)
    modes = {"tiny": ["compact", *fast[0]], "transformer": ["full re-run", "cached", *fast[1]]}
    wanted = [(model, planner, mode) for model in modes for mode in modes[model] for planner in planners]
    wanted += [("tiny", planner, "whole decision") for planner in ("cem", "icem", "mppi")]
    assert [(row["model"], row["planner"], row["mode"]) for row in found["rows"]] == wanted
    for row in found["rows"]:
        assert f"| {row['model']} | {row['planner']} | {row['mode']} | " in table
        assert len(row["seconds"]) == 2
        assert min(row["seconds"]) > 0
        assert len(row["floor"]) == (0 if row["mode"] == "whole decision" else 2)
        # mppi asks once more, for the mean it returns.
        assert row["calls"] == {"whole decision": 0}.get(row["mode"], 5 if row["planner"] == "mppi" else 4)
        chunking = {"size": row["chunking"]["size"], "halvings": 0, "calls": row["calls"]} if row["chunking"] else None
        assert row["chunking"] == chunking
        assert (chunking is not None) == (row["model"] == "transformer")


def test_a_slow_row_decides_twice_only(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = ("repeats=4", "planners=[cem]", "enough=0.0")
    assert main([*command, f"out={out}", *(f"suite.{word}" for word in small)]) == 0
    rows = json.loads((out / "latency.json").read_text(encoding="utf-8"))["rows"]
    assert {len(row["seconds"]) for row in rows} == {2}
    assert "| 2 | " in (out / "table.md").read_text(encoding="utf-8")


def test_little_memory_means_more_calls_for_the_same_candidates(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = ("repeats=1", "planners=[cem]", "memory=0.001", "width=192")
    kept = [word for word in command if not word.startswith("suite.width")]
    assert main([*kept, f"out={out}", *(f"suite.{word}" for word in small)]) == 0
    rows = json.loads((out / "latency.json").read_text(encoding="utf-8"))["rows"]
    cached = next(row for row in rows if row["mode"] == "cached")
    assert (cached["calls"], cached["chunking"]["halvings"]) == (4, 0)
    assert 1 <= cached["chunking"]["size"] < 8
    assert cached["chunking"]["calls"] == 4 * -(-8 // cached["chunking"]["size"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["suite.planners=[cem,gradient]"], "expected planners to be some of cem, icem, mppi"),
        (["suite.tokens=5"], "expected a square number of latent_tokens, got 5"),
        (["suite.repeats=0"], "expected a whole number >= 1 for 'suite.repeats'"),
        (["suite=latent"], "did you mean 'latency'"),
        (["suite.num_samples=0"], "expected num_samples >= 1, got 0"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    words: list[str], message: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word for word in command if word.partition("=")[0] not in {given.partition("=")[0] for given in words}]
    assert main([*given, *words, f"out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out" / "latency.json").exists()


def test_a_folder_in_use_is_left_alone(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main([*command, f"out={tmp_path}"]) == 2
    assert "choose another out=" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_settings_are_those_of_the_suite() -> None:
    composed = VERBS["bench"].options.compose(["suite=latency"])
    offered = {**composed, **composed["suite"]}
    taken = inspect.signature(latency).parameters
    assert set(offered) - {"suite", "name", "shard", "cluster", "agents"} == set(taken) - {"config"}
    same = {name: parameter.default for name, parameter in taken.items() if name not in ("out", "config", "planners")}
    assert {name: offered[name] for name in same} == same
    assert offered["name"] in SUITES


def row(model: str, mode: str, seconds: list[float], floor: list[float]) -> Row:
    return Row(model, "cem", mode, lambda row: None, seconds, floor)


def test_targets_are_judged_by_medians_of_pairs() -> None:
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0
    rows = [
        row("jaco", "compact", [1.04, 2.0, 1.04], [1.0, 1.0, 1.0]),
        row("transformer", "full re-run", [9.0, 8.0, 9.0], [9.0, 8.0, 9.0]),
        row("transformer", "cached", [3.0, 2.0, 4.0], [3.0, 2.0, 3.0]),
        row("transformer", "cached bf16", [1.2, 1.1, 1.2], [1.0, 1.0, 1.0]),
        row("jaco", "whole decision", [0.1, 0.2, 0.12], []),
    ]
    found = [(target["limit"], target["measured"], target["met"]) for target in targets(rows)]
    assert found == [
        (1.05, 1.04, True), (1.05, 1.2, False), (3.0, 3.0, True), (8.0, 7.5, False), (0.15, 0.12, True),
    ]  # fmt: skip
