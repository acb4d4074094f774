"""Help, read from the YAML files themselves: every option with its default and the comment beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from worldmodel.cli_options import CONFIGS, MISSING, Options, is_fixed

LINE = re.compile(r"^(?:  - )?(?P<key>\w+):(?P<value>[^#]*)#\s*(?P<comment>.*)$")


def summary(path: Path) -> str:
    """The comment in the first line of a YAML file."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()


def comments(path: Path) -> dict[str, tuple[str, str]]:
    """key -> (default as written, comment), in the order of the file."""
    matches = (LINE.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match["key"]: (match["value"].strip(), match["comment"]) for match in matches if match}


def overview(verbs: Mapping[str, Options]) -> str:
    """What `worldmodel -h` prints."""
    width = max(map(len, verbs))
    lines = [f"  {name:<{width}}  {summary(options.file)}" for name, options in verbs.items()]
    return "\n".join(
        [
            "usage: worldmodel VERB key=value ...",
            "",
            "World-model planning for robot arms: record, pretrain, train, drive.",
            "",
            *lines,
            "",
            "worldmodel VERB -h    the options of a verb, with their defaults",
            "worldmodel --version",
            "--traceback           print where an error came from, too",
            "",
            "example: worldmodel drive task=jaco_push episodes=3 video=true out=runs/push",
        ]
    )


def verb_help(options: Options, selected: list[str]) -> str:
    """What `worldmodel VERB -h` prints; `selected` are the group choices already made, as in `planner=mppi`."""
    groups = options.groups() | dict(text.split("=", 1) for text in selected)
    rows: list[tuple[str, str]] = []
    inner: list[tuple[str, list[tuple[str, str]]]] = []
    for key, (default, comment) in comments(options.file).items():
        if key in groups:
            path = CONFIGS / key / f"{groups[key]}.yaml"
            rows.append((f"{key}={groups[key]}", f"{comment}: {' | '.join(options.choices(key))}"))
            leaves = {f"{key}.{name}": (value, text) for name, (value, text) in comments(path).items()}
            shown = [(f"{name}={value}", text) for name, (value, text) in leaves.items() if not is_fixed(name)]
            inner.append((f"{key}={groups[key]}: {summary(path)}", shown))
        else:
            rows.append((f"{key}={default}" if default != MISSING else f"{key}=...", comment))
    required = [f"{key}=..." for key, (default, _) in comments(options.file).items() if default == MISSING]
    lines = [f"usage: worldmodel {' '.join([options.verb, *required])} [key=value ...]", "", summary(options.file)]
    width = min(44, max(len(left) for left, _ in rows + [row for _, leaves in inner for row in leaves]))
    for title, block in [("options", rows), *inner]:
        lines += ["", f"{title}", *(f"  {left:<{width}}  {right}" for left, right in block)]
    return "\n".join(lines)
