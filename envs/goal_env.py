"""The contract of every task: drive the world to a state of which one picture, the goal image, is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.errors import PhysicsDiverged, SceneError

Array = NDArray[Any]
Observation = dict[str, Array]
Policy = Callable[[], Array]
"""Returns the next action [A]; made by `exploration_policy`, it may read the simulator's state."""
LOGS = 400  # exploratory starts that are tried for one after which the world has changed enough to be a goal


class GoalEnv(gymnasium.Env[Any, Array], ABC):
    """Observation {"pixels": uint8 [S,S,3], "proprio": float32 [P]}, action float32 [A] in [-1, 1].

    `info` holds, after reset and after every step: "success" (bool), "distance" [m], "goal" (uint8 [S,S,3]),
    "diverged" (bool) and, where the task moves objects, "privileged" (float32 [Q], simulator truth for probes only).
    While exploring, "task" (str) says what the episode is about, one of `log_tasks`.
    Where the environment has boxes that the hand must keep out of, the observation has "keep_out" (float32 [n,2,3],
    lows and highs [m]) and `info` has "trespass" (bool: the hand was in one during the decision).
    A seed fixes the start state and the goal state and nothing else. The reward is -distance. An episode terminates
    only when the physics diverge.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 (gymnasium's own name)
    task_name: ClassVar[str]
    budget: ClassVar[int]  # decisions
    success_radius: ClassVar[float]  # [m]
    image_size: int
    _goal: Array
    _goal_position: Array
    _exploring: bool

    def _make_spaces(
        self, image_size: int, action_dim: int, proprio_low: Array, proprio_high: Array, keep_out: int
    ) -> None:
        self.image_size = image_size
        self.render_mode = "rgb_array"
        self.action_space = spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
        seen: dict[str, spaces.Space[Any]] = {
            "pixels": spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
            "proprio": spaces.Box(proprio_low.astype(np.float32), proprio_high.astype(np.float32)),
        }
        if keep_out:
            seen["keep_out"] = spaces.Box(-10.0, 10.0, (keep_out, 2, 3), np.float32)
        self.observation_space = spaces.Dict(seen)

    # What a task provides.
    @abstractmethod
    def get_state(self) -> Array:
        """Everything that decides the future, float64."""

    @abstractmethod
    def set_state(self, state: Array) -> None:
        """Restore what `get_state` returned; pixels and future are then the same."""

    @abstractmethod
    def distance(self) -> float:
        """How far the world is from the goal [m]; read from the simulator."""

    @abstractmethod
    def position(self) -> Array:
        """Where that is [m] of which the goal is a position, in the shape of the goal position."""

    @abstractmethod
    def render_size(self, side: int) -> Array:
        """The camera's picture, uint8 [side,side,3]."""

    @abstractmethod
    def project(self, points: Array) -> Array:
        """World points [N,3] [m] to pixel coordinates [N,2] (x right, y down) of a picture of `image_size`."""

    @abstractmethod
    def evaluate_plans(self, actions: Array) -> Array:
        """True task cost [K,H] after each step of the candidates [K,H,A] from the present state, which stays."""

    @abstractmethod
    def exploration_policy(self, rng: np.random.Generator) -> Policy:
        """A scripted, noisy behaviour for data collection, called once per decision."""

    @abstractmethod
    def _begin(self, explore: bool) -> None:
        """Set the start state from `self.np_random` and, unless exploring, the goal image `self._goal`."""

    @abstractmethod
    def _advance(self, action: Array) -> None:
        """Simulate one decision. Raises PhysicsDiverged."""

    @abstractmethod
    def _proprio(self) -> Array:
        """float32 [P]."""

    def success(self) -> bool:
        """Whether the goal is reached; a task may ask for more than being near."""
        return self.distance() <= self.success_radius

    def is_seen(self) -> bool:
        """Whether the present picture shows what the goal would be about."""
        return True

    def keep_out(self) -> Array | None:
        """Boxes the hand must keep out of, lows and highs, float32 [n,2,3] [m]; None where there are none."""
        return None

    def trespassed(self) -> bool:
        """Whether the hand was in one of them during the last decision."""
        return False

    def privileged(self) -> Array | None:
        """Simulator truth for probes, float32 [Q]; None where there is none."""
        return None

    @property
    def log_tasks(self) -> tuple[str, ...]:
        """What exploratory episodes may be about, as the task of a log says it."""
        return (self.task_name,)

    def log_task(self) -> str:
        """What the present exploratory episode is about: one of `log_tasks`."""
        return self.log_tasks[0]

    # What gymnasium asks for.
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; options={"explore": True} draws a start for data collection, without a goal.

        options={"goal_after": k} draws such a start, too: the goal is where the exploring behaviour has brought the
        world k decisions later. Raises SceneError.
        """
        super().reset(seed=seed)
        given = options or {}
        self._exploring = bool(given.get("explore"))
        self._goal = np.zeros((self.image_size, self.image_size, 3), np.uint8)
        if given.get("goal_after"):
            self._begin_in_log(int(given["goal_after"]))
        else:
            self._begin(self._exploring)
        return self._observe(), self._info(diverged=False)

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One decision; terminated only when the physics diverge."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(f"expected a finite action of shape {self.action_space.shape}, got {action}")
        diverged = False
        try:
            self._advance(np.clip(action, -1.0, 1.0))
        except PhysicsDiverged:
            diverged = True
        info = self._info(diverged)
        reward = -float(info["distance"]) if np.isfinite(info["distance"]) else 0.0
        return self._observe(), reward, diverged, False, info

    def _begin_in_log(self, decisions: int) -> None:
        """Start as data collection does; the goal is the state so many decisions later, if it is another one."""
        for _ in range(LOGS):
            self._begin(explore=True)
            start, policy = self.get_state(), self.exploration_policy(self.np_random)
            try:
                for _ in range(decisions):
                    self._advance(policy())
            except PhysicsDiverged:
                continue
            if self.is_seen():
                self._goal_position, self._goal = self.position(), self.render_size(self.image_size)
                self.set_state(start)
                if self.distance() > self.success_radius:
                    return
        raise SceneError(f"expected a goal {decisions} decisions into one of {LOGS} logs, got none: use another seed")

    def render(self) -> Array:
        """The camera's picture at the observation's size."""
        return self.render_size(self.image_size)

    def _observe(self) -> Observation:
        seen = {"pixels": self.render_size(self.image_size), "proprio": self._proprio()}
        boxes = self.keep_out()
        return seen if boxes is None else {**seen, "keep_out": boxes}

    def _info(self, diverged: bool) -> dict[str, Any]:
        known = not diverged and not self._exploring
        info: dict[str, Any] = {
            "success": known and self.success(),
            "distance": self.distance() if known else float("nan"),
            "goal": self._goal.copy(),
            "diverged": diverged,
        }
        truth = self.privileged()
        if truth is not None:
            info["privileged"] = truth
        if self._exploring:
            info["task"] = self.log_task()
        if self.keep_out() is not None:
            info["trespass"] = self.trespassed()
        return info
