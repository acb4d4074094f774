"""The evaluation protocol: frozen, hashed, printed in every report, and given a new version when it changes.

A success rate without its protocol is not a result: how goals are made, the units, the budget and the test of success
can move one and the same model from 84% to 8%.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from worldmodel.errors import ConfigError


@dataclass(frozen=True)
class SeedRange:
    """Episode seeds `first` to `last`, both included; `last` None is open-ended."""

    name: str
    first: int
    last: int | None

    def __contains__(self, seed: int) -> bool:
        return self.first <= seed and (self.last is None or seed <= self.last)


@dataclass(frozen=True)
class TaskRule:
    """What one task fixes: `budget` in calls of `step`, `success_radius_m` [m] (None: the task's own predicate)."""

    id: str
    budget: int
    step_unit: str
    success_radius_m: float | None
    success: str


@dataclass(frozen=True)
class Protocol:
    """Version, seed ranges, tasks and the words that define the two success rates; `decision_s` in [s]."""

    version: int
    decision_s: float
    seeds: tuple[SeedRange, ...]
    tasks: tuple[TaskRule, ...]
    reached: str
    held: str
    failure: str
    interval: str


PROTOCOL = Protocol(
    version=2,
    decision_s=0.2,
    seeds=(
        SeedRange("training", 0, 99_999),
        SeedRange("validation", 100_000, 199_999),
        SeedRange("test", 1_000_000, None),
    ),
    tasks=(
        TaskRule("worldmodel/JacoReach-v0", 15, "decision", 0.03, "pinch site within the radius of its goal position"),
        TaskRule("worldmodel/JacoPush-v0", 30, "decision", 0.04, "cube centre within the radius of its goal position"),
        TaskRule(
            "worldmodel/JacoRearrange-v0", 60, "decision", 0.05, "both cube centres within the radius of their goals"
        ),
        TaskRule(
            "worldmodel/JacoPlace-v0",
            40,
            "decision",
            0.05,
            "cup within the radius of its goal, upright within 20 degrees, at rest",
        ),
        TaskRule("worldmodel/Navigate-v0", 60, "decision", 0.15, "middle of the robot within the radius of its goal"),
        TaskRule("worldmodel/DmcReacher-v0", 50, "environment step", None, "as published"),
    ),
    reached="success at some decision within the budget",
    held="success at the last decision of the budget",
    failure="divergence, NaN, exception or planner error; counted and listed, never retried or dropped",
    interval="Wilson 95%",
)


def protocol_sha256(protocol: Protocol = PROTOCOL) -> str:
    """Hex digest of the protocol's canonical JSON."""
    text = json.dumps(asdict(protocol), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seed_range(seed: int) -> str:
    """The range an episode seed belongs to: "training", "validation" or "test". Raises ConfigError in the gaps."""
    for known in PROTOCOL.seeds:
        if seed in known:
            return known.name
    raise ConfigError(f"expected a seed in one of the ranges {_ranges()}, got {seed}: choose another seed=")


def episodes_range(first: int, episodes: int) -> str:
    """The one range that holds the seeds first .. first+episodes-1. Raises ConfigError when they straddle two."""
    name = seed_range(first)
    last = first + episodes - 1
    if not any(known.name == name and last in known for known in PROTOCOL.seeds):
        raise ConfigError(
            f"expected all episode seeds in one of the ranges {_ranges()}, got {first} to {last}: "
            "choose another seed= or fewer episodes="
        )
    return name


def check_task(env_id: str, budget: int, success_radius_m: float) -> None:
    """Refuse an environment whose budget or radius [m] is not the protocol's. Raises ConfigError."""
    for rule in PROTOCOL.tasks:
        wanted = (rule.budget, rule.success_radius_m if rule.success_radius_m is not None else success_radius_m)
        if rule.id == env_id and wanted != (budget, success_radius_m):
            raise ConfigError(
                f"expected {env_id} with budget {wanted[0]} and success radius {wanted[1]} m as in protocol version "
                f"{PROTOCOL.version}, got {budget} and {success_radius_m} m: "
                "mend the task or give the protocol a new version"
            )


def steps_of(env_id: str) -> str:
    """What a budget counts, in words."""
    units = {rule.id: rule.step_unit for rule in PROTOCOL.tasks}
    unit = units.get(env_id, "decision")
    return f"decisions of {PROTOCOL.decision_s} s" if unit == "decision" else f"{unit}s"


def _ranges() -> str:
    return ", ".join(
        f"{known.name} {known.first}-{known.last}" if known.last is not None else f"{known.name} {known.first} and up"
        for known in PROTOCOL.seeds
    )
