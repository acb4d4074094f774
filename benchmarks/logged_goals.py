"""Goals as far away as one likes: where the scripted behaviour of data collection brings the world in k decisions."""

from __future__ import annotations

from typing import Any

import gymnasium


class LoggedGoals(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A goal task whose episodes start as data collection does and whose goal is the state k decisions later.

    The budget and the test of success stay the task's own; starts at which the goal is reached already, and goals in
    whose picture the object is hidden, are drawn again. Start and goal follow from the episode's seed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], decisions: int) -> None:
        super().__init__(env)
        self._decisions = decisions

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode. Raises SceneError where no log of the seed has a goal."""
        return super().reset(seed=seed, options={**(options or {}), "goal_after": self._decisions})


def make_task(env_id: str, decisions: int | None, **options: Any) -> gymnasium.Env[Any, Any]:
    """The environment `env_id`, with goals so many decisions away; None: with its own goals."""
    env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, disable_env_checker=True, **options)
    return env if decisions is None else LoggedGoals(env, decisions)
