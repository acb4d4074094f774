"""`worldmodel bench`: the suites that measure the project itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.agents.dreamer_online import dreamerv3_online, dreamerv3_reacher
from benchmarks.latency import latency
from benchmarks.probes import probe, write_curves
from benchmarks.suite import Row, run_suite
from benchmarks.throughput import throughput
from worldmodel.cli_options import hint_text, nearest
from worldmodel.errors import ConfigError

WHOLE = "0/1"  # the shard that is everything
SUITES: Mapping[str, Callable[..., object]] = {  # those without rows
    "latency": latency,
    "throughput": throughput,
    "dreamerv3_reacher": dreamerv3_reacher,
    "dreamerv3_online": dreamerv3_online,
}


def bench(
    *,
    suite: Mapping[str, Any],
    out: str | Path,
    model: str | Path = "jaco",
    threads: int | None = None,
    device: str = "auto",
    shard: str = WHOLE,
    cluster: str | None = None,
    agents: Sequence[str] | None = None,
    config: str | None = None,
) -> None:
    """Run one suite; what it measures and raises stands at its function.

    suite: {"name", "rows" (the fields of Row)}, for probes with the settings of `probe` beside them, or {"name": one of
    SUITES, and its own settings}. model: a shipped model by name, or a folder; rows name their own. threads: of torch,
    for the whole process. device: of the models; rows name their own. agents: only their rows; None: all. config: kept
    as out/config.yaml.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if "rows" in suite:
        rows = of_agents([Row(**row) for row in suite["rows"]], agents, suite["name"])
        more = {key: value for key, value in suite.items() if key not in ("name", "rows")}
        if more:
            tasks = {row.settings["task"]["name"]: row.settings["task"] for row in rows}
            probe(list(tasks.values()), Path(out), model, **more)
        run_suite(rows, Path(out), shard, config, cluster)
        if any(row.settings["goal_after"] is not None for row in rows):
            write_curves(Path(out))
        return
    if shard != WHOLE or cluster is not None or agents is not None:
        got = f"shard={shard} cluster={cluster} agents={agents}"
        raise ConfigError(f"expected no shard, cluster or agents for suite={suite['name']}, one measurement, got {got}")
    settings = {key: value for key, value in suite.items() if key != "name"}
    SUITES[suite["name"]](out=out, model=model, threads=threads, device=device, config=config, **settings)


def of_agents(rows: Sequence[Row], agents: Sequence[str] | None, suite: str) -> list[Row]:
    """The rows of these agents, all for None. Raises ConfigError for an agent that has none."""
    if agents is None:
        return list(rows)
    known = list(dict.fromkeys(str(row.settings["agent"]) for row in rows))
    if not agents:
        raise ConfigError(f"expected some of {', '.join(known)} as agents of suite={suite}, got none: name one")
    for agent in map(str, agents):
        if agent not in known:
            hint = hint_text(nearest(agent, known), "")
            raise ConfigError(f"unknown agent {agent!r} for suite={suite}{hint} ({' | '.join(known)})")
    return [row for row in rows if row.settings["agent"] in agents]
