"""The fault campaign in its quick form, and that it notices each protection that is switched off."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.breaks import BREAKS
from tests.faults.campaign import GROUPS
from tests.faults.harness import ROOT


def campaign(*words: str) -> None:
    command = [sys.executable, "-m", "tests.faults.campaign", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("group", GROUPS)
def test_every_fault_is_detected(group: str) -> None:
    campaign("--only", group)


@pytest.mark.parametrize("name", BREAKS)
def test_a_protection_that_is_switched_off_is_noticed(name: str) -> None:
    campaign("--break", name)
