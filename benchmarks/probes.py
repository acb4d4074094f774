"""`worldmodel bench suite=probes`: what a model knows [cm], and how far away a goal may be for planning to reach it.

The measurements are those of `worldmodel diagnose`, on logs of the suite's own: exploratory episodes of every task of
its rows, from validation seeds. Probes are fitted on every second episode and measured, as are the predictions, on
the others. How far away a goal may be is a matter of rows with drive's goal_after=.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import worldmodel
from benchmarks.diagnose_measure import k_step_errors, probe_errors, sample
from benchmarks.protocol import episodes_range
from benchmarks.report_figures import goals_svg
from benchmarks.report_probes import FILE, horizons
from benchmarks.report_rows import read_rows
from worldmodel.bundle import fingerprint
from worldmodel.data.rollout import CAMERA, Job, draw_episode
from worldmodel.data.table import Table
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.storage import atomic_file, write_json

CURVE = "plannable_horizon-{}.svg"


def probe(
    tasks: Sequence[Mapping[str, Any]],
    out: Path,
    model: str | Path,
    *,
    logs: int,
    log_steps: int,
    log_seed: int,
    windows: int,
    horizon: int,
) -> None:
    """Write out/probes-KEY.json for every task {"id", "name"} that has none of this model and these settings yet.

    logs: exploratory episodes of `log_steps` decisions, from the seed `log_seed` on. windows, horizon: as of
    `diagnose`. Raises BundleError, ConfigError for a model of another kind or seeds of no range, DataError.
    """
    episodes_range(log_seed, logs)
    settings = {"logs": logs, "log_steps": log_steps, "log_seed": log_seed, "windows": windows, "horizon": horizon}
    out.mkdir(parents=True, exist_ok=True)
    sha256 = fingerprint(model)
    for task in tasks:
        facts = {"task": task["name"], "model": {"name": Path(model).name, "sha256": sha256}, "settings": settings}
        key = hashlib.sha256(json.dumps([facts["task"], sha256, settings], sort_keys=True).encode()).hexdigest()[:10]
        path = out / FILE.replace("*", f"{task['name']}-{key}")
        if not path.is_file():
            print(f"probes of {task['name']}", flush=True)
            write_json(path, {**facts, **_measure(model, task, settings)})


def _measure(model: str | Path, task: Mapping[str, Any], settings: Mapping[str, int]) -> dict[str, Any]:
    """The numbers of one task: {"windows", "moved", "probe_errors_cm", "k_step_errors_cm"}, see diagnose_measure.py."""
    loaded = worldmodel.load(model)
    if not isinstance(loaded, WorldModel):
        raise ConfigError(f"expected a model that train wrote, got {loaded.name}: it has no read-outs to measure")
    table = draw_logs(str(task["id"]), settings["logs"], settings["log_steps"], settings["log_seed"])
    windows, horizon = settings["windows"], settings["horizon"]
    drawn = sample(loaded, table, split=table.split(0.5), windows=windows, horizon=horizon, seed=0)
    predicted = k_step_errors(loaded, drawn)
    if drawn.truth is None:  # then its own tracker would be the judge
        predicted.pop("object", None)
    return {
        "windows": len(drawn.z),
        "moved": int(drawn.moved.sum()),
        "probe_errors_cm": probe_errors(drawn),
        "k_step_errors_cm": predicted,
    }


def draw_logs(env_id: str, episodes: int, steps: int, seed: int) -> Table:
    """Exploratory episodes of a task, as `collect` records them, in memory."""
    import envs  # registers the tasks  # noqa: F401

    env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, max_episode_steps=-1, disable_env_checker=True)
    job = Job(env_id, {}, steps, seed, video=False, out="")
    try:
        drawn = [draw_episode(env, job, episode)[0] for episode in range(episodes)]
    finally:
        env.close()
    unknown = np.full((steps, 1), np.nan, np.float32)
    return Table(
        np.concatenate([each.frames[CAMERA] for each in drawn]),
        np.concatenate([each.actions for each in drawn]),
        np.concatenate([each.proprio for each in drawn]),
        np.concatenate([unknown if each.privileged is None else each.privileged for each in drawn]),
        np.repeat(np.arange(episodes), steps),
    )


def write_curves(out: Path) -> list[Path]:
    """Write out/plannable_horizon-TASK.svg for every task that has rows with goals at several distances."""
    written = []
    for task, curves in horizons(read_rows(out)).items():
        path = out / CURVE.format(task)
        with atomic_file(path) as temporary:
            temporary.write_bytes(goals_svg(curves))
        written.append(path)
    return written
