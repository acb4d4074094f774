"""One of the planners as an agent uses it: within the decision's deadline, and in no more memory than there is."""

from __future__ import annotations

import inspect
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import planners
from planners import ActionBox, CostFn, Plan, Proposal
from worldmodel.candidates import Chunked
from worldmodel.errors import ConfigError

PLANNERS: dict[str, Callable[..., Plan]] = {
    "cem": planners.cem,
    "icem": planners.icem,
    "mppi": planners.mppi,
    "gradient": planners.gradient,
    "random_shooting": planners.random_shooting,
}


# Candidates that a CPU imagines at a time: what lies between two layers stays in its cache, in memory that is used
# again. Episodes side by side are planned for faster, and do the same to the bit.
CPU_SIZE = 512


class Search:
    """Looks for plans. Raises ConfigError for a planner or a setting that does not exist.

    settings: of the planner; a deadline is that of the whole decision, counted from `begin`. size: how many candidates,
    of all episodes together, are imagined at a time; halved for good where memory runs out, with a warning.
    """

    def __init__(self, planner: str, settings: Mapping[str, Any], size: int = sys.maxsize) -> None:
        if planner not in PLANNERS:
            raise ConfigError(f"expected planner to be one of {', '.join(PLANNERS)}, got {planner!r}")
        require_known(planner, settings)
        self._deadline: float | None = settings.get("deadline")
        default = inspect.signature(PLANNERS[planner]).parameters["num_samples"].default
        self._room = int(settings.get("num_samples", default)) - 1
        self._solve = partial(PLANNERS[planner], **{key: settings[key] for key in settings if key != "deadline"})
        self._began = time.perf_counter()
        self.size = size

    def begin(self) -> None:
        """A decision begins: the clock of its deadline runs."""
        self._began = time.perf_counter()

    def __call__(
        self,
        cost: CostFn,
        start: Proposal,
        box: ActionBox,
        generator: torch.Generator,
        candidates: Tensor | None = None,
    ) -> Plan:
        """The planner's plan. candidates [B,C,H,A]: the most important first; as many take part as there is room for.

        Raises PlanningError where no cost is finite, WorldModelError where not even one candidate fits into memory.
        """
        chunked, more = Chunked(cost, self.size), dict[str, Any]()
        if candidates is not None:
            more["candidates"] = candidates[:, : self._room]
        if self._deadline is not None:
            more["deadline"] = max(0.0, self._deadline - (time.perf_counter() - self._began))
        plan = self._solve(chunked, start, box, generator, **more)
        if chunked.halvings:
            self.size = chunked.size
            warnings.warn(f"memory ran out: {self.size} candidates are imagined at a time from now on", stacklevel=2)
        return plan


def stream(*seeds: int) -> int:
    """The seed of a planner's generator for these seeds, its own and the episodes': far apart for neighbours."""
    entropy = np.random.SeedSequence([int(seed) for seed in seeds])
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def require_known(planner: str, settings: Iterable[str]) -> None:
    """Raise ConfigError for a setting that the planner does not have, or that is not for the user to give."""
    parameters = inspect.signature(PLANNERS[planner]).parameters.values()
    known = sorted({item.name for item in parameters if item.kind is item.KEYWORD_ONLY} - {"candidates"})
    for name in settings:
        if name not in known:
            raise ConfigError(f"expected a setting of PlanningAgent or of {planner} ({', '.join(known)}), got {name!r}")
