"""The protocol is frozen, hashed and the same as the environments."""

from __future__ import annotations

import dataclasses

import pytest

import envs
from benchmarks.protocol import PROTOCOL, check_task, episodes_range, protocol_sha256, seed_range
from worldmodel.errors import ConfigError

VERSION_2 = "5aace6dd97649a7bfe19adc975e4a4ece93b3dce9273a941e3c00cb2d7784588"


def test_a_change_of_the_protocol_needs_a_new_version() -> None:
    assert PROTOCOL.version == 2
    assert protocol_sha256() == VERSION_2


def test_every_field_enters_the_hash() -> None:
    task = dataclasses.replace(PROTOCOL.tasks[1], budget=31)
    changed = dataclasses.replace(PROTOCOL, tasks=(PROTOCOL.tasks[0], task, *PROTOCOL.tasks[2:]))
    others = [changed, dataclasses.replace(PROTOCOL, decision_s=0.1), dataclasses.replace(PROTOCOL, held="ever")]
    assert len({protocol_sha256(other) for other in others} | {protocol_sha256()}) == len(others) + 1


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROTOCOL.version = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("seed", "name"),
    [
        (0, "training"),
        (99_999, "training"),
        (100_000, "validation"),
        (199_999, "validation"),
        (1_000_000, "test"),
        (10**12, "test"),
    ],
)
def test_seed_ranges(seed: int, name: str) -> None:
    assert seed_range(seed) == name
    assert sum(seed in known for known in PROTOCOL.seeds) == 1


@pytest.mark.parametrize("seed", [-1, 200_000, 999_999])
def test_a_seed_of_no_range_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=f"got {seed}: choose another seed="):
        seed_range(seed)


def test_episodes_must_not_straddle_two_ranges() -> None:
    assert episodes_range(99_990, 10) == "training"
    with pytest.raises(ConfigError, match="got 99990 to 100000"):
        episodes_range(99_990, 11)


def test_the_registered_tasks_have_the_budgets_of_the_protocol() -> None:
    budgets = {rule.id: rule.budget for rule in PROTOCOL.tasks}
    assert {name: budgets[name] for name in envs.TASKS} == {name: budget for name, (_, budget) in envs.TASKS.items()}


def test_another_budget_or_radius_is_refused() -> None:
    check_task("worldmodel/JacoReach-v0", 15, 0.03)
    check_task("somebody/Else-v0", 7, 1.0)
    for budget, radius in ((16, 0.03), (15, 0.05)):
        with pytest.raises(ConfigError, match=r"budget 15 and success radius 0\.03 m"):
            check_task("worldmodel/JacoReach-v0", budget, radius)
