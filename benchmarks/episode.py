"""One episode of an evaluation: its record, its trace for the video, and the lane in which it runs."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldmodel.types import Decision

MakeEnv = Callable[[], "gymnasium.Env[Any, Any]"]
CAMERA_SIDE = 384  # [px] the camera picture of the videos, rendered at twice the side: that smooths the edges
PIECES = 48  # of each line of a region's outline: those far outside the picture, or behind the camera, are left out


@dataclass
class Episode:
    """What is known of one episode.

    reached, held: success at some decision, at the last one; None where the true goal is unknown.
    distances_m: true distance [m] at the start and after every decision. energies: the agent's, before every decision.
    seconds: wall time [s] of each `act` call, which served `parallel` episodes at once.
    candidate_steps, model_calls: what the planner spent in each of those calls, where it says so.
    stood_still, blocked: decisions in which the agent chose to, and in which its guardrails left it nothing else.
    trespasses: decisions in which the hand was where it must not be; None where nothing is forbidden.
    error: why the episode failed, one line; its rates are False and its final distance is None.
    """

    seed: int
    parallel: int = 1
    reached: bool | None = None
    held: bool | None = None
    decisions: int = 0
    first_reached: int | None = None
    final_distance_m: float | None = None
    distances_m: list[float] = field(default_factory=list)
    energies: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    model_calls: list[int] = field(default_factory=list)
    candidate_steps: list[int] = field(default_factory=list)
    stood_still: int = 0
    blocked: int = 0
    trespasses: int | None = None
    error: str | None = None

    def line(self) -> dict[str, Any]:
        """The JSON object of this episode in episodes.jsonl."""
        return {
            "seed": self.seed,
            "reached": self.reached,
            "held": self.held,
            "decisions": self.decisions,
            "first_reached": self.first_reached,
            "final_distance_m": None if self.final_distance_m is None else round(self.final_distance_m, 6),
            "distances_m": [round(value, 6) for value in self.distances_m],
            "energies": [None if value is None else float(f"{value:.6g}") for value in self.energies],
            "seconds": [round(value, 6) for value in self.seconds],
            "parallel": self.parallel,
            "model_calls": self.model_calls,
            "candidate_steps": self.candidate_steps,
            "stood_still": self.stood_still,
            "blocked": self.blocked,
            "trespasses": self.trespasses,
            "error": self.error,
        }


@dataclass
class Trace:
    """What the video shows: the goal, camera pictures, planned paths [px] from the present position on, and success.

    blocked: whether the guardrails left nothing but a stop, at each decision. regions: outlines, as line segments
    [n,2,2] [px], of the boxes and spheres to keep out of.
    """

    goal: NDArray[np.uint8]
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    paths: list[NDArray[np.float64] | None] = field(default_factory=list)
    success: list[bool] = field(default_factory=list)
    blocked: list[bool] = field(default_factory=list)
    regions: list[NDArray[np.float64]] = field(default_factory=list)


def one_line(where: str, error: BaseException | str) -> str:
    """An error as one short line."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return f"{where}: {' '.join(text.split())}"[:300]


class Lane:
    """One environment that runs one episode after another; an episode that fails takes its environment with it."""

    def __init__(self, make_env: MakeEnv, goal: NDArray[np.uint8] | None, traced: bool) -> None:
        self._make_env, self._given_goal, self._traced = make_env, goal, traced
        self._env: gymnasium.Env[Any, Any] | None = None
        self.episode = Episode(seed=-1)
        self.trace: Trace | None = None
        self._success: list[bool] = []
        self.observation: dict[str, NDArray[Any]] = {}
        self.goal = np.zeros((0, 0, 3), np.uint8)
        self.budget = 0

    @property
    def alive(self) -> bool:
        return self.episode.error is None

    def begin(self, seed: int, parallel: int) -> None:
        """Reset to the episode of `seed`; an exception is this episode's failure."""
        self.episode, self.trace = Episode(seed=seed, parallel=parallel), None
        self._success = []
        try:
            self._env = self._env or self._make_env()
            observation, info = self._env.reset(seed=seed)
            self.budget = int(self._inner.budget)
            self.goal = np.array(info["goal"] if self._given_goal is None else self._given_goal, copy=True)
            if self._traced:
                self.trace = Trace(goal=self.goal)
            self._take(observation, info)
            if self.trace is not None and "keep_out" in self.observation:
                self.trace.regions = [self._outline(_box_lines(box)) for box in self.observation["keep_out"]]
        except Exception as error:
            self.fail("environment at reset", error)

    def note(self, decision: Decision, index: int, seconds: float) -> None:
        """Record what the agent thought for episode `index` of its batch, before the action is executed."""
        self.episode.seconds.append(seconds)
        energy = None if decision.energy is None else float(decision.energy[index])
        self.episode.energies.append(energy if energy is not None and math.isfinite(energy) else None)
        if decision.plan is not None:
            self.episode.model_calls.append(int(decision.plan.diagnostics.model_calls))
            self.episode.candidate_steps.append(int(decision.plan.diagnostics.candidate_steps))
        if decision.held is not None:
            self.episode.stood_still += bool(decision.held[index])
        blocked = decision.blocked is not None and bool(decision.blocked[index])
        self.episode.blocked += blocked
        if self.trace is not None:
            if not self.trace.blocked and (limits := decision.guardrails) is not None:
                lines = [*map(_box_lines, limits.boxes), *map(_sphere_lines, limits.spheres)]
                self.trace.regions += map(self._outline, lines)
            self.trace.blocked.append(blocked)
            path = None if decision.path is None else decision.path[index].detach().cpu().double().numpy()
            self.trace.paths.append(self._on_camera(path))

    def step(self, action: NDArray[np.float32]) -> None:
        """Execute one action [A]; divergence, NaN and exceptions fail the episode."""
        assert self._env is not None
        where = f"environment at decision {self.episode.decisions + 1}"
        try:
            observation, _, terminated, truncated, info = self._env.step(action.copy())
            self.episode.decisions += 1
            self._take(observation, info)
        except Exception as error:
            self.fail(where, error)
            return
        early = (terminated or truncated) and self.episode.decisions < self.budget
        if self.alive and (terminated or early):
            self.fail(
                where, f"the environment ended the episode after {self.episode.decisions} of {self.budget} decisions"
            )

    def fail(self, where: str, error: BaseException | str) -> None:
        """The episode is a failure; the environment, in an unknown state, is given up."""
        self.episode.error = one_line(where, error)
        self.close()

    def finish(self) -> None:
        """Settle success and final distance."""
        episode, known = self.episode, self._given_goal is None
        episode.reached = any(self._success) and self.alive if known else None
        episode.held = bool(self._success and self._success[-1]) and self.alive if known else None
        if self.alive and known:
            episode.first_reached = self._success.index(True) + 1 if episode.reached else None
            episode.final_distance_m = episode.distances_m[-1]

    def close(self) -> None:
        """Close the environment, if there is one."""
        env, self._env = self._env, None
        if env is not None:
            # A broken environment may not even close; the episode's error is already recorded.
            with contextlib.suppress(Exception):
                env.close()

    @property
    def _inner(self) -> Any:
        assert self._env is not None
        return self._env.unwrapped

    def _take(self, observation: dict[str, Any], info: dict[str, Any]) -> None:
        where = f"environment at decision {self.episode.decisions}"
        distance = float(info["distance"])
        if info["diverged"]:
            self.fail(where, "the simulation diverged")
        elif not math.isfinite(distance):
            self.fail(where, f"the distance to the goal is {distance}")
        elif info["success"] not in (True, False):  # NaN would pass for true
            self.fail(where, f"the success is {info['success']}, neither true nor false")
        elif not np.isfinite(observation["proprio"]).all():
            self.fail(where, "the proprioception is not finite")
        else:
            self.observation = {name: np.array(value, copy=True) for name, value in observation.items()}
            if "trespass" in info:
                self.episode.trespasses = (self.episode.trespasses or 0) + bool(info["trespass"])
            self._record(distance, bool(info["success"]))

    def _record(self, distance: float, success: bool) -> None:
        known = self._given_goal is None
        if known:
            self.episode.distances_m.append(distance)
        if self.episode.decisions > 0:
            self._success.append(success)
        if self.trace is not None:
            picture = Image.fromarray(self._inner.render_size(2 * CAMERA_SIDE)).reduce(2)
            self.trace.frames.append(np.array(picture, dtype=np.uint8))
            self.trace.success.append(success and known)

    def _on_camera(self, path: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Planned positions [H,3] [m] as pixels [H+1,2] of the camera picture, the present position first."""
        if path is None or not np.isfinite(path).all():
            return None
        return self._pixels(np.concatenate([self.observation["proprio"][None, :3].astype(np.float64), path[:, :3]]))

    def _outline(self, lines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lines [L,PIECES+1,3] [m] as segments [n,2,2] [px] of the camera picture, those in it or near it."""
        points = self._pixels(lines.reshape(-1, 3)).reshape(*lines.shape[:2], 2)
        pieces = np.stack([points[:, :-1], points[:, 1:]], axis=2).reshape(-1, 2, 2)
        near = ((pieces > -CAMERA_SIDE) & (pieces < 2 * CAMERA_SIDE)).all(axis=(1, 2))
        return pieces[near]

    def _pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [N,3] [m] as pixels [N,2] of the camera picture."""
        scale = CAMERA_SIDE / self.observation["pixels"].shape[0]
        pixels: NDArray[np.float64] = np.asarray(self._inner.project(points), dtype=np.float64) * scale
        return pixels


def _box_lines(box: Any) -> NDArray[np.float64]:
    """The edges of a box, lows and highs [m]: [12,PIECES+1,3]."""
    corners = [np.array(corner) for corner in itertools.product(*np.reshape(box, (2, 3)).T)]
    ends = np.array([(a, b) for a, b in itertools.combinations(corners, 2) if (a != b).sum() == 1], np.float64)
    return np.linspace(ends[:, 0], ends[:, 1], PIECES + 1, axis=1)


def _sphere_lines(sphere: Sequence[float]) -> NDArray[np.float64]:
    """Three great circles of a sphere x, y, z, radius [m]: [3,PIECES+1,3]."""
    angles = np.linspace(0.0, 2.0 * np.pi, PIECES + 1)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1)
    return np.array(sphere[:3]) + sphere[3] * np.stack([np.roll(circle, turn, axis=-1) for turn in range(3)])
