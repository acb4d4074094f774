"""One row of a benchmark: one agent, one task, many seeds -> summary.json, episodes.jsonl, videos and a page."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.episode import Episode, MakeEnv, Trace
from benchmarks.evaluate import evaluate
from benchmarks.goal_image import load_goal_image
from benchmarks.machine import machine, release_memory, versions
from benchmarks.protocol import PROTOCOL, check_task, episodes_range
from benchmarks.report import write_report
from benchmarks.summary import protocol_card, read_lines, summarise, table
from benchmarks.video import Caption, write_filmstrip, write_video
from worldmodel.errors import ConfigError
from worldmodel.storage import atomic_file, new_folder, write_json
from worldmodel.types import Agent

SUMMARY = "summary.json"
BEGUN = "protocol.json"  # under which protocol the first episode of a row was driven
AgentFactory = Callable[["gymnasium.Env[Any, Any]"], Agent]
"""Builds the agent; the environment tells the sizes of actions and pictures and is not kept."""


@dataclass(frozen=True)
class Subject:
    """Who is measured on what. `env_id` is what `make_env` makes; `planner` None where nothing is planned.

    model: at least {"name", "sha256"}, both None without a model. settings: of the planner, recorded in the summary.
    variant: how the task differs from itself, {"shift": its name or None, "goal_after": decisions or None}.
    device: where the model is.
    """

    env_id: str
    task: str
    make_env: MakeEnv
    agent: str
    make_agent: AgentFactory
    planner: str | None
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    variant: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"


@dataclass
class _Ready:
    """What is known once the first picture has been rendered and the agent exists."""

    agent: Agent
    budget: int
    radius: float
    goal: NDArray[np.uint8] | None
    versions: dict[str, str]
    step_s: float


def run(
    subject: Subject,
    *,
    episodes: int,
    seed: int,
    out: Path,
    video: bool = False,
    goal: Path | None = None,
    parallel: int = 1,
    config: str | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Drive episodes with the seeds seed .. seed+episodes-1 and write everything to the new folder `out`.

    goal: an image file shown in place of the task's goals; success is then unknown. config: kept as out/config.yaml.
    resume: `out` may hold the beginning of the very same run, which is then completed; episodes that share a batch
    share the planner's random numbers, so a batch that was cut short is driven again.
    An interruption keeps the finished episodes: summary.json then has "interrupted": true, and KeyboardInterrupt is
    raised again. Raises ConfigError, OutputError, ImageError and whatever building the environment or agent raises.
    """
    if episodes < 1 or parallel < 1:
        raise ConfigError(f"expected episodes and parallel >= 1, got {episodes} and {parallel}: give positive numbers")
    seeds = {"first": seed, "last": seed + episodes - 1, "range": episodes_range(seed, episodes)}
    fresh = not out.exists()
    if not resume or fresh:
        new_folder(out)
    require_protocol(out)
    done = complete_batches(out / "episodes.jsonl", episodes, parallel)
    try:
        ready = _prepare(subject, seed, goal)
    except BaseException:
        if fresh:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
    write_json(out / BEGUN, protocol_card())
    if config is not None:
        (out / "config.yaml").write_text(config, encoding="utf-8")
    started = time.perf_counter()
    try:
        _drive(subject, ready, range(seed, seed + episodes), done, out, video, parallel)
    finally:
        lines = read_lines(out / "episodes.jsonl")
        summary = {
            **_about(subject, ready, lines),
            "seeds": seeds,
            "goal": None if goal is None else goal.name,
            "parallel": parallel,
            "seconds": round(time.perf_counter() - started, 2),
            "interrupted": len(lines) < episodes,
        }
        write_json(out / SUMMARY, summary)
        page = write_report(out)
        print(f"{table(summary)}\n  {'page':<16}{page}")
        release_memory()
    return summary


def _about(subject: Subject, ready: _Ready, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What summary.json says of who was measured on what, and how it went."""
    return {
        "task": subject.task,
        "planner": subject.planner,
        "agent": subject.agent,
        **summarise(lines, ready.goal is None),
        "model": dict(subject.model),
        "versions": ready.versions,
        "protocol": protocol_card(),
        "machine": {**machine(), "device": subject.device},
        "env_id": subject.env_id,
        "budget": ready.budget,
        "success_radius_m": ready.radius,
        "planner_settings": dict(subject.settings),
        "variant": dict(subject.variant),
    }


def _prepare(subject: Subject, seed: int, goal: Path | None) -> _Ready:
    """Everything that can be wrong before the first episode, found out before the first episode."""
    env = subject.make_env()
    try:
        observation, _ = env.reset(seed=seed)
        found = versions()  # the GL context of the reset is still current
        inner: Any = env.unwrapped
        budget, radius = int(inner.budget), float(inner.success_radius)
        check_task(subject.env_id, budget, radius)
        pixels = None
        if goal is not None:
            image = load_goal_image(goal, observation["pixels"].shape[0])
            print(image.note)
            pixels = image.pixels
        step_s = 1.0 / float(env.metadata.get("render_fps", 1.0 / PROTOCOL.decision_s))
        return _Ready(subject.make_agent(env), budget, radius, pixels, found, step_s)
    finally:
        env.close()


def require_protocol(out: Path) -> None:
    """Refuse to add to the episodes of another protocol, or of one that nobody knows any more. Raises ConfigError."""
    episodes = out / "episodes.jsonl"
    if not episodes.is_file() or not episodes.stat().st_size:
        return
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in (out / BEGUN, out / SUMMARY) if path.is_file()]
    begun = next((card.get("protocol", card) for card in cards), {"version": "unknown", "sha256": "unknown"})
    if begun["sha256"] != (present := protocol_card())["sha256"]:
        wanted, got = (f"version {card['version']}, sha256 {card['sha256'][:8]}" for card in (present, begun))
        raise ConfigError(
            f"expected episodes of protocol {wanted}, in {out}, got some of {got}: remove that folder and drive again"
        )


def complete_batches(path: Path, episodes: int, parallel: int) -> int:
    """How many episodes of complete batches are in the file; the others are cut off."""
    text = path.read_bytes() if path.is_file() else b""
    whole = text.splitlines(keepends=True)
    count = sum(line.endswith(b"\n") for line in whole)
    count = episodes if count >= episodes else count - count % parallel
    kept = b"".join(whole[:count])
    if kept != text:
        with atomic_file(path) as temporary:
            temporary.write_bytes(kept)
    return count


def _drive(subject: Subject, ready: _Ready, seeds: range, skip: int, out: Path, video: bool, parallel: int) -> None:
    """Drive all seeds but the first `skip`."""
    who = subject.agent if subject.planner is None else f"{subject.agent} ({subject.planner})"
    caption = Caption(subject.task, who, ready.radius, ready.budget, ready.step_s)
    done: list[Episode] = []
    if video:
        (out / "videos").mkdir(exist_ok=True)
    name = f"{subject.task} · {who}"
    shown = {"total": len(seeds) * ready.budget, "initial": skip * ready.budget}
    with tqdm(**shown, desc=name, unit="decision", dynamic_ncols=True) as bar:

        def finished(episode: Episode, trace: Trace | None) -> None:
            append_line(out / "episodes.jsonl", episode.line())
            done.append(episode)
            # Failed episodes stop early; the bar jumps to the end of the batch that just ran.
            batch_end = min(-(-(skip + len(done)) // parallel) * parallel, len(seeds))
            bar.update(batch_end * ready.budget - bar.n)
            bar.set_postfix_str(_progress(done, ready.goal is None))
            if trace is not None and trace.frames:
                write_video(out / "videos" / f"{episode.seed}.mp4", episode, trace, caption)
                write_filmstrip(out / "videos" / f"{episode.seed}.png", trace)

        try:
            evaluate(
                subject.make_env,
                ready.agent,
                seeds[skip:],
                parallel=parallel,
                goal=ready.goal,
                trace=video,
                on_episode=finished,
                on_decision=bar.update,
            )
        finally:
            close = getattr(ready.agent, "close", None)
            if close is not None:
                close()


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON line in one write, durable on return."""
    text = json.dumps(value, allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _progress(done: list[Episode], known: bool) -> str:
    failed = sum(episode.error is not None for episode in done)
    solved = f"success {sum(episode.reached is True for episode in done)}/{len(done)}"
    return (solved if known else f"episodes {len(done)}") + (f", failed {failed}" if failed else "")
