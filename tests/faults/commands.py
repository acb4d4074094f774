"""Faults 52 and 53: command lines that are wrong, and those that name code to run."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
from typing import Any

from tests.faults.harness import PATIENCE, ROOT, Fault, Lab, Tally, deadline

CODE = (
    "os.system", "builtins.eval", "builtins.exec", "builtins.__import__", "subprocess.run", "subprocess.Popen",
    "worldmodel.checkpoint.os.system", "worldmodel.storage.os.mkdir", "logging.os.system", "pathlib.Path.touch",
    "hydra.utils.instantiate", "hydra._internal.utils._locate", "importlib.import_module", "runpy.run_path",
    "pty.spawn", "posix.system", "shutil.rmtree", "torch.load", "numpy.load", "pickle.loads", "code.interact",
    "ctypes.CDLL",
    "worldmodel.cli.main", "functools.partial", "operator.methodcaller",
)  # fmt: skip


def said(words: list[str], full: bool) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; in this process, or in one of its own."""
    if full:
        command = [sys.executable, "-m", "worldmodel.cli", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.returncode, done.stdout, done.stderr
    from worldmodel.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), deadline(PATIENCE):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def judge(tally: Tally, lab: Lab, words: list[str], message: str = "") -> None:
    """One line, exit code 2, nothing on stdout and nothing written."""
    before = sorted(os.listdir())
    try:
        code, out, err = said(words, lab.full and not any("\udcff" in word for word in words))
    except Exception as error:
        tally.count("wrong", f"{words}: {type(error).__name__}: {error}")
        return
    good = code == 2 and not out and err.startswith("error: ") and err.count("\n") == 1 and message in err
    tally.count("detected" if good else "silent" if code == 0 else "wrong", f"{words}: {code} {err[-200:]}")
    if sorted(os.listdir()) != before:
        tally.count("silent", f"{words} left {sorted(os.listdir())}")


def mistakes(tally: Tally, lab: Lab) -> None:
    """The table of tests/cli, as one more fault."""
    sys.path.insert(0, str(ROOT / "tests/cli"))
    contract: Any = importlib.import_module("test_cli_options")
    os.chdir(lab.fresh("here").parent)
    for words, message in contract.MISTAKES:
        judge(tally, lab, words, message)


def names_of_code(tally: Tally, lab: Lab) -> None:
    """Settings that name code: no option has such a name, and none is ever looked up."""
    here = lab.fresh("here").parent
    os.chdir(here)
    for number, code in enumerate(CODE):
        forms = (
            f"planner._target_={code}", f"+planner._target_={code}", f"task={{_target_:{code},_args_:[touch canary]}}",
            f"planner=[{code}]", f"hydra.run.dir=${{{code}:canary}}", f"agent=${{oc.env:{code}}}",
            f"model._target_={code}",
        )  # fmt: skip
        for form in forms if lab.full else (forms[number % len(forms)], forms[(number + 3) % len(forms)]):
            judge(tally, lab, ["drive", "out=new", form])
    tally.holds(not (here / "canary").exists(), "code ran")


FAULTS = (
    Fault(
        52,
        "command lines that are wrong (the table of tests/cli)",
        "one line with the nearest name, exit code 2",
        mistakes,
    ),
    Fault(53, "command lines that name code to run", "refused; canary absent", names_of_code),
)
