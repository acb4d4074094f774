"""`bench cluster=ray` on a Ray of two workers: the rows are those of one process, and what is finished is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_model import tiny_model

from benchmarks.bench import bench
from benchmarks.cluster import drive_batch, trained
from benchmarks.suite import run_suite
from tests.benchmarks.test_suite import row, timeless
from worldmodel.bundle import save
from worldmodel.errors import BundleError, ConfigError


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'worldmodel\[ray\]'"):
        run_suite([row()], tmp_path, cluster="ray")


def test_a_suite_without_rows_has_no_use_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got shard=0/1 cluster=ray"):
        bench(suite={"name": "latency"}, out=tmp_path / "out", cluster="ray")
    assert not (tmp_path / "out").exists()


def test_a_machine_with_another_model_is_refused(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "model", "# card")
    settings = row(agent="planning", model=str(tmp_path / "model")).settings
    expected = trained(settings)
    changed = tiny_model()
    changed.tracker.origin.add_(1.0)
    (tmp_path / "model").rename(tmp_path / "before")
    save(changed, tmp_path / "model", "# card")
    assert trained(settings) != expected
    with pytest.raises(ConfigError, match=f"expected the model {str(expected)[:8]} on "):
        drive_batch(settings, expected)
    assert trained(row().settings) is None


@pytest.fixture(scope="module")
def two() -> Iterator[Any]:
    """Ray with two workers on this machine."""
    ray = pytest.importorskip("ray", reason="needs the extra: pip install -e .[ray]")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A model that plans, an agent that draws at random, one with a film; batches of two and a rest."""
    model = tmp_path_factory.mktemp("models") / "tiny"
    save(tiny_model(), model, "# card")
    common = {"episodes": 3, "parallel": 2, "threads": 1}
    return [
        row(agent="planning", model=str(model), **common),
        row(agent="random", **common),
        row(video=True, episodes=1),
    ]


def test_merged_rows_are_those_of_one_process(two: Any, rows: list[Any], tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    run_suite(rows, one)
    for shard in ("1/2", "0/2"):
        run_suite(rows, many, shard, cluster="ray")
    names = {path.name for path in one.iterdir() if path.is_dir()}
    assert names == {path.name for path in many.iterdir() if path.is_dir()}
    assert len(names) == len(rows)
    for name in names:
        assert timeless(one / name) == timeless(many / name)
        summaries = [json.loads((folder / name / "summary.json").read_text()) for folder in (one, many)]
        same = [{key: each[key] for key in each if not key.startswith("seconds")} for each in summaries]
        assert same[0] == same[1]
        films = [{p.name: p.read_bytes() for p in (folder / name / "videos").glob("*.png")} for folder in (one, many)]
        assert films[0] == films[1]
    assert len(list(many.glob("*/videos/*.mp4"))) == 1


def test_what_is_finished_is_not_driven_again(two: Any, rows: list[Any], tmp_path: Path) -> None:
    run_suite(rows[1:2], tmp_path, cluster="ray")
    (path,) = tmp_path.glob("*/episodes.jsonl")
    whole = path.read_bytes()
    kept = whole.splitlines(keepends=True)[:2]
    path.write_bytes(b"".join(kept))
    (path.parent / "summary.json").unlink()
    run_suite(rows[1:2], tmp_path, cluster="ray")
    assert path.read_bytes().splitlines(keepends=True)[:2] == kept
    assert len(path.read_bytes().splitlines()) == 3
    before = path.stat().st_mtime_ns
    run_suite(rows[1:2], tmp_path, cluster="ray")
    assert path.stat().st_mtime_ns == before


def test_a_mistake_on_the_cluster_is_the_one_that_one_process_would_meet(two: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save(tiny_model(), folder, "# card")
    broken = row(agent="planning", model=str(folder), threads=1)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="expected") as caught:
        run_suite([broken], tmp_path / "out", cluster="ray")
    assert "\n" not in str(caught.value)
    assert type(caught.value) is BundleError
