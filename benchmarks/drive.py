"""`worldmodel drive`: from the settings of the command line to one measured row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch

import worldmodel
from benchmarks.agents import HoldAgent, OracleAgent, RandomAgent
from benchmarks.episode import MakeEnv
from benchmarks.run import AgentFactory, Subject, run
from worldmodel.agent import PLANNERS
from worldmodel.errors import ConfigError
from worldmodel.guardrails import Guardrails
from worldmodel.types import Agent

AGENTS = ("planning", "oracle", "random", "hold")


def drive(
    *,
    task: Mapping[str, Any],
    agent: str,
    planner: Mapping[str, Any],
    planning: Mapping[str, Any],
    guardrails: Mapping[str, Any],
    oracle: Mapping[str, Any],
    episodes: int,
    seed: int,
    out: str | Path,
    video: bool = False,
    model: str | Path = "jaco",
    goal: str | Path | None = None,
    parallel: int = 1,
    threads: int | None = None,
    config: str | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Measure one agent on one task; see `benchmarks.run.run` for what is written, and for `resume`.

    task: {"id", "name"}. planner: {"name", and the planner's own settings}; planning and oracle use it.
    planning: settings of the planning agent that replace the model's own, where they are not None.
    guardrails: {"name", "keep_out" (side of the box between start and goal [m]), and the fields of Guardrails}.
    oracle: its horizon, and its own settings of the planner.
    model: a shipped model by name, or a folder. threads: of torch, for the whole process.
    """
    if agent not in AGENTS:
        raise ConfigError(f"expected agent to be one of {', '.join(AGENTS)}, got {agent!r}: choose one of them")
    if agent == "oracle" and goal is not None:
        raise ConfigError(
            "expected the task's own goals for agent=oracle, got goal=: it cannot see; use agent=planning"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    subject = _subject(task, agent, planner, model, video, planning=planning, guardrails=guardrails, oracle=oracle)
    return run(
        subject,
        episodes=episodes,
        seed=seed,
        out=Path(out),
        video=video,
        goal=None if goal is None else Path(goal),
        parallel=parallel,
        config=config,
        resume=resume,
    )


def _subject(
    task: Mapping[str, Any],
    agent: str,
    planner: Mapping[str, Any],
    model: str | Path,
    video: bool,
    *,
    planning: Mapping[str, Any],
    guardrails: Mapping[str, Any],
    oracle: Mapping[str, Any],
) -> Subject:
    """Who is measured on what. Loads the model, makes no environment."""
    import envs  # registers the tasks  # noqa: F401

    env_id = str(task["id"])
    obstacle: dict[str, Any] = {"keep_out": guardrails["keep_out"]} if guardrails["keep_out"] else {}
    make_env: MakeEnv = partial(gymnasium.make, env_id, disable_env_checker=True, **obstacle)
    name = str(planner["name"]) if agent in ("planning", "oracle") else None
    settings = {key: value for key, value in planner.items() if key != "name"} if name is not None else {}
    card: Mapping[str, Any] = {"name": None, "sha256": None}
    make_agent: AgentFactory = _random if agent == "random" else _hold
    if agent == "planning":
        settings |= {key: value for key, value in planning.items() if value is not None}
        make_agent, card = _planning(model, str(name), settings, _guardrails(guardrails))
    elif agent == "oracle":
        settings |= {key: value for key, value in oracle.items() if key in settings}
        make_agent = partial(_oracle, make_env, partial(_planner(str(name)), **settings), oracle["horizon"], video)
        settings["horizon"] = oracle["horizon"]
    recorded = {**settings, "guardrails": dict(guardrails)}
    return Subject(env_id, str(task["name"]), make_env, agent, make_agent, name, card, recorded)


def _guardrails(settings: Mapping[str, Any]) -> Guardrails | None:
    """What the settings forbid, or None where that is nothing."""
    limits = {key: value for key, value in settings.items() if key not in ("name", "keep_out")}
    forbidden = ("boxes", "spheres", "workspace", "speed", "action_rate")
    if not settings["keep_out"] and not any(limits[key] for key in forbidden):
        return None
    return Guardrails(**limits)


def _planner(name: str) -> Any:
    if name not in PLANNERS:
        raise ConfigError(f"expected planner to be one of {', '.join(PLANNERS)}, got {name!r}: choose one of them")
    return PLANNERS[name]


def _planning(
    model: str | Path, planner: str, settings: Mapping[str, Any], guardrails: Guardrails | None
) -> tuple[AgentFactory, Mapping[str, Any]]:
    """The shipped or given model, loaded before anything else is made."""
    loaded = worldmodel.load(model)

    def make(env: gymnasium.Env[Any, Any]) -> Agent:
        return loaded.agent(planner=planner, guardrails=guardrails, **settings)

    return make, {"name": loaded.name, "sha256": loaded.sha256}


def _oracle(make_env: MakeEnv, search: Any, horizon: int, paths: bool, env: gymnasium.Env[Any, Any]) -> Agent:
    return OracleAgent(make_env, search, horizon=horizon, paths=paths)


def _random(env: gymnasium.Env[Any, Any]) -> Agent:
    return RandomAgent(_action_dim(env))


def _hold(env: gymnasium.Env[Any, Any]) -> Agent:
    return HoldAgent(_action_dim(env))


def _action_dim(env: gymnasium.Env[Any, Any]) -> int:
    space: Any = env.action_space
    return int(space.shape[0])
