"""Navigate: drive the robot to where the goal image shows it."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import PhysicsDiverged, SceneError
from envs.exploration import Mixture, OrnsteinUhlenbeck
from envs.goal_env import Policy
from envs.navigation.exploration import DOOR, Drive, draw_place, way_points
from envs.navigation.scene import CAMERA, CORNERS, HALF, ROOMS, TIMESTEP, TRACK, WHEEL, WHEELS, build_model
from envs.simulated import SimulatedEnv
from envs.visuals import Visuals

Array = NDArray[Any]

DECISION = 0.2  # [s]
SUBSTEPS = round(DECISION / TIMESTEP)
SPEED, TURN = 0.6, 2.5  # [m/s], [rad/s] at action 1.0
APART = 0.4  # [m] a goal is at least this far from the start


class Navigate(SimulatedEnv):
    """Success: the middle of the robot within 0.15 m of its goal. Budget: 60 decisions.

    Actions: forward speed, turn rate; 1.0 is 0.6 m/s and 2.5 rad/s. Proprioception: x, y [m], cosine and sine of the
    heading. In half of the episodes the goal is in the other room.
    """

    task_name = "navigate"
    budget = 60
    success_radius = 0.15

    def __init__(
        self,
        image_size: int = 128,
        randomize_visuals: float = 0.0,
        keep_out: float = 0.0,
        shift: str | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        """There is nothing to keep out of: `keep_out` must be 0. Raises SceneError."""
        if keep_out:
            raise SceneError(
                f"expected no box to keep out of for navigate, whose doorway it would block, got keep_out {keep_out}: "
                "leave it at 0"
            )
        super().__init__(image_size, randomize_visuals, render_mode, shift)
        high = np.array([HALF + 0.1, HALF + 0.1, 1.01, 1.01])
        self._make_spaces(image_size, 2, -high, high, keep_out=0)
        model = self._physics.model
        self._motors = np.array([model.actuator(name).id for name in WHEELS])
        self._base = int(model.joint("robot").qposadr[0])

    def _build_model(self) -> mujoco.MjModel:
        return build_model()

    def _make_visuals(self, model: mujoco.MjModel) -> Visuals:
        return Visuals(model, CAMERA, objects=("robot",), surfaces=ROOMS, beside=CORNERS, bulk=0.08, sway=0.02)

    def pose(self) -> Array:
        """x, y [m], cosine and sine of the heading: [4]."""
        body = self._physics.data.body("robot")
        return np.array([*body.xpos[:2], body.xmat[0], body.xmat[3]])

    def get_state(self) -> Array:
        return self._physics.get_state()

    def set_state(self, state: Array) -> None:
        self._physics.set_state(state)

    def _proprio(self) -> Array:
        return self.pose().astype(np.float32)

    def _place_robot(self, place: Array, heading: float) -> None:
        """Put the robot, at rest, with its middle at `place` [2] [m], `heading` [rad]."""
        self._physics.reset()
        self._physics.data.joint("robot").qpos[:] = [*place, WHEEL, np.cos(heading / 2), 0.0, 0.0, np.sin(heading / 2)]
        self._physics.forward()

    def _begin(self, explore: bool) -> None:
        rng = self.np_random
        self._draw_look(int(rng.integers(2**31)))
        start, right = draw_place(rng, bool(rng.random() < 0.5)), bool(rng.random() < 0.5)
        if explore and rng.random() < 0.3:  # more of the log shows the doorway, where driving is hard
            start = rng.uniform([-2 * DOOR, -0.5 * DOOR], [2 * DOOR, 0.5 * DOOR])
        self._goal_position = draw_place(rng, right)
        while np.linalg.norm(self._goal_position - start) < APART:
            self._goal_position = draw_place(rng, right)
        headings = rng.uniform(-np.pi, np.pi, 2)
        if not explore:
            self._place_robot(self._goal_position, headings[1])
            self._goal = self.render_size(self.image_size)
        self._place_robot(start, headings[0])

    def _advance(self, action: Array) -> None:
        self._physics.data.ctrl[self._motors] = self._wheel_speeds(action)
        self._physics.step(SUBSTEPS)
        self._physics.update_poses()
        if np.abs(self.pose()[:2]).max() > HALF:
            raise PhysicsDiverged("expected the robot between the walls, got it outside: reset the environment")

    def _wheel_speeds(self, actions: Array) -> Array:
        """Of the left and the right wheel, [...,2] [rad/s], for actions [...,2]."""
        forward, turn = np.moveaxis(np.clip(actions, -1.0, 1.0) * (SPEED, TURN), -1, 0)
        return np.stack([forward - TRACK * turn, forward + TRACK * turn], axis=-1) / WHEEL

    def project(self, points: Array) -> Array:
        """Of points [N,P], the first two numbers are taken, as a place on the floor: a pose may be given as it is."""
        points = np.asarray(points, dtype=np.float64)
        return super().project(np.pad(points[:, :2], ((0, 0), (0, 1))))

    def position(self) -> Array:
        return self.pose()[:2]

    def distance(self) -> float:
        return float(np.linalg.norm(self.pose()[:2] - self._goal_position))

    def evaluate_plans(self, actions: Array) -> Array:
        """The cost is the length of the way that is left, through the doorway."""
        actions = np.asarray(actions, dtype=np.float64)
        controls = np.repeat(self._wheel_speeds(actions), SUBSTEPS, axis=1)
        positions, sound = self._physics.rollout(controls, SUBSTEPS)
        place = positions[..., self._base : self._base + 2]
        sound &= np.abs(place).max(axis=-1) <= HALF
        return np.where(sound, way_points(place, self._goal_position)[1], np.inf)

    def exploration_policy(self, rng: np.random.Generator) -> Policy:
        return Mixture(rng, [lambda: OrnsteinUhlenbeck(rng, 2), lambda: Drive(rng, self.pose)], [0.3, 0.7])
