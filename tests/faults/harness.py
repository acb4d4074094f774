"""What every fault shares: a tally of outcomes, and children that are killed, starved or left to finish.

A child is a fork of this process, which has imported everything and run nothing: it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # [s] that one injected fault may take


class HungError(Exception):
    """Longer than PATIENCE."""


@dataclass
class Tally:
    """How often a fault was injected, and what became of it. `harmless`: what came out is what was there before."""

    injected: int = 0
    detected: int = 0
    harmless: int = 0
    silent: int = 0
    hung: int = 0
    wrong: int = 0
    exact: int = 0
    resumed: int = 0
    notes: list[str] = field(default_factory=list)
    failed: bool = False  # the check itself did not work

    def count(self, outcome: str, note: str = "") -> None:
        """One more injected fault; outcome: detected | harmless | silent | hung | wrong."""
        self.injected += 1
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome in ("silent", "hung", "wrong"):
            self.notes.append(f"{outcome}: {note}"[:300])

    def resume(self, same: bool, note: str = "") -> None:
        """Whether a resumed run ended with the bytes of one that was never stopped."""
        self.resumed += 1
        self.exact += same
        if not same:
            self.notes.append(f"resume not exact: {note}"[:300])

    def holds(self, satisfied: bool, note: str) -> None:
        """A fault that must leave no trace: detected where `satisfied`, silently accepted otherwise."""
        self.count("detected" if satisfied else "silent", note)

    def refused(self, note: str, call: Callable[[], Any], *says: str, also: tuple[type[Exception], ...] = ()) -> None:
        """`call` raises an error that a user can read: of this project, one line, with all of `says` in it."""
        from envs.errors import EnvError
        from planners import PlanningError
        from worldmodel.errors import WorldModelError

        try:
            with deadline(PATIENCE), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
        except (WorldModelError, EnvError, PlanningError, *also) as error:
            text = str(error)
            good = "expected" in text and "\n" not in text and all(part in text for part in says)
            self.count("detected" if good else "wrong", f"{note}: {text}")
        except HungError:
            self.count("hung", note)
        except Exception as error:
            self.count("wrong", f"{note}: {type(error).__name__}: {' '.join(str(error).split())}")
        else:
            self.count("silent", note)

    def green(self) -> bool:
        """Nothing was accepted, hung or badly said, and whatever resumed was exact."""
        return not (self.silent or self.hung or self.wrong) and self.exact == self.resumed and self.injected > 0


@dataclass
class Lab:
    """A folder for everything; `full` asks for the long form."""

    root: Path
    full: bool = False

    def fresh(self, name: str) -> Path:
        """A path that does not exist yet."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root)) / name

    def times(self, quick: int, full: int) -> int:
        """How many injections."""
        return full if self.full else quick


Check = Callable[[Tally, Lab], None]


@dataclass(frozen=True)
class Fault:
    """One line of the list. `absent`: why it cannot happen here. `open`: a defect that is known and not mended yet."""

    number: int
    name: str
    expected: str
    check: Check | None = None
    absent: str = ""
    open: str = ""
    guards: tuple[str, ...] = ()  # what --break switches off and this fault must notice


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise HungError in the main thread after `seconds` of wall time."""

    def ring(number: int, frame: Any) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Ended:
    """How a child ended. status: its exit code, or minus the signal that ended it. hung: it had to be killed."""

    status: int
    out: str
    err: str
    hung: bool
    seconds: float


class Child:
    """A forked process that calls `function` and exits with what it returns (None: 0)."""

    def __init__(self, function: Callable[[], Any], **environment: str) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._live(function, environment)

    def _live(self, function: Callable[[], Any], environment: dict[str, str]) -> None:
        status = 70
        with suppress(BaseException):
            os.setpgid(0, 0)  # so that it can be killed with its own children
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.update(environment)
            for descriptor, file in zip((1, 2), self._files, strict=True):
                os.dup2(file.fileno(), descriptor)
            # Processes that it spawns have nothing to gain from importing the campaign.
            sys.modules["__main__"].__spec__ = None
            sys.modules["__main__"].__dict__.pop("__file__", None)
            try:
                status = int(function() or 0)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the child and, for SIGKILL, to its own children."""
        with suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGKILL else os.kill)(self.pid, number)

    def wait_or_kill(self, seconds: float) -> int:
        """Kill it after `seconds` of its life, unless it has ended before; its status."""
        with suppress(HungError), deadline(max(1e-4, self.started + seconds - time.monotonic())):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.kill()
        return self.wait().status

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return as soon as `condition` holds or the child has ended."""
        limit = time.monotonic() + PATIENCE
        while not condition() and time.monotonic() < limit:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return
            time.sleep(0.002)

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Wait for the end, at most `seconds`, then kill."""
        limit, hung = time.monotonic() + seconds, False
        while True:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > limit:
                hung, limit = True, limit + 1e9
                self.kill()
            time.sleep(0.002)
        took = time.monotonic() - self.started
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Ended(os.waitstatus_to_exitcode(code), texts[0], texts[1], hung, took)


def run(function: Callable[[], Any], seconds: float = PATIENCE, **environment: str) -> Ended:
    """Call `function` in a child and wait for it."""
    return Child(function, **environment).wait(seconds)


def verb(*words: str) -> Callable[[], int]:
    """A command as a user types it, for a child."""

    def call() -> int:
        from worldmodel.cli import main

        return main(list(words))

    return call


def one_line_error(ended: Ended) -> str:
    """The one line a refused command leaves, or '' where it left anything else. Progress bars may stand around it."""
    errors = re.findall(r"error: [^\r\n]*", ended.err)
    return errors[0] if ended.status == 2 and len(errors) == 1 and "Traceback" not in ended.err else ""


def without_privileges() -> None:
    """Give up root's right to write everywhere (capset, see capabilities(7)); a plain user has none to give up."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def starve(memory: int) -> None:
    """Leave this process `memory` bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def measure(fault: Fault, lab: Lab, seconds: float) -> Tally:
    """Run one fault's check in a child of its own."""
    report = lab.fresh("tally")

    def work() -> None:
        tally = Tally()
        assert fault.check is not None
        fault.check(tally, lab)
        report.write_text(json.dumps(asdict(tally)))

    ended = run(work, seconds)
    if report.exists():
        return Tally(**json.loads(report.read_text()))
    cause = ended.err.strip().splitlines()[-1:] or ["nothing said"]
    tally = Tally(failed=not ended.hung)
    tally.count("hung" if ended.hung else "wrong", f"the check itself ended with {ended.status}: {cause[0]}")
    return tally
