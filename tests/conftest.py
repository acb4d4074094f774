"""One thread a process, so that parallel runs do not fight; property tests that draw alike; the longest tests first."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# Before torch is imported, and for child processes, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C, and without this so would the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("worldmodel", deadline=None, derandomize=True)
settings.load_profile("worldmodel")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The campaigns of faults come first: begun last, one of two workers would be alone with them for minutes."""
    items.sort(key=lambda item: item.path.parent.name != "faults")
