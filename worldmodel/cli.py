"""`worldmodel <verb> key=value ...`: composes the settings, calls the verb, and says in one line what went wrong.

This is the composition root: it alone reaches up to environments and benchmarks, and only once the settings are known
to be good. Exit codes: 0 done, 1 `check` found defects, 2 a mistake that one line explains, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from worldmodel.cli_gl import gl_renderer, require_simulator
from worldmodel.cli_help import overview, verb_help
from worldmodel.cli_options import (
    Options,
    config_text,
    group_overrides,
    nearest,
    settings_from,
    split_arguments,
    yaml_file,
)
from worldmodel.cli_train import augment, train
from worldmodel.data.lock import run_lock
from worldmodel.errors import ConfigError, OutputError, WorldModelError
from worldmodel.storage import atomic_file

FLAGS = ("-h", "--help", "--traceback", "--version")
CONFIG = "config.yaml"


Settings = dict[str, Any]


@dataclass(frozen=True)
class Verb:
    """One verb: its options, the call with settings and the text of config.yaml, and what an interruption leaves.

    The call returns the exit code, where that is not 0.
    """

    options: Options
    run: Callable[[Settings, str], int | None]
    kept: str = "nothing"


def drive(settings: Settings, config: str) -> None:
    """Agent x task x seeds -> summary.json, episodes.jsonl, videos, a page."""
    from benchmarks.drive import drive

    require_simulator()
    with run_lock(Path(settings["out"])):
        drive(**settings, config=config)


def collect(settings: Settings, config: str) -> None:
    """Exploratory rollouts -> a LeRobotDataset."""
    from worldmodel.data.collect import collect

    require_simulator()
    given = {key: value for key, value in settings.items() if key not in ("task", "randomize_visuals")}
    task, share = settings["task"], settings["randomize_visuals"]
    with config_kept(Path(settings["out"]), config):
        done = collect(env_id=f"envs:{task['id']}", env_kwargs={"randomize_visuals": share}, **given)
    was = "was complete" if done["already_complete"] else f"{done['collected']} collected, {done['kept']} kept"
    say(f"{done['out']}: {done['episodes']} episodes, {done['frames']} frames of {done['task']} ({was})")


def check(settings: Settings, config: str) -> int:
    """Print what is in datasets, and every defect."""
    from worldmodel.data.check import check, lines

    as_json = settings.pop("json")
    found = check(**settings)
    say(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))
    return 0 if found["clean"] else 1


def import_data(settings: Settings, config: str) -> None:
    """HDF5 logs -> a LeRobotDataset."""
    from worldmodel.data.hdf5 import import_hdf5

    mapping = None if settings["mapping"] is None else yaml_file(Path(settings["mapping"]))
    with run_lock(Path(settings["out"])), config_kept(Path(settings["out"]), config):
        done = import_hdf5(**settings | {"mapping": mapping})
    say(f"{settings['out']}: {done['episodes']} episodes, {done['frames']} frames")


def pretrain(settings: Settings, config: str) -> None:
    """Frames -> an encoder."""
    from worldmodel.pretrain.run import pretrain

    with run_lock(Path(settings["out"])), config_kept(Path(settings["out"]), config):
        pretrain(**settings)


def baseline(settings: Settings, config: str) -> None:
    """Cached latents -> what planning has to beat."""
    from worldmodel.baselines.run import baseline

    with run_lock(Path(settings["out"])), config_kept(Path(settings["out"]), config):
        baseline(**settings)


def convert(settings: Settings, config: str) -> None:
    """A public checkpoint -> a model."""
    from worldmodel.convert import convert_vjepa2_ac

    given = {key: value for key, value in settings.items() if key != "format"}
    if settings["format"] != "vjepa2_ac":
        raise ConfigError(
            f"expected vjepa2_ac for 'format' of convert, got {settings['format']!r}: there is no other yet"
        )
    with run_lock(Path(settings["out"])):
        done = convert_vjepa2_ac(**given)
    say(f"{settings['out']}: V-JEPA 2-AC, {done['label']} weights, encoder: {done['encoder']}")
    if done["encoder_matches"] is not True:
        differs = "differs from" if done["encoder_matches"] is False else "cannot be compared with"
        say(f"warning: this encoder {differs} the one the predictor was trained on")


def diagnose(settings: Settings, config: str) -> None:
    """Model x held-out episodes -> a page of verdicts."""
    from benchmarks.diagnose import diagnose

    with run_lock(Path(settings["out"])):
        done = diagnose(**settings, config=config)
    words = {True: "good", False: "poor", None: "    "}
    lines = [f"{words[item['good']]}  {title} {item['verdict']}" for title, item in done["verdicts"].items()]
    say("\n".join([*lines, str(Path(settings["out"]) / "index.html")]))


def info(settings: Settings, config: str) -> None:
    """Print what a bug report needs."""
    from worldmodel.info import info, lines

    found = info(gl_renderer())
    say(json.dumps(found, indent=2) if settings["json"] else "\n".join(lines(found)))


def bench(settings: Settings, config: str) -> None:
    """Measure the project itself -> a table. Shards share a folder, and each locks the row that it drives."""
    from benchmarks.bench import WHOLE, bench

    suite = settings["suite"]
    if "rows" in suite:
        require_simulator()
        common = {key: suite.pop(key) for key in ("episodes", "seed", "parallel")}
        common |= {key: settings[key] for key in ("model", "device")}
        suite["rows"] = [driven(words, common, settings["threads"]) for words in suite["rows"]]
    with run_lock(Path(settings["out"])) if settings["shard"] == WHOLE else nullcontext():
        bench(**settings, config=config)


def report(settings: Settings, config: str) -> None:
    """A folder of results -> one page."""
    from benchmarks.report_suite import report

    say(str(report(**settings)))


def driven(words: str, common: Mapping[str, Any], threads: int | None) -> Settings:
    """One row of a suite: the words of a `drive` command, the settings they stand for, and the text of config.yaml."""
    options = VERBS["drive"].options
    given = split_arguments(options, words.split())
    arguments = [*words.split(), *(f"{key}={value}" for key, value in common.items() if key not in given)]
    settings = settings_from(options, [*arguments, "out=row"]) | {"threads": threads}
    return {"words": words, "settings": settings, "config": config_text(options, arguments, settings, version())}


AGAIN = "all that is finished; the same command again goes on from there"
OF_TOKENS = {f"predictor={name}": ("objective=tokens", "planning=tokens") for name in ("transformer", "tokens_tiny")}
DRIVEN = "the episodes driven so far"
OF_GRASPING = {"task=jaco_place": ("planner=cem_small", "oracle=grasp")}
VERBS = {
    "drive": Verb(Options("drive", ("out", "model", "baseline", "goal"), together=OF_GRASPING), drive, DRIVEN),
    "collect": Verb(Options("collect", paths=("out",)), collect, AGAIN),
    "check": Verb(Options("check", path_lists=("data",)), check),
    "import": Verb(Options("import", paths=("source", "out", "mapping")), import_data),
    "pretrain": Verb(Options("pretrain", paths=("out",), path_lists=("data",)), pretrain, AGAIN),
    "train": Verb(
        Options("train", paths=("out", "encoder", "name"), path_lists=("data",), together=OF_TOKENS), train, AGAIN
    ),
    "augment": Verb(Options("augment", ("model", "out", "name"), ("data",)), augment, AGAIN),
    "baseline": Verb(Options("baseline", paths=("out", "encoder"), path_lists=("data",)), baseline, AGAIN),
    "convert": Verb(Options("convert", paths=("checkpoint", "encoder", "out"), positional="format"), convert),
    "bench": Verb(Options("bench", paths=("out", "model")), bench, AGAIN),
    "report": Verb(Options("report", paths=("data",), positional="data"), report, "the page that was there"),
    "diagnose": Verb(Options("diagnose", paths=("model", "out"), path_lists=("data",)), diagnose),
    "info": Verb(Options("info"), info),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; unexpected errors propagate."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    flags = [word for word in words if word in FLAGS]
    rest = [word for word in words if word not in FLAGS]
    try:
        return run(rest, flags)
    except KeyboardInterrupt:
        kept = VERBS[rest[0]].kept if rest and rest[0] in VERBS else "nothing"
        print(f"\ninterrupted, kept: {kept}", file=sys.stderr)
        return 130
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        if "--traceback" in flags:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def run(words: Sequence[str], flags: Sequence[str]) -> int:
    """Help, version or a verb. Raises whatever the verb raises, and ConfigError."""
    if "--version" in flags:
        say(f"worldmodel {version()}")
        return 0
    wants_help = "-h" in flags or "--help" in flags
    if not words:
        say(overview({name: verb.options for name, verb in VERBS.items()}))
        return 0
    name, *arguments = words
    if name not in VERBS:
        hint = nearest(name, list(VERBS))
        raise ConfigError(
            f"unknown verb {name!r}{f': did you mean {hint!r}?' if hint else ''} (one of {', '.join(VERBS)}, or -h)"
        )
    verb = VERBS[name]
    if wants_help:
        say(verb_help(verb.options, group_overrides(verb.options, split_arguments(verb.options, arguments))))
        return 0
    settings = settings_from(verb.options, arguments)
    quiet()
    return verb.run(settings, config_text(verb.options, arguments, settings, version())) or 0


@contextmanager
def config_kept(out: Path, text: str) -> Iterator[None]:
    """Leave config.yaml in `out` once the verb is done with it, however it ends, but never in a folder it refused."""
    fresh = not out.is_dir() or not any(out.iterdir())
    try:
        yield
    except OutputError:
        raise
    except BaseException:
        if fresh and out.is_dir() and any(out.iterdir()):
            (out / CONFIG).write_text(text, encoding="utf-8")
        raise
    with atomic_file(out / CONFIG) as temporary:
        temporary.write_text(text, encoding="utf-8")


def say(text: str) -> None:
    """Print for a reader who may stop reading, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet() -> None:
    """No progress bars or advice from the libraries below, for this process, unless the user asked for them."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def version() -> str:
    """The installed version; a source tree that was never installed has none."""
    try:
        return metadata.version("worldmodel")
    except metadata.PackageNotFoundError:
        return "not installed"


def user_errors() -> tuple[type[Exception], ...]:
    """The errors that are the user's to mend. A package that was never imported cannot have raised its own."""
    roots: list[type[Exception]] = [WorldModelError]
    for module, name in (("planners.errors", "PlanningError"), ("envs.errors", "EnvError")):
        if module in sys.modules:
            roots.append(getattr(sys.modules[module], name))
    return tuple(roots)


if __name__ == "__main__":
    sys.exit(main())
