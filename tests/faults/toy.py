"""The real verbs on toy sizes: a data set, an encoder and a run that take seconds, and what they leave behind."""

from __future__ import annotations

import hashlib
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.harness import ROOT, Child, Lab, run, verb

sys.path[:0] = [path for path in (str(ROOT / "tests/data"), str(ROOT / "tests/faults")) if path not in sys.path]
ENV_ID = "toy_env:faults/Toy-v0"
ENCODER = ("encoder=tiny", "encoder.crop_size=32", "encoder.patch_size=8", "encoder.hidden_size=24")
PRETRAIN = (*ENCODER, "encoder.pred_hidden_size=24", "steps=24", "batch_size=4", "learning_rate=1e-3", "device=cpu")
SIZES = (
    "predictor=tiny",
    "window=3",
    "steps=12",
    "track_steps=6",
    "track_rounds=1",
    "refine_steps=12",
    "propose_steps=12",
)
TRAIN = (*SIZES, "batch_size=4", "device=cpu")
CLONING = ("kind=behaviour_cloning", "kind.hidden=16", "kind.batch_size=4", "steps=12", "device=cpu")


def collect(out: Path, episodes: int = 12, workers: int = 1, **options: Any) -> None:
    """The verb `collect` on the toy's world."""
    from worldmodel.cli import config_kept
    from worldmodel.data.collect import collect

    with config_kept(out, ""):
        collect(env_id=ENV_ID, env_kwargs=options, episodes=episodes, steps=12, out=str(out), seed=40, workers=workers)


def often() -> None:
    """Checkpoints every few steps, for the rest of this process: the sizes of a toy, not a change of behaviour."""
    import worldmodel.pretrain.run as pretrain
    import worldmodel.training.run as train
    import worldmodel.training.stages as stages

    pretrain.PretrainSettings = partial(pretrain.PretrainSettings, checkpoint_every=5)  # type: ignore[assignment,misc]
    train.TrainSettings = partial(train.TrainSettings, checkpoint_every=3)  # type: ignore[assignment,misc]
    stages.refine = partial(stages.refine, checkpoint_every=3)


def words(which: str, lab: Lab, out: Path) -> list[str]:
    """The command line of `pretrain`, `train` or `baseline` on the toy's data, or on the copy beside `out`."""
    own = out.parent / "data"
    folder = own if own.is_dir() else data(lab)
    if which == "pretrain":
        return ["pretrain", f"data={folder}", f"out={out}", *PRETRAIN]
    return [
        which,
        f"data={folder}",
        f"encoder={encoder(lab)}",
        f"out={out}",
        *(TRAIN if which == "train" else CLONING),
    ]


def act(which: str, lab: Lab, out: Path) -> int:
    """Run `collect`, `pretrain`, `train` or `baseline` in this process; returns its exit code."""
    if which == "collect":
        return verb_of(partial(collect, out, 6))
    often()
    return verb(*words(which, lab, out))()


def verb_of(function: Any) -> int:
    """Exit code 2 and one line for an error of this project, as the command line does it."""
    from worldmodel.errors import WorldModelError

    try:
        function()
    except WorldModelError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def cold(which: str, lab: Lab) -> Path:
    """A path for a run that has a copy of the data to itself, and so nothing in the cache beside it."""
    prepare(which, lab)
    out = lab.fresh(which)
    if which != "collect":
        shutil.copytree(data(lab), out.parent / "data")
    return out


def start(which: str, lab: Lab, out: Path) -> Child:
    """The same in a child; what it needs is made first."""
    prepare(which, lab)
    return Child(partial(act, which, lab, out))


def prepare(which: str, lab: Lab) -> None:
    """Make the data set and the encoder that a verb needs."""
    if which != "collect":
        data(lab)
    if which in ("train", "baseline"):
        encoder(lab)


def made(lab: Lab, name: str, which: str) -> Path:
    """A finished run of a verb, made once for all faults."""
    out = lab.root / name
    if not (lab.root / f"{name}.done").exists():
        ended = run(partial(act, which, lab, out) if which != "data" else partial(collect, out))
        if ended.status:
            raise RuntimeError(f"the toy's {which} ended with {ended.status}: {ended.err[-2000:]}")
        (lab.root / f"{name}.done").touch()
    return out


def data(lab: Lab) -> Path:
    """A whole data set of 12 episodes of 12 rows."""
    return made(lab, "data", "data")


def encoder(lab: Lab) -> Path:
    """A pretrained encoder."""
    return made(lab, "whole-pretrain", "pretrain") / "encoder"


def whole(which: str, lab: Lab) -> Path:
    """What an uninterrupted verb leaves."""
    return made(lab, f"whole-{which}", which)


def model(lab: Lab) -> Path:
    """A whole bundle."""
    return whole("train", lab) / "model"


def tree(root: Path) -> dict[str, str]:
    """Every file and its bytes, but config.yaml, which holds the name of the folder."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "config.yaml")
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def differing(one: dict[str, str], two: dict[str, str]) -> str:
    """The first names whose bytes differ."""
    return ", ".join(sorted(name for name in one | two if one.get(name) != two.get(name))[:4])
