"""`worldmodel drive`: from the settings of the command line to one measured row."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch

import worldmodel
from benchmarks.agents import (
    DreamerAgent,
    DreamerPlanningAgent,
    HoldAgent,
    OracleAgent,
    PixelPredictionAgent,
    PolicyAgent,
    RandomAgent,
)
from benchmarks.episode import MakeEnv
from benchmarks.logged_goals import make_task
from benchmarks.run import AgentFactory, Subject, run
from worldmodel.baselines.bundle import KINDS, load_baseline
from worldmodel.baselines.dreamer_policy import DreamerBaseline
from worldmodel.baselines.pixels import PixelPredictor
from worldmodel.baselines.policy import GoalPolicy
from worldmodel.baselines.strip import STRIP
from worldmodel.errors import ConfigError
from worldmodel.guardrails import Guardrails
from worldmodel.search import PLANNERS
from worldmodel.training.device import choose_device
from worldmodel.types import Agent

AGENTS = ("planning", "oracle", "random", "hold", *KINDS)
SEARCHING = ("pixel_prediction", "dreamerv3_planning")  # baselines
PLANNED = ("planning", "oracle", *SEARCHING)  # with one of the planners
IN_PIXELS = ("horizon", "initial_std", "running_weight", "warm_start")  # what those of SEARCHING can be told


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
    baseline: str | Path | None = None,
    goal: str | Path | None = None,
    shift: str | None = None,
    goal_after: int | None = None,
    parallel: int = 1,
    threads: int | None = None,
    device: str = "auto",
    config: str | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Measure one agent on one task; see `benchmarks.run.run` for what is written, and for `resume`.

    task: {"id", "name"}. planner: {"name", and the planner's own settings}; planning and oracle use it.
    planning: settings of the planning agent that replace the model's own, where they are not None.
    guardrails: {"name", "keep_out" (side of the box between start and goal [m]), and the fields of Guardrails}.
    oracle: its horizon and initial_std, and its own settings of the planner.
    model: a shipped model by name, or a folder. baseline: the folder of one, for the agents of its kind.
    shift: how the scene is to look, one of envs.visuals.SHIFTS; None: as in the training data. goal_after: goals so
    many decisions away, see benchmarks/logged_goals.py; None: the task's own.
    threads: of torch, for the whole process. device: where the model of agent=planning is; "auto" takes the accelerator
    where there is one. Everything else stays on the CPU.
    """
    _refuse(agent, baseline, goal)
    if goal_after is not None and (goal is not None or shift is not None or guardrails["keep_out"]):
        raise ConfigError(f"expected goal_after={goal_after} without goal=, shift= and a box to keep out of: give one")
    if threads is not None:
        torch.set_num_threads(threads)
    trained = model if baseline is None else baseline
    settings = {"planning": planning, "guardrails": guardrails, "oracle": oracle}
    variant, where = {"shift": shift, "goal_after": goal_after}, choose_device(device)
    subject = _subject(task, agent, planner, trained, video, where, variant=variant, **settings)
    done = run(
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
    if baseline is not None and (forecast := Path(baseline) / STRIP).is_file():
        shutil.copyfile(forecast, Path(out) / STRIP)
    return done


def _refuse(agent: str, baseline: str | Path | None, goal: str | Path | None) -> None:
    """Raise ConfigError for an agent that there is not, or that has no use for what it is given."""
    if agent not in AGENTS:
        raise ConfigError(f"expected agent to be one of {', '.join(AGENTS)}, got {agent!r}: choose one of them")
    if agent == "oracle" and goal is not None:
        raise ConfigError(
            "expected the task's own goals for agent=oracle, got goal=: it cannot see; use agent=planning"
        )
    if (agent in KINDS) != (baseline is not None):
        mend = f"give baseline=DIR of a {agent}" if agent in KINDS else f"it is for agent={' | '.join(KINDS)}"
        raise ConfigError(f"expected baseline= exactly for the agents that are one, got {baseline} for {agent}: {mend}")


def _subject(
    task: Mapping[str, Any],
    agent: str,
    planner: Mapping[str, Any],
    model: str | Path,
    video: bool,
    device: torch.device,
    *,
    variant: Mapping[str, Any],
    planning: Mapping[str, Any],
    guardrails: Mapping[str, Any],
    oracle: Mapping[str, Any],
) -> Subject:
    """Who is measured on what. Loads the model, makes no environment."""
    import envs  # registers the tasks  # noqa: F401

    env_id = str(task["id"])
    options = {"keep_out": guardrails["keep_out"] or None, "shift": variant["shift"]}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    make_env: MakeEnv = partial(make_task, env_id, variant["goal_after"], **given)
    name = str(planner["name"]) if agent in PLANNED else None
    settings = {key: value for key, value in planner.items() if key != "name"} if name is not None else {}
    card: Mapping[str, Any] = {"name": None, "sha256": None}
    make_agent: AgentFactory = _random if agent == "random" else _hold
    if agent == "planning":
        settings |= {key: value for key, value in planning.items() if value is not None}
        make_agent, card = _planning(model, str(name), settings, _guardrails(guardrails), device)
    elif agent == "oracle":
        settings |= {key: value for key, value in oracle.items() if key in settings}
        ahead = {key: oracle[key] for key in ("horizon", "initial_std", "rest")}
        make_agent = partial(_oracle, make_env, partial(_planner(str(name)), **settings), ahead, video)
        settings |= ahead
    elif agent in KINDS:
        search = None if name is None else partial(_planner(name), **settings)
        told = {key: value for key, value in planning.items() if value is not None}
        make_agent, card = _baseline(agent, model, search, told)
        settings |= told
    recorded = {**settings, "guardrails": dict(guardrails)}
    where = str(device) if agent == "planning" else "cpu"
    return Subject(env_id, str(task["name"]), make_env, agent, make_agent, name, card, recorded, variant, where)


def _guardrails(settings: Mapping[str, Any]) -> Guardrails | None:
    """What the settings forbid, or None where that is nothing."""
    limits = {key: value for key, value in settings.items() if key not in ("name", "keep_out")}
    nothing: dict[str, Any] = {"boxes": [], "spheres": [], "workspace": None, "speed": None, "action_rate": None}
    if not settings["keep_out"] and limits.items() >= nothing.items():
        return None
    return Guardrails(**limits)


def _planner(name: str) -> Any:
    if name not in PLANNERS:
        raise ConfigError(f"expected planner to be one of {', '.join(PLANNERS)}, got {name!r}: choose one of them")
    return PLANNERS[name]


def _planning(
    model: str | Path, planner: str, settings: Mapping[str, Any], guardrails: Guardrails | None, device: torch.device
) -> tuple[AgentFactory, Mapping[str, Any]]:
    """The shipped or given model, loaded before anything else is made."""
    loaded = worldmodel.load(model).to(device)
    sizes = loaded.config.action_dim // loaded.config.frame_skip, loaded.config.proprio_dim

    def make(env: gymnasium.Env[Any, Any]) -> Agent:
        space: Any = env.observation_space
        task = _action_dim(env), int(space["proprio"].shape[0])
        if sizes != task:
            raise ConfigError(
                f"expected a model of the task's {task[0]} action and {task[1]} proprioception numbers, got {sizes[0]} "
                f"and {sizes[1]} in {loaded.name}: name a model that was trained on this task with model="
            )
        return loaded.agent(planner=planner, guardrails=guardrails, **settings)

    counts = [weight.numel() for name, weight in loaded.named_parameters() if not name.startswith("encoder.")]
    return make, {"name": loaded.name, "sha256": loaded.sha256, "parameters": sum(counts)}


def _baseline(
    kind: str, folder: str | Path, search: Any, told: Mapping[str, Any]
) -> tuple[AgentFactory, Mapping[str, Any]]:
    """The baseline, loaded before anything else is made. search: the planner, for the one that plans; told: how."""
    loaded, card = load_baseline(folder, kind)
    width = loaded.config.action_dim // (loaded.config.frame_skip if isinstance(loaded, GoalPolicy) else 1)
    known = IN_PIXELS if kind in SEARCHING else ()
    if set(told) - set(known):
        took = ", ".join(f"planning.{key}" for key in known) or "nothing of planning"
        raise ConfigError(f"expected {took} for agent={kind}, got {', '.join(told)}: leave the others out")

    def make(env: gymnasium.Env[Any, Any]) -> Agent:
        if width != _action_dim(env):
            got = f"{width} for a task with {_action_dim(env)}"
            raise ConfigError(f"expected a baseline with the task's action dimensions, got {got}: train another")
        if isinstance(loaded, PixelPredictor):
            return PixelPredictionAgent(loaded, search, **told)
        if isinstance(loaded, DreamerBaseline):
            return DreamerPlanningAgent(loaded, search, **told) if loaded.config.plans else DreamerAgent(loaded)
        return PolicyAgent(loaded)

    return make, card


def _oracle(
    make_env: MakeEnv, search: Any, ahead: Mapping[str, Any], paths: bool, env: gymnasium.Env[Any, Any]
) -> Agent:
    return OracleAgent(make_env, search, **ahead, paths=paths)


def _random(env: gymnasium.Env[Any, Any]) -> Agent:
    return RandomAgent(_action_dim(env))


def _hold(env: gymnasium.Env[Any, Any]) -> Agent:
    return HoldAgent(_action_dim(env))


def _action_dim(env: gymnasium.Env[Any, Any]) -> int:
    space: Any = env.action_space
    return int(space.shape[0])
