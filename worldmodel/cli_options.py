"""From `key=value ...` to checked settings: Hydra composition over configs/, and one-line errors that name the way out.

Nothing heavy is imported here, so that a mistake in a command costs a fraction of a second.
"""

from __future__ import annotations

import difflib
import math
import os
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from worldmodel.cli_limits import LIMITS, Limit
from worldmodel.errors import ConfigError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MISSING = "???"
FIXED = ("name", "id")  # what a group's file says of itself: chosen with the file, not one by one


@dataclass(frozen=True)
class Options:
    """What a verb's YAML offers. `paths` are taken literally, whatever characters they hold; `path_lists` at commas.

    positional: the option that a bare first word is the value of, as in `worldmodel convert vjepa2_ac`.
    together: the files that a choice brings with it unless others are chosen, "group=file" -> ("group=file", ...).
    """

    verb: str
    paths: tuple[str, ...] = ()
    path_lists: tuple[str, ...] = ()
    positional: str | None = None
    together: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The verb's primary YAML."""
        return CONFIGS / f"{self.verb}.yaml"

    def groups(self) -> dict[str, str]:
        """Group name -> the file chosen by default."""
        entries = yaml.safe_load(self.file.read_text(encoding="utf-8"))["defaults"]
        return {name: chosen for entry in entries if isinstance(entry, dict) for name, chosen in entry.items()}

    def choices(self, group: str) -> list[str]:
        """The files of a group."""
        return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))

    def compose(self, overrides: Iterable[str] = ()) -> dict[str, Any]:
        """The composed settings as plain values; options that have no default are "???"."""
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3", job_name="worldmodel"):
            composed = OmegaConf.to_container(compose(config_name=self.verb, overrides=list(overrides)), resolve=True)
        assert isinstance(composed, dict)
        return {str(key): value for key, value in composed.items()}


def settings_from(options: Options, arguments: Sequence[str]) -> dict[str, Any]:
    """The settings of one run. Raises ConfigError for whatever is misspelt, of the wrong kind, double or missing."""
    given = split_arguments(options, arguments)
    selected = group_overrides(options, given)
    defaults = options.compose(selected)
    known = {key: value for key, value in flatten(defaults) if not is_fixed(key)}
    overrides, literal = [*selected], dict[str, Any]()
    for key, text in given.items():
        if key in options.groups():
            continue
        if key not in known:
            raise unknown_option(options, key, known)
        if key in options.paths + options.path_lists:
            literal[key] = path_value(options, key, text, known[key])
        else:
            check_value(options, key, text, known[key])
            overrides.append(f"{key}={text}")
    settings = options.compose(overrides) | literal
    for key, value in flatten(settings):
        if value == MISSING:
            raise ConfigError(f"option {key!r} of {options.verb} is missing: give {key}={example(options, key)}")
    return settings


def split_arguments(options: Options, arguments: Sequence[str]) -> dict[str, str]:
    """key -> text. Raises ConfigError for anything that is not key=value, or is given twice."""
    given: dict[str, str] = {}
    for index, argument in enumerate(arguments):
        bare = argument.isidentifier() or (options.positional in options.paths and "=" not in argument)
        if index == 0 and options.positional and bare:
            argument = f"{options.positional}={argument}"
        key, sign, text = argument.partition("=")
        if not sign:
            hint = nearest(key.lstrip("-"), [*options.groups(), *dict(flatten(options.compose()))])
            raise ConfigError(f"expected key=value after {options.verb}, got {argument!r}{hint_text(hint, '=...')}")
        if key in given:
            raise ConfigError(f"option {key!r} of {options.verb} is given twice: keep one")
        given[key] = text
    return given


def group_overrides(options: Options, given: Mapping[str, str]) -> list[str]:
    """The chosen files of the groups, and those that go with them. Raises ConfigError for one that does not exist."""
    for group in options.groups():
        choices = options.choices(group)
        if group in given and given[group] not in choices:
            hint = hint_text(nearest(given[group], choices), "")
            raise ConfigError(f"unknown {group} {given[group]!r} for {options.verb}{hint} ({' | '.join(choices)})")
    chosen = [f"{group}={given[group]}" for group in options.groups() if group in given]
    implied = [other for choice in chosen for other in options.together.get(choice, ())]
    return chosen + [other for other in implied if other.partition("=")[0] not in given]


def unknown_option(options: Options, key: str, known: Mapping[str, Any]) -> ConfigError:
    """The error for an option that does not exist, naming the nearest one that does."""
    names = [*options.groups(), *known]
    bare = key.lstrip("-+~")
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    if is_fixed(bare) and bare.partition(".")[0] in names:
        hint: str | None = bare.partition(".")[0]
    elif bare in by_last:
        hint = by_last[bare]
    else:
        by_whole = nearest(bare, names) if "." in bare else None
        hint = by_whole or by_last.get(nearest(bare.rpartition(".")[2], list(by_last)) or "")
    listing = f": see worldmodel {options.verb} -h" if hint is None else hint_text(hint, "")
    return ConfigError(f"unknown option {key!r} for {options.verb}{listing}")


def nearest(word: str, candidates: Sequence[str]) -> str | None:
    """The candidate most like `word`, if any is."""
    found = difflib.get_close_matches(word, candidates, n=1, cutoff=0.5)
    return found[0] if found else None


def hint_text(hint: str | None, tail: str) -> str:
    """The question that names the nearest valid word."""
    return "" if hint is None else f": did you mean '{hint}{tail}'?"


def is_fixed(key: str) -> bool:
    """Whether a dotted name is one that comes with its file."""
    group, _, leaf = key.rpartition(".")
    return bool(group) and leaf in FIXED


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted names and values of all leaves."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def path_value(options: Options, key: str, text: str, default: Any) -> Any:
    """A path or a list of paths, literally as typed; `null` only where that is the default."""
    if text == "null" and default is None:
        return None
    if not text or any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ConfigError(f"expected a path for {key!r} of {options.verb}, got {text!r}: write {key}=DIR in plain text")
    if key in options.path_lists:
        return [os.path.expanduser(folder) for folder in split_folders(text)]
    return os.path.expanduser(text)


def split_folders(text: str) -> list[str]:
    """Folders separated by commas; a name that itself holds commas is kept whole where such a folder exists."""
    folders: list[str] = []
    pending = ""
    for part in text.split(","):
        pending = f"{pending},{part}" if pending else part
        if Path(pending).expanduser().exists():
            folders.append(pending)
            pending = ""
    return [*folders, *(part for part in pending.split(",") if part)]


def check_value(options: Options, key: str, text: str, default: Any) -> None:
    """Raise ConfigError unless `text` is a value this option can take."""
    name = key.rpartition(".")[2]
    limit = LIMITS.get(key) or LIMITS.get(name) or Limit()
    kind = limit.kind or (str if default == MISSING else type(default))
    value = parse(key, text)
    if value is None and default is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    legal = {
        bool: isinstance(value, bool),
        int: number and isinstance(value, int) and limit.low <= value <= limit.high,
        float: number and math.isfinite(value) and limit.low <= value <= limit.high,
        str: isinstance(value, str) and (not limit.choices or value in limit.choices),
        list: isinstance(value, list),
    }
    if not legal[kind]:
        mend = hint_text(nearest(text, limit.choices), "") if limit.choices else f": for example {key}={default}"
        null = " or null" if default is None else ""
        raise ConfigError(
            f"expected {wanted(kind, limit)}{null} for {key!r} of {options.verb}, got {text!r}"
            + ("" if default is None else mend)
        )


def parse(key: str, text: str) -> Any:
    """The value Hydra reads in `text`; what it cannot read, and sweeps, are of no kind that any option takes."""
    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
        value = override.value()
    except HydraException:
        return ...
    if override.is_sweep_override() or (isinstance(value, str) and "${" in value):
        return ...
    return value.text if isinstance(value, QuotedString) else value


def wanted(kind: type, limit: Limit) -> str:
    """The legal values in words."""
    if limit.choices:
        return " | ".join(limit.choices)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "[a, list]"}
    low = f" >= {limit.low:g}" if math.isfinite(limit.low) else ""
    return words[kind] + low + (f" and <= {limit.high:g}" if math.isfinite(limit.high) else "")


def yaml_file(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file. Raises ConfigError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"expected a YAML file, got {path} ({' '.join(str(error).split())}): check it") from error
    if not isinstance(found, dict):
        raise ConfigError(f"expected lines of key: value in {path}, got {type(found).__name__}: check it")
    return found


def example(options: Options, key: str) -> str:
    """What to write for an option without a default."""
    return "DIR[,DIR...]" if key in options.path_lists else "DIR" if key in options.paths else "VALUE"


def config_text(options: Options, arguments: Sequence[str], settings: Mapping[str, Any], version: str) -> str:
    """The resolved settings as YAML, with the command that led to them as a comment."""
    command = shlex.join(["worldmodel", options.verb, *arguments])
    body: str = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=1000)
    return f"# {command}    (worldmodel {version})\n{body}"
