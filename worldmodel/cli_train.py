"""`worldmodel train`, in one process or several, and its model driven on validation goals; `worldmodel augment`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from worldmodel.cli_gl import require_simulator
from worldmodel.data.lock import run_lock

VALIDATION_SEED = 100_000  # of the first goal: these are never trained on, and no result is measured on them

Settings = dict[str, Any]


def train(settings: Settings, config: str) -> None:
    """Cached latents -> a model. Of the processes of torchrun, which share the folder, the first one locks it."""
    from worldmodel.cli import config_kept
    from worldmodel.training.run import train

    out, task, episodes = Path(settings["out"]), settings.pop("validate_task"), settings.pop("validate_episodes")
    drive = None if task is None else driver(task, episodes, out)
    first = os.environ.get("RANK", "0") == "0"
    with run_lock(out) if first else nullcontext(), config_kept(out, config) if first else nullcontext():
        train(**settings, drive=drive)


def augment(settings: Settings, config: str) -> None:
    """A model x frames in random looks -> a model that knows other looks, too."""
    from worldmodel.cli import config_kept
    from worldmodel.training.augment import augment

    with run_lock(Path(settings["out"])), config_kept(Path(settings["out"]), config):
        augment(**settings)


def driver(task: str, episodes: int, out: Path) -> Callable[[Path], Settings]:
    """What drives a finished model on validation goals of a task; says now what is wrong with the task."""
    from worldmodel.cli import driven

    require_simulator()
    common = {"episodes": episodes, "seed": VALIDATION_SEED, "parallel": min(episodes, 10), "model": out / "model"}
    row = driven(f"task={task}", common, None)

    def run(model: Path) -> Settings:
        from benchmarks.drive import drive

        settings = {**row["settings"], "model": model, "out": out / "validation"}
        return drive(**settings, config=row["config"], resume=True)

    return run
