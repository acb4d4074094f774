"""One thread per process, so that parallel test runs do not fight, and property tests that draw the same every time."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Before torch is imported, and for child processes, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C, and without this so would the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("worldmodel", deadline=None, derandomize=True)
settings.load_profile("worldmodel")
