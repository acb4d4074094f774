"""`make weights`: remake the shipped model from nothing, with the commands a user would type. Every step resumes.

collect -> pretrain -> train -> drive on validation goals -> worldmodel/models/jaco. The encoder also sees episodes in
random looks, without which it was worse than a random network; tracker and dynamics are trained without them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from worldmodel.bundle import MODELS
from worldmodel.cli import main as worldmodel

WORK = Path("runs/weights")
DATA = f"{WORK}/push,{WORK}/reach"
NAME = "jaco"
MAKE = (
    f"collect task=jaco_push episodes=6000 steps=30 seed=10000 out={WORK}/push",
    f"collect task=jaco_reach episodes=600 steps=30 seed=50000 out={WORK}/reach",
    f"collect task=jaco_push episodes=700 steps=30 seed=30000 randomize_visuals=1.0 out={WORK}/looks",
    f"pretrain data={DATA},{WORK}/looks out={WORK}/vjepa encoder=small steps=5000 learning_rate=6e-4",
    f"train data={DATA} encoder={WORK}/vjepa/encoder out={WORK}/{NAME} name={NAME}",
)
TASKS = ("jaco_reach", "jaco_push")
VALIDATION = f"drive episodes=20 seed=100000 parallel=10 model={WORK}/{NAME}/model"


def run(command: str) -> None:
    """One verb, as on the command line; stops everything where it fails."""
    print(f"\nworldmodel {command}", flush=True)
    code = worldmodel(command.split())
    if code:
        sys.exit(code)


def install(source: Path, target: Path) -> None:
    """Put the model where the package finds it by name, with the measured success on validation goals in its card."""
    lines = ["", "Success on 20 validation goals each (seeds from 100000):", ""]
    for task in TASKS:
        summary = json.loads((WORK / "validation" / task / "summary.json").read_text(encoding="utf-8"))
        lines.append(f"* {task}: reached {summary['success_rate']:.2f}, held {summary['held_rate']:.2f}")
    lines += [
        "",
        f"Made by `make weights` at {_commit()}:",
        "",
        "```",
        *(f"worldmodel {command}" for command in MAKE),
        "```",
        "",
    ]
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    with (target / "README.md").open("a", encoding="utf-8") as card:
        card.write("\n".join(lines))


def _commit() -> str:
    """Which version of the code this is, as far as git knows."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return f"commit `{found.stdout.strip()}`" if found.returncode == 0 else "a version without git"


def main() -> None:
    """The whole chain."""
    for command in MAKE:
        run(command)
    for task in TASKS:
        folder = WORK / "validation" / task
        shutil.rmtree(folder, ignore_errors=True)
        run(f"{VALIDATION} task={task} out={folder}")
    install(WORK / NAME / "model", MODELS / NAME)
    print(f"\nthe shipped model {NAME!r} is now the one in {WORK / NAME / 'model'}")


if __name__ == "__main__":
    main()
