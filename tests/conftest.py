"""One thread per process, so that parallel test runs do not fight, and property tests that draw the same every time."""

from __future__ import annotations

import os

from hypothesis import settings

# Before torch is imported, and for child processes, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("worldmodel", deadline=None, derandomize=True)
settings.load_profile("worldmodel")
