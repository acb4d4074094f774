"""The episode loop: every agent, every task, the same rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.episode import Episode, Lane, MakeEnv, Trace
from worldmodel.types import Agent

OnEpisode = Callable[[Episode, "Trace | None"], None]
OnDecision = Callable[[int], None]
BOX_TOLERANCE = 1e-5  # an action may leave [-1, 1] by rounding, not by more


def evaluate(
    make_env: MakeEnv,
    agent: Agent,
    seeds: Sequence[int],
    *,
    parallel: int = 1,
    goal: NDArray[np.uint8] | None = None,
    trace: bool = False,
    on_episode: OnEpisode | None = None,
    on_decision: OnDecision | None = None,
) -> list[Episode]:
    """Run one episode per seed, `parallel` of them in lockstep, each for its full budget.

    goal: uint8 [S,S,3] shown to the agent in place of the task's own; success is then unknown (None).
    trace: record pictures and planned paths; they go to `on_episode(episode, trace)` and are not kept.
    on_decision: called after every decision of the batch with the number of episodes it advanced.

    Divergence, NaN, an exception in the environment or the agent, and a planner error fail the episode; nothing is
    retried, nothing is dropped. An exception of the agent fails every episode of its batch that is still running.
    """
    if parallel < 1:
        raise ValueError(f"expected parallel >= 1, got {parallel}")
    lanes = [Lane(make_env, goal, trace) for _ in range(parallel)]
    episodes: list[Episode] = []
    try:
        for start in range(0, len(seeds), parallel):
            group = [int(seed) for seed in seeds[start : start + parallel]]
            used = lanes[: len(group)]
            _run(used, agent, group, on_decision)
            for lane in used:
                lane.finish()
                episodes.append(lane.episode)
                if on_episode is not None:
                    on_episode(lane.episode, lane.trace)
    finally:
        for lane in lanes:
            lane.close()
    return episodes


def _run(lanes: list[Lane], agent: Agent, seeds: list[int], on_decision: OnDecision | None) -> None:
    """One batch of episodes in lockstep. A lane that fails on the way keeps its last observation in the batch."""
    for lane, seed in zip(lanes, seeds, strict=True):
        lane.begin(seed, len(lanes))
    batch = [lane for lane in lanes if lane.alive]
    if not batch:
        return
    try:
        agent.reset(np.stack([lane.goal for lane in batch]), [lane.episode.seed for lane in batch])
    except Exception as error:
        _fail(batch, "agent at reset", error)
        return
    for count in range(batch[0].budget):
        where = f"agent at decision {count + 1}"
        try:
            actions, seconds = _act(agent, batch)
            for index, lane in enumerate(batch):
                if lane.alive:
                    lane.note(agent.decision, index, seconds)
        except Exception as error:
            _fail(batch, where, error)
            return
        for lane, action in zip(batch, actions, strict=True):
            if lane.alive:
                _execute(lane, action, where)
        running = sum(lane.alive for lane in batch)
        if on_decision is not None:
            on_decision(running)
        if not running:
            return


def _act(agent: Agent, batch: list[Lane]) -> tuple[NDArray[Any], float]:
    """Actions [B,A] and the seconds the agent took; it gets arrays of its own."""
    observations = {name: np.stack([lane.observation[name] for lane in batch]) for name in batch[0].observation}
    started = time.perf_counter()
    actions = np.asarray(agent.act(observations))
    seconds = time.perf_counter() - started
    if actions.ndim != 2 or actions.shape[0] != len(batch):
        raise ValueError(f"expected actions of shape [{len(batch)}, A], got {list(actions.shape)}: mend the agent")
    return actions, seconds


def _execute(lane: Lane, action: NDArray[Any], where: str) -> None:
    if not np.isfinite(action).all():
        lane.fail(where, "the action is not finite")
    elif np.abs(action).max() > 1 + BOX_TOLERANCE:
        lane.fail(where, f"the action leaves [-1, 1]: {np.abs(action).max():.6g}")
    else:
        lane.step(np.clip(action, -1, 1).astype(np.float32))


def _fail(batch: list[Lane], where: str, error: Exception) -> None:
    for lane in batch:
        if lane.alive:
            lane.fail(where, error)
