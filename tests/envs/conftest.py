"""One environment per task and file: compiling a scene and opening a camera are what costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from env_worlds import JACO, TASKS

from envs.goal_env import GoalEnv


@pytest.fixture(scope="module", params=list(TASKS))
def env(request: pytest.FixtureRequest) -> Iterator[gymnasium.Env[Any, Any]]:
    """As a user makes it: every task in turn, with gymnasium's wrappers."""
    made = gymnasium.make(request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def world(env: gymnasium.Env[Any, Any]) -> GoalEnv:
    """The same environment without the wrappers."""
    assert isinstance(env.unwrapped, GoalEnv)
    return env.unwrapped


@pytest.fixture(scope="module", params=JACO)
def jaco(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every task of the arm."""
    made = gymnasium.make(request.param)
    yield made.unwrapped
    made.close()
