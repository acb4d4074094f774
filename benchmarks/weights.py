"""`make weights`: remake the shipped models from nothing, with the commands a user would type. Every step resumes.

collect -> pretrain -> train -> drive on validation goals -> worldmodel/models/NAME. The arm's encoder also sees
episodes in random looks, without which it was worse than a random network; tracker and dynamics are trained without.
What came of it learns other looks from what it knows, and is a model of its own. Those of two cubes and of the cup use
that encoder, and the objects' positions in the logs as labels.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from worldmodel.bundle import MODELS
from worldmodel.cli import main as worldmodel

WORK = Path("runs/weights")
DATA = f"{WORK}/push,{WORK}/reach"
ROOMS = f"{WORK}/rooms"


@dataclass(frozen=True)
class Recipe:
    """The commands that end in the model `name`, in WORK/name, and the tasks it is for."""

    name: str
    make: tuple[str, ...]
    tasks: tuple[str, ...]


RECIPES = (
    Recipe(
        "jaco",
        (
            f"collect task=jaco_push episodes=6000 steps=30 seed=10000 out={WORK}/push",
            f"collect task=jaco_reach episodes=600 steps=30 seed=50000 out={WORK}/reach",
            f"collect task=jaco_push episodes=700 steps=30 seed=30000 randomize_visuals=1.0 out={WORK}/looks",
            f"pretrain data={DATA},{WORK}/looks out={WORK}/vjepa encoder=small steps=5000 learning_rate=6e-4",
            f"train data={DATA} encoder={WORK}/vjepa/encoder out={WORK}/jaco name=jaco",
        ),
        ("jaco_reach", "jaco_push"),
    ),
    Recipe(
        "jaco_augmented",
        (f"augment model={WORK}/jaco/model data={DATA} out={WORK}/jaco_augmented",),
        ("jaco_reach", "jaco_push"),
    ),
    Recipe(
        "navigate",
        (
            f"collect task=navigate episodes=800 steps=60 seed=60000 out={ROOMS}",
            f"pretrain data={ROOMS} out={WORK}/light encoder=light steps=1500 learning_rate=6e-4",
            f"train data={ROOMS} encoder={WORK}/light/encoder out={WORK}/navigate name=navigate predictor=wheeled"
            " planning=wheeled steps=100 track_steps=1 track_rounds=0 pose_steps=2000 refine_steps=1",
        ),
        ("navigate",),
    ),
    Recipe(
        "rearrange",
        (
            f"collect task=jaco_rearrange episodes=3000 steps=40 seed=20000 out={WORK}/cubes",
            f"train data={WORK}/cubes encoder=shipped places=logged out={WORK}/rearrange name=rearrange"
            " predictor.objects=2 predictor.predictor_hidden=128 steps=1000 track_steps=1000 refine_steps=1000"
            " propose_steps=1500 planning.settled_below=0.0",
        ),
        ("jaco_rearrange",),
    ),
    Recipe(
        "place",
        (
            f"collect task=jaco_place episodes=2600 steps=45 seed=70000 out={WORK}/cups",
            f"train data={WORK}/cups encoder=shipped places=logged out={WORK}/place name=place predictor.place_dim=3"
            " predictor.position_dim=3 predictor.predictor_hidden=192 steps=1000 track_steps=1000 refine_steps=1000"
            " propose_steps=1500 planning.approach_weight=3.0 planning.running_weight=1.0 planning.proposal_std=0.1"
            " planning.pessimism=0.0 planning.settled_below=0.0 planning.settled_within=0.03 planning.patience=4",
        ),
        ("jaco_place",),
    ),
)


def run(command: str) -> None:
    """One verb, as on the command line; stops everything where it fails."""
    print(f"\nworldmodel {command}", flush=True)
    code = worldmodel(command.split())
    if code:
        sys.exit(code)


def install(recipe: Recipe) -> None:
    """Put the model where the package finds it by name, with the measured success on validation goals in its card."""
    lines = ["", "Success on 20 validation goals each (seeds from 100000):", ""]
    for task in recipe.tasks:
        summary = json.loads((WORK / "validation" / task / "summary.json").read_text(encoding="utf-8"))
        lines.append(f"* {task}: reached {summary['success_rate']:.2f}, held {summary['held_rate']:.2f}")
    lines += [
        "",
        f"Made by `make weights` at {_commit()}:",
        "",
        "```",
        *(f"worldmodel {command}" for command in recipe.make),
        "```",
        "",
    ]
    target = MODELS / recipe.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(WORK / recipe.name / "model", target)
    with (target / "README.md").open("a", encoding="utf-8") as card:
        card.write("\n".join(lines))
    print(f"\nthe shipped model {recipe.name!r} is now the one in {WORK / recipe.name / 'model'}")


def _commit() -> str:
    """Which version of the code this is, as far as git knows."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return f"commit `{found.stdout.strip()}`" if found.returncode == 0 else "a version without git"


def main() -> None:
    """The whole chain of every model."""
    for recipe in RECIPES:
        for command in recipe.make:
            run(command)
        for task in recipe.tasks:
            folder = WORK / "validation" / task
            shutil.rmtree(folder, ignore_errors=True)
            model = WORK / recipe.name / "model"
            run(f"drive task={task} episodes=20 seed=100000 parallel=10 model={model} out={folder}")
        install(recipe)


if __name__ == "__main__":
    main()
