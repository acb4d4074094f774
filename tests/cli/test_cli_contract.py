"""What the YAML files offer is what the functions take, name by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import planners
from benchmarks.drive import drive
from worldmodel.cli import VERBS
from worldmodel.data.collect import collect
from worldmodel.pretrain.run import pretrain
from worldmodel.training.augment import augment
from worldmodel.training.run import train

FUNCTIONS = {"drive": drive, "collect": collect, "pretrain": pretrain, "train": train, "augment": augment}
COMPOSED = {
    "collect": {"task": "env_id", "randomize_visuals": "env_kwargs"},
    "train": {"validate_task": "drive", "validate_episodes": "drive"},
}


def keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {name: parameter for name, parameter in found.items() if parameter.kind is parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_verb_takes_every_setting_and_needs_no_other(verb: str) -> None:
    renamed = COMPOSED.get(verb, {})
    offered = {renamed.get(name, name) for name in VERBS[verb].options.compose()}
    taken = keywords(FUNCTIONS[verb])
    assert offered <= set(taken)
    assert {name for name, parameter in taken.items() if parameter.default is parameter.empty} <= offered


@pytest.mark.parametrize("name", VERBS["drive"].options.choices("planner"))
def test_a_planner_file_offers_exactly_the_planners_settings(name: str) -> None:
    offered = VERBS["drive"].options.compose([f"planner={name}"])["planner"]
    assert set(offered) == {"name", *keywords(getattr(planners, offered["name"]))} - {"candidates"}
    assert name in (offered["name"], f"{offered['name']}_small")


@pytest.mark.parametrize("name", VERBS["drive"].options.choices("task"))
def test_a_task_file_names_a_registered_environment(name: str) -> None:
    import gymnasium

    import envs

    task = VERBS["drive"].options.compose([f"task={name}"])["task"]
    assert task["id"] in envs.TASKS
    assert gymnasium.spec(task["id"]).entry_point is not None
    assert task["name"] == name
