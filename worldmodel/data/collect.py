"""`worldmodel collect`: exploratory rollouts in several processes, resumable to the byte.

A finished episode's record, with the sha256 of its files, lies in `meta/collect/` until all are there. Whatever does
not match its record is drawn again; neither the number of processes nor an interruption changes a byte of the result.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import shutil
import signal
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm

from worldmodel.data.layout import Record
from worldmodel.data.lock import folder_lock
from worldmodel.data.rollout import (
    TRAINING_SEEDS,
    WORK_FOLDER,
    Job,
    Scene,
    read_record,
    read_scene,
    record_path,
    scene_path,
    work,
)
from worldmodel.data.writer import EXTRA_PATH, finalize
from worldmodel.errors import ConfigError, OutputError, WorldModelError
from worldmodel.storage import sha256_file, write_json

FORMAT = 1
LOCK = "collect.lock"
SETTINGS_PATH = "meta/collect.json"
PACKAGES = ("worldmodel", "gymnasium", "mujoco", "dm_control", "numpy", "pyarrow", "av")


def collect(
    *,
    env_id: str,
    env_kwargs: dict[str, Any],
    episodes: int,
    steps: int,
    out: str,
    seed: int,
    workers: int,
    video: bool = False,
) -> dict[str, Any]:
    """Write `episodes` episodes of `steps` rows as a LeRobotDataset v3.0 into the folder `out`.

    env_id: as for gymnasium.make; "module:id" imports the module first, in the workers only.
    seed: episode i starts from seed + i; all of them below 100,000, the range for training.
    video: mp4 instead of PNG.
    Returns a summary: out, task, episodes, frames, kept, collected, redraws, already_complete.
    Raises ConfigError for impossible numbers, OutputError for a folder that is in use, foreign or differently set,
    and WorldModelError when a worker fails; what is finished then stays, and the same call continues.
    """
    settings = _settings(env_id, env_kwargs, episodes, steps, seed, workers, video)
    root = Path(out)
    _refuse_foreign(root)
    with folder_lock(root / LOCK):
        already = _agree_on_settings(root, settings)
        kept = 0
        if not already:
            _prune(root)
            job = Job(env_id, settings["env_kwargs"], steps, seed, video, out)
            described = scene_path(root).is_file()
            missing = [episode for episode in range(episodes) if not (described and _verified(root, episode))]
            kept = episodes - len(missing)
            try:
                _run(job, missing, workers, episodes)
            finally:
                _prune(root)
            records = [read_record(record_path(root, episode)) for episode in range(episodes)]
            scene = read_scene(root)
            finalize(root, scene.layout, records, tasks=scene.tasks, extra=_extra(settings, scene, records))
        shutil.rmtree(root / WORK_FOLDER, ignore_errors=True)
        about = json.loads((root / EXTRA_PATH).read_text(encoding="utf-8"))
    return {
        "out": out,
        "task": about["task"],
        "episodes": episodes,
        "frames": episodes * steps,
        "kept": episodes if already else kept,
        "collected": 0 if already else episodes - kept,
        "redraws": sum(about["redraws"].values()),
        "already_complete": already,
    }


def _settings(
    env_id: str, env_kwargs: dict[str, Any], episodes: int, steps: int, seed: int, workers: int, video: bool
) -> dict[str, Any]:
    """What decides the bytes of the data set, as JSON holds it. Raises ConfigError."""
    for name, value, least in (
        ("episodes", episodes, 1),
        ("steps", steps, 2),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ConfigError(f"expected {name} >= {least}, got {value}")
    if seed + episodes > TRAINING_SEEDS:
        got = f"{seed} to {seed + episodes - 1}"
        raise ConfigError(
            f"expected training seeds below {TRAINING_SEEDS}, got {got}: the rest is for validation and test"
        )
    try:
        kwargs = json.loads(json.dumps(env_kwargs))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"expected env_kwargs of plain numbers, text and lists, got {error}") from error
    numbers = {"episodes": episodes, "steps": steps, "seed": seed, "video": video}
    return {"format": FORMAT, "env_id": env_id, "env_kwargs": kwargs, **numbers, "versions": _versions()}


def _versions() -> dict[str, str]:
    """Of everything that shapes the bytes."""
    versions = {"zlib": zlib.ZLIB_RUNTIME_VERSION}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _refuse_foreign(root: Path) -> None:
    """Make the folder; one that holds anything but a collection is left alone."""
    settings = root / SETTINGS_PATH
    try:
        if root.exists() and not settings.is_file():
            files = [root] if not root.is_dir() else (path for path in root.rglob("*") if path.is_file())
            strange = next((path for path in files if path.name != LOCK and path.name[:5] != ".tmp-"), None)
            # Asked again: another process may have begun its collection here in the meantime.
            if strange is not None and not settings.is_file():
                got = f"{root}, which has {strange.name}"
                raise OutputError(f"expected a new or empty folder, or a collection, got {got}: choose another out=")
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"expected a folder that can be written, got {root} ({error.strerror})") from error


def _agree_on_settings(root: Path, settings: dict[str, Any]) -> bool:
    """Keep the settings beside the data, or compare them with those there; true when the data set is complete."""
    path = root / SETTINGS_PATH
    complete = (root / "meta/info.json").is_file() and (root / EXTRA_PATH).is_file()
    if not path.is_file():
        write_json(path, settings)
        return False
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in settings | there if settings.get(name) != there.get(name)]
    except (ValueError, TypeError, AttributeError) as error:
        raise OutputError(f"expected collect's settings in {path}, got something else: choose another out=") from error
    if complete:  # newer libraries do not unmake a finished data set
        differing = [name for name in differing if name != "versions"]
    if differing:
        changes = ", ".join(f"{name} {there.get(name)} there and {settings.get(name)} asked" for name in differing)
        raise OutputError(f"expected the settings that {root} was begun with, got {changes}: choose another out=")
    return complete


def _prune(root: Path) -> None:
    """Remove the half-written files of killed processes."""
    for path in root.rglob(".tmp-*"):
        path.unlink(missing_ok=True)


def _verified(root: Path, episode: int) -> bool:
    """Whether the episode's record is there and every file it names has the recorded bytes."""
    try:
        record = read_record(record_path(root, episode))
        return record.episode == episode and all(sha256_file(root / p) == s for p, s in record.files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _run(job: Job, missing: Sequence[int], workers: int, episodes: int) -> None:
    """Draw the missing episodes. Raises WorldModelError when a worker fails; no worker outlives the call."""
    if not missing:
        return
    count = min(workers, len(missing))
    running: dict[Connection, SpawnProcess] = {}
    kept = (episodes - len(missing)) * job.steps
    bar = tqdm(total=episodes * job.steps, initial=kept, desc="collect", unit=" decisions", file=sys.stderr)
    try:
        with _interrupts_ignored():
            for worker in range(count):
                ours, theirs = multiprocessing.Pipe()
                arguments = (job, missing[worker::count], theirs)
                process = multiprocessing.get_context("spawn").Process(target=work, args=arguments, daemon=True)
                process.start()
                theirs.close()
                running[ours] = process
        active = dict(running)
        while active:
            for pipe in wait(list(active)):
                assert isinstance(pipe, Connection)
                if _received(pipe, active[pipe]):
                    bar.update(job.steps)
                else:
                    del active[pipe]
    finally:
        bar.close()
        for pipe, process in running.items():
            process.terminate()
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()


def _received(pipe: Connection, process: SpawnProcess) -> bool:
    """True for a finished episode, false for a worker that has done its list; anything else is raised."""
    try:
        kind, value = pipe.recv()
    except (EOFError, OSError):
        process.join()
        if process.exitcode == 0:
            return False
        died = f"a worker that ended with status {process.exitcode}"
        raise WorldModelError(f"expected workers to live, got {died}: run the same command again to continue") from None
    if kind == "error":
        raise WorldModelError(value)
    return True


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Children begun inside ignore Ctrl-C from their first instant; it is the parent that stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _extra(settings: dict[str, Any], scene: Scene, records: Sequence[Record]) -> dict[str, Any]:
    """`meta/worldmodel.json`: where the data came from."""
    redraws = {str(r.episode): r.extra["redraws"] for r in records if r.extra["redraws"]}
    seeds = [settings["seed"], settings["seed"] + settings["episodes"] - 1]
    return {
        "format": FORMAT,
        "task": scene.tasks[0] if len(scene.tasks) == 1 else list(scene.tasks),
        "env_id": settings["env_id"],
        "env_kwargs": settings["env_kwargs"],
        "environment": scene.environment,
        "seeds": seeds,
        "redraws": redraws,
        "versions": settings["versions"],
    }
