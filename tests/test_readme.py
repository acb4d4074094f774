"""The README's Python runs as it stands, and its commands name options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from worldmodel.cli import VERBS
from worldmodel.cli_options import settings_from

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["info"]["success"] is True  # type: ignore[index]


def test_every_command_in_the_readme_is_legal() -> None:
    commands = re.findall(r"^worldmodel (.*)$", README, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        verb, *arguments = shlex.split(command, comments=True)
        assert settings_from(VERBS[verb].options, arguments)
