"""Notices a graphics driver that never comes back: nothing in Python can interrupt it, so the process has to end."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from envs.errors import RenderError

LIMIT = 30  # [s] for one picture; the first one compiles shaders and takes a second
VARIABLE = "WORLDMODEL_RENDER_SECONDS"


class Watchdog:
    """Ends the process with exit code 2 and one line when a picture takes longer than the limit.

    It counts its own ticks rather than the clock, so that a process which was stopped meanwhile is not blamed.
    WORLDMODEL_RENDER_SECONDS sets another limit; 0 waits for ever.
    """

    def __init__(self, backend: str) -> None:
        self._backend, self._pictures, self._drawing = backend, itertools.count(1), 0
        self._limit = float(os.environ.get(VARIABLE, LIMIT))
        if self._limit > 0:
            threading.Thread(target=self._watch, name="render watchdog", daemon=True).start()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """While the driver is at work on one picture."""
        self._drawing = next(self._pictures)
        try:
            yield
        finally:
            self._drawing = 0

    def _watch(self) -> None:
        step = min(1.0, self._limit / 4)
        seen, waited = 0, 0.0
        while True:
            time.sleep(step)
            waited = waited + step if self._drawing == seen != 0 else 0.0
            seen = self._drawing
            if waited >= self._limit:
                error = RenderError.of(self._backend, TimeoutError(f"no picture after {self._limit:g} s"))
                sys.stderr.write(f"error: {error}\n")
                sys.stderr.flush()
                os._exit(2)
