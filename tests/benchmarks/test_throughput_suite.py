"""`worldmodel bench suite=throughput` with toy sizes: what it measures, what it writes, and what it refuses."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
from tiny_model import ARCHITECTURE, tiny_model

from benchmarks.bench import SUITES
from benchmarks.throughput import PEAKS, throughput
from worldmodel.bundle import save
from worldmodel.cli import VERBS, main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save(tiny_model(), path, "# card")
    return path


def encoding_flop(pictures: int) -> int:
    """By hand: two for each multiplication of the patch embedding, the attention and the MLP of the tiny encoder."""
    side, patch, width = (int(ARCHITECTURE[key]) for key in ("crop_size", "patch_size", "hidden_size"))
    tokens, depth = (side // patch) ** 2, int(ARCHITECTURE["num_hidden_layers"])
    embedding = tokens * 3 * ARCHITECTURE["tubelet_size"] * patch**2 * width
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    mlp = 2 * tokens * width * 4 * width
    return 2 * pictures * (embedding + depth * (attention + mlp))


def test_one_table_is_printed_and_written(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads, out = torch.get_num_threads(), tmp_path / "out"
    toy = ("suite.repeats=2", "suite.batch_size=4", "suite.rows_cached=192", "suite.window=3", "threads=1")
    assert main(["bench", "suite=throughput", f"model={model}", f"out={out}", *toy]) == 0
    torch.set_num_threads(threads)
    table = (out / "table.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == table
    found = json.loads((out / "throughput.json").read_text(encoding="utf-8"))
    names = ["encoding", "training from the cache", "training, encoding in the loop"]
    assert list(found["clips_per_second"]) == names
    for name in names:
        assert f"| {name} | " in table
        assert len(found["seconds"][name]) == 2
        assert found["clips_per_second"][name] == pytest.approx(4 / (sum(found["seconds"][name]) / 2))
    flop = {name: rate * sum(found["seconds"][name]) / 2 for name, rate in found["flop_per_second"].items()}
    encoded, trained, both = (flop[name] for name in names)
    assert encoded == pytest.approx(encoding_flop(4 * (3 + 1)))
    assert trained > 0
    assert both == pytest.approx(encoded + trained)
    known = torch.cuda.is_available() and torch.cuda.get_device_name() in PEAKS
    assert (found["mfu"] is not None) == (found["peak_flop_per_second"] is not None) == known
    assert 0.05 < found["peak_rss_gib"] < 20
    cached, naive = (found["clips_per_second"][name] for name in names[1:])
    assert found["target"]["measured"] == pytest.approx(cached / naive)
    assert found["target"]["met"] == (cached / naive >= 5)
    assert found["model"]["name"] == "tiny"


def test_too_few_rows_are_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "suite=throughput", f"model={model}", f"out={tmp_path / 'out'}", "suite.rows_cached=100"]
    assert main(words) == 2
    assert "expected rows_cached >= 128" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_settings_are_those_of_the_suite() -> None:
    composed = VERBS["bench"].options.compose(["suite=throughput"])
    offered = {**composed, **composed["suite"]}
    taken = inspect.signature(throughput).parameters
    assert set(offered) - {"suite", "name", "shard", "cluster", "agents"} == set(taken) - {"config"}
    same = {name: parameter.default for name, parameter in taken.items() if name not in ("out", "config")}
    assert {name: offered[name] for name in same} == same
    assert offered["name"] in SUITES
