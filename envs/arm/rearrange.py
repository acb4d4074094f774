"""Rearrange: bring two cubes to where the goal image shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm.controller import WORKSPACE_HIGH, WORKSPACE_LOW
from envs.arm.exploration import CLEAR, STANDOFF, Push, meddle, roam
from envs.arm.jaco import ATTEMPTS, JacoEnv
from envs.arm.push import CUBE_HIGH, CUBE_LOW, FARTHEST, NEAREST
from envs.arm.scene import CUBE_HALF, add_cube
from envs.errors import PhysicsDiverged
from envs.exploration import Mixture, OrnsteinUhlenbeck, Reading
from envs.goal_env import Policy

Array = NDArray[Any]

CUBES = {"cube_red": (0.80, 0.16, 0.14, 1.0), "cube_blue": (0.13, 0.30, 0.78, 1.0)}
APART = 0.11  # [m] least distance of the cubes' centres at the start and at the goal
ASIDE = 0.02  # [m] by how much a scripted push may miss its end
TRIES = 5  # pushes of a cube that are tried before another start is
PUSH = 25  # decisions a scripted push may take
APPROACH = 0.1  # weight of the hand's distance to the nearest cube that is not in place, in the oracle's cost
IN_PLACE = 0.04  # [m] from its goal, where the oracle turns to the other cube
NEAR = 0.8  # share of the logs that begin with the hand near the cube that they are about
PENDING = 0.03  # cost of a cube that is not in place: more than the way of the hand to the other one


class JacoRearrange(JacoEnv):
    """Success: the centres of both cubes within 0.05 m of their goals. Budget: 60 decisions.

    The goal is the final state of two straight scripted pushes from the start state, one a cube, in the same scene.
    """

    task_name = "jaco_rearrange"
    budget = 60
    success_radius = 0.05
    _about = next(iter(CUBES))

    def _objects(self) -> tuple[str, ...]:
        return tuple(CUBES)

    def _add_objects(self, scene: mujoco.MjSpec) -> None:
        for name, rgba in CUBES.items():
            add_cube(scene, name, rgba)

    def cubes(self) -> Array:
        """Centres [2,3] [m]: the red cube, the blue one."""
        return np.stack([self.object_position(name) for name in CUBES])

    def privileged(self) -> Array:
        return self.cubes().astype(np.float32).ravel()

    def _start(self, rng: np.random.Generator, margin: float) -> None:
        self._physics.reset()
        places = rng.uniform(CUBE_LOW - margin, CUBE_HIGH + margin, (2, 2))
        while np.linalg.norm(places[0] - places[1]) < APART:
            places = rng.uniform(CUBE_LOW - margin, CUBE_HIGH + margin, (2, 2))
        for name, place in zip(CUBES, places, strict=True):
            self._place_object(name, np.append(place, CUBE_HALF), rng.uniform(-np.pi, np.pi))
        hand = rng.uniform(WORKSPACE_LOW + 0.01, WORKSPACE_HIGH - 0.01)
        if np.linalg.norm(places - hand[:2], axis=1).min() < APART:
            hand[2] = rng.uniform(CLEAR, WORKSPACE_HIGH[2] - 0.01)
        self._place_arm(hand)

    def _begin(self, explore: bool) -> None:
        rng = self.np_random
        look_seed = int(rng.integers(2**31))
        if explore:
            self._draw_look(look_seed)
            self._start(rng, margin=0.03)
            self._about = str(rng.choice(list(CUBES)))
            if rng.random() < NEAR:  # more of the log shows the hand near the cube, where the dynamics are hard
                away = np.array([*rng.uniform(-0.14, 0.14, 2), rng.uniform(CLEAR - CUBE_HALF, 0.18)])
                self._place_arm(np.clip(self.object_position(self._about) + away, WORKSPACE_LOW, WORKSPACE_HIGH))
            self._forbid(None)
            return

        def attempt() -> Array | None:
            self._start(rng, margin=0.0)
            start, before = self.get_state(), self.cubes()
            moved = all(self._move(rng, name) for name in rng.permutation(list(CUBES)))
            return start if moved and self._is_goal(before) else None

        self._find_goal(look_seed, attempt, self.cubes)

    def _move(self, rng: np.random.Generator, name: str) -> bool:
        """Push one cube, from where the hand is, until a push takes it to a place where a goal may be."""
        start, before = self.get_state(), self.object_position(name)
        for _ in range(TRIES):
            if self._scripted_push(rng, name) and self._is_moved(name, before):
                return True
            self.set_state(start)
        return False

    def _scripted_push(self, rng: np.random.Generator, name: str) -> bool:
        """One straight push towards a free place, such that the hand can get behind the cube."""
        where = self.object_position(name)[:2]
        (other,) = (self.object_position(each)[:2] for each in CUBES if each != name)
        for _ in range(ATTEMPTS):
            place = rng.uniform(CUBE_LOW + ASIDE, CUBE_HIGH - ASIDE)
            length = float(np.linalg.norm(place - where))
            way = (place - where) / length
            behind = where - STANDOFF * way
            reachable = (behind > WORKSPACE_LOW[:2]).all() and (behind < WORKSPACE_HIGH[:2]).all()
            free = min(np.linalg.norm(place - other), np.linalg.norm(behind - other)) > APART + ASIDE
            if NEAREST + ASIDE <= length <= FARTHEST - ASIDE and reachable and free:
                break
        else:
            return False
        heading = float(np.arctan2(*way[::-1]))
        push = Push(rng, self.pinch, self._reading(name), noise=0.0, heading=heading, length=length)
        with contextlib.suppress(PhysicsDiverged):
            for _ in range(PUSH):
                self._simulate(push())
                if push.done:
                    return True
        return False

    def _is_moved(self, name: str, before: Array) -> bool:
        """Whether a cube, at rest on the table, is as far from where it was, and as near the middle, as a goal is."""
        cube = self.object_position(name)
        inside = (cube[:2] >= CUBE_LOW).all() and (cube[:2] <= CUBE_HIGH).all()
        settled = abs(cube[2] - CUBE_HALF) < 0.005 and self._is_settled(name)
        return bool(NEAREST <= np.linalg.norm(cube - before) <= FARTHEST and inside and settled)

    def _is_goal(self, before: Array) -> bool:
        """Whether both cubes are where goals may be, apart from each other, and to be seen."""
        cubes = self.cubes()
        moved = all(map(self._is_moved, CUBES, before)) and np.linalg.norm(cubes[0] - cubes[1]) >= APART
        return bool(moved and self.is_seen())

    def _reading(self, name: str) -> Reading:
        return lambda: self.object_position(name)

    def position(self) -> Array:
        return self.cubes()

    def distance(self) -> float:
        """Of the cube that is further from its goal."""
        return float(np.linalg.norm(self.cubes() - self._goal_position, axis=1).max())

    def _plan_cost(self, pinch: Array, state: Array) -> Array:
        addresses = [self._physics.model.joint(name).qposadr[0] for name in CUBES]
        cubes = np.stack([state[..., address : address + 3] for address in addresses], axis=-2)
        to_goal = np.linalg.norm(cubes - self._goal_position, axis=-1)
        pending = to_goal > IN_PLACE
        hand = np.where(pending, np.linalg.norm(pinch[..., None, :] - cubes, axis=-1), np.inf).min(axis=-1)
        approach = APPROACH * np.where(pending.any(axis=-1), hand, 0.0)
        return np.asarray(to_goal.sum(axis=-1) + PENDING * pending.sum(axis=-1) + approach)

    @property
    def log_tasks(self) -> tuple[str, ...]:
        return tuple(f"{self.task_name} {name}" for name in CUBES)

    def log_task(self) -> str:
        return f"{self.task_name} {self._about}"

    def exploration_policy(self, rng: np.random.Generator) -> Policy:
        """All of a log is about one of the cubes, as an operator's would be who was told which one to move."""
        cube = self._reading(self._about)
        makers: list[Callable[[], Policy]] = [
            lambda: OrnsteinUhlenbeck(rng),
            lambda: roam(rng, self.pinch),
            lambda: meddle(rng, self.pinch, cube),
            lambda: Push(rng, self.pinch, cube),
        ]
        return Mixture(rng, makers, [0.1, 0.05, 0.35, 0.5])
