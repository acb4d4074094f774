"""A suite on a Ray cluster (the extra `ray`): every batch of episodes is a task, and a row is their lines in order.

Episodes that share a batch share the planner's random numbers, and batches share nothing: a row is the same whoever
drives its batches. Every machine needs this package and, at the same path, the folders that the rows name.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.drive import drive
from benchmarks.run import BEGUN, append_line, complete_batches, require_protocol
from benchmarks.summary import protocol_card, read_lines
from worldmodel.bundle import fingerprint
from worldmodel.errors import ConfigError, WorldModelError
from worldmodel.storage import atomic_file, write_json

FILMS = "videos"
Batch = tuple[list[dict[str, Any]], dict[str, bytes]]
"""The lines of the episodes, and the films by name."""


def drive_on_ray(rows: Sequence[tuple[Mapping[str, Any], Path]]) -> None:
    """Drive the missing episodes of rows (settings of `drive`, folder); `drive` with resume=True then finishes a row.

    The cluster is the one at RAY_ADDRESS, or this machine where that is not set. What is finished is kept in order:
    the same call goes on from there. Raises what `drive` raises, ConfigError without Ray and WorldModelError where the
    cluster fails.
    """
    ray = _connect()
    task = ray.remote(drive_batch)
    pending = []
    for settings, folder in rows:
        require_protocol(folder)
        first, parallel, episodes = settings["seed"], settings["parallel"], settings["episodes"]
        options = task.options(num_cpus=settings["threads"] or 1)
        for start in range(complete_batches(folder / "episodes.jsonl", episodes, parallel), episodes, parallel):
            own = {**settings, "seed": first + start, "episodes": min(parallel, episodes - start)}
            pending.append((folder, options.remote(own, trained(settings))))
    try:
        for folder, batch in tqdm(pending, desc="batches on Ray", unit="batch", dynamic_ncols=True):
            _keep(folder, *ray.get(batch))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise WorldModelError(
            f"expected the Ray cluster to drive all batches, got {type(error).__name__}: run the same command again"
        ) from error
    finally:
        for _, batch in pending:  # of those that nobody will ask for any more
            ray.cancel(batch)


def trained(settings: Mapping[str, Any]) -> str | None:
    """The sha256 of what a row drives with, as of here; None where nothing was trained. Raises BundleError."""
    folder = settings["model"] if settings["agent"] == "planning" else settings["baseline"]
    return None if folder is None else fingerprint(folder)


def drive_batch(settings: Mapping[str, Any], sha256: str | None) -> Batch:
    """Drive one batch, on whatever machine. Raises ConfigError where another model lies there than `sha256`."""
    found = trained(settings)
    if found != sha256:
        raise ConfigError(
            f"expected the model {str(sha256)[:8]} on {platform.node()}, got {str(found)[:8]}: copy it there, too"
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "batch"
        drive(**{**settings, "out": out})
        films = {path.name: path.read_bytes() for path in sorted((out / FILMS).glob("*"))}
        return read_lines(out / "episodes.jsonl"), films


def _keep(folder: Path, lines: Sequence[Mapping[str, Any]], films: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / BEGUN, protocol_card())
    for name, data in films.items():
        (folder / FILMS).mkdir(exist_ok=True)
        with atomic_file(folder / FILMS / name) as temporary:
            temporary.write_bytes(data)
    for line in lines:
        append_line(folder / "episodes.jsonl", line)


def _connect() -> Any:
    """The package, connected to its cluster."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "expected the package ray for cluster=ray, got none: pip install 'worldmodel[ray]'"
        ) from error
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        try:
            ray.init(log_to_driver=False, logging_level="error", **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"expected a Ray cluster at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}, got {type(error).__name__}: "
                "start one with ray start --head, or unset it"
            ) from error
    return ray
