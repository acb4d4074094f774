"""`worldmodel bench`: the suites that measure the project itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.latency import latency
from benchmarks.suite import Row, run_suite
from benchmarks.throughput import throughput
from worldmodel.errors import ConfigError

WHOLE = "0/1"  # the shard that is everything
SUITES: Mapping[str, Callable[..., object]] = {"latency": latency, "throughput": throughput}  # those without rows


def bench(
    *,
    suite: Mapping[str, Any],
    out: str | Path,
    model: str | Path = "jaco",
    threads: int | None = None,
    shard: str = WHOLE,
    config: str | None = None,
) -> None:
    """Run one suite; what it measures and raises stands at its function.

    suite: {"name", "rows" (the fields of Row)} or {"name": one of SUITES, and its own settings}. model: a shipped model
    by name, or a folder; rows name their own. threads: of torch, for the whole process. config: kept as
    out/config.yaml.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if "rows" in suite:
        run_suite([Row(**row) for row in suite["rows"]], Path(out), shard, config)
        return
    if shard != WHOLE:
        raise ConfigError(f"expected no shard for suite={suite['name']}, whose rows are measured together, got {shard}")
    settings = {key: value for key, value in suite.items() if key != "name"}
    SUITES[suite["name"]](out=out, model=model, threads=threads, config=config, **settings)
