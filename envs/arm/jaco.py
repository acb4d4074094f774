"""What every Jaco task shares: the scene, the controller, the camera and the oracle's rollouts."""

from __future__ import annotations

import os
from typing import Any

import mujoco
import numpy as np
from mujoco import rollout as mujoco_rollout
from numpy.typing import NDArray

from envs.arm import controller as control
from envs.arm.controller import WORKSPACE_HIGH, WORKSPACE_LOW, Controller, displace, ramp
from envs.arm.scene import ARM_JOINTS, CAMERA, FINGERS, PINCH, build_model
from envs.arm.visuals import Visuals
from envs.errors import SceneError
from envs.goal_env import GoalEnv
from envs.physics import Physics
from envs.render import Camera, project

Array = NDArray[Any]

FINGERS_CLOSED = 1.3  # [rad]
CLEARANCE = 0.025  # [m] along the longest axis, from a box to keep out of to start and goal
FULL_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS


class JacoEnv(GoalEnv):
    """A Jaco arm on a table, driven by end-effector displacements: 0.2 s and up to 0.06 m per axis and decision."""

    def __init__(
        self,
        image_size: int = 128,
        randomize_visuals: float = 0.0,
        keep_out: float = 0.0,
        render_mode: str | None = "rgb_array",
    ) -> None:
        """`randomize_visuals`: share of the episodes whose colours, light and camera are drawn anew.

        `keep_out`: side [m] of a box half-way between start and goal that the pinch point must keep out of; 0: none. It
        is smaller where start or goal would be within 0.025 m of it. Nothing is there to see or to bump into.
        `render_mode` is gymnasium's own argument; there is only "rgb_array". Raises SceneError.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise SceneError(f"expected render_mode 'rgb_array' or none, got {render_mode!r}: leave it out")
        if not 32 <= image_size <= 1024 or not 0.0 <= randomize_visuals <= 1.0:
            raise SceneError(
                "expected image_size in 32..1024 and randomize_visuals in 0..1, "
                f"got {image_size} and {randomize_visuals}: change the environment's arguments"
            )
        if not 0.0 <= keep_out <= 1.0:
            raise SceneError(f"expected keep_out in 0..1 m, got {keep_out}: change the environment's arguments")
        self._make_spaces(image_size, 3, WORKSPACE_LOW - 0.1, WORKSPACE_HIGH + 0.1, keep_out=int(keep_out > 0.0))
        self._side, self._forbidden, self._trespassed = keep_out, np.zeros((1, 2, 3)), False
        self._physics = Physics(build_model(self._add_objects))
        self._controller = Controller(self._physics.model)
        self._visuals = Visuals(self._physics.model)
        self._randomize_visuals = randomize_visuals
        model = self._physics.model
        self._arm = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._fingers = np.array([model.joint(name).qposadr[0] for name in FINGERS])
        self._arm_ctrl = np.array([model.actuator(name).id for name in ARM_JOINTS])
        self._finger_ctrl = np.array([model.actuator(name).id for name in FINGERS])
        self._cameras: dict[int, Camera] = {}
        self._position = np.zeros(3)  # [m] commanded pinch position
        self._joints = np.zeros(6)  # [rad] commanded joint angles

    # What a task adds to the scene.
    def _add_objects(self, scene: mujoco.MjSpec) -> None:
        """Put the task's objects on the table; nothing by default."""

    def _plan_cost(self, pinch: Array, state: Array) -> Array:
        """True cost [...] at pinch positions [...,3] and physics positions `state` [...,nq]."""
        raise SceneError(f"{type(self).__name__} has no plan cost")

    # The world's state.
    def pinch(self) -> Array:
        """Pinch position [3] [m], as measured."""
        position: Array = self._physics.data.site(PINCH).xpos.copy()
        return position

    def get_state(self) -> Array:
        return np.concatenate([self._physics.get_state(), self._position, self._joints])

    def set_state(self, state: Array) -> None:
        self._physics.set_state(state[:-9])
        self._position, self._joints = state[-9:-6].copy(), state[-6:].copy()

    def _proprio(self) -> Array:
        return self.pinch().astype(np.float32)

    def _place_arm(self, position: Array) -> None:
        """Put the arm, at rest, with its pinch site at `position` [3] [m]."""
        self._joints, self._position = self._controller.home(position), position.copy()
        data = self._physics.data
        data.qpos[self._arm], data.qpos[self._fingers] = self._joints, FINGERS_CLOSED
        data.qvel[:] = 0.0
        data.ctrl[self._arm_ctrl], data.ctrl[self._finger_ctrl] = self._joints, FINGERS_CLOSED
        self._physics.forward()

    def _draw_look(self, look_seed: int) -> None:
        """The standard look or a random one, from a generator of its own: looks never change a start or a goal."""
        rng = np.random.default_rng(look_seed)
        if rng.random() < self._randomize_visuals:
            self._visuals.randomize(rng)
        else:
            self._visuals.restore()

    def visible_pixels(self, geom: str) -> int:
        """How many pixels of the observation show the geom `geom`; what stands before it hides it."""
        colour = self._physics.model.geom(geom).rgba
        shown, alpha = self.render_size(self.image_size), colour[3]
        colour[3] = 0.0
        without = self.render_size(self.image_size)
        colour[3] = alpha
        return int((shown != without).any(axis=-1).sum())

    def keep_out(self) -> Array | None:
        return self._forbidden.astype(np.float32) if self._side > 0.0 else None

    def trespassed(self) -> bool:
        return self._trespassed

    def _forbid(self, goal: Array | None) -> None:
        """Put the box to keep out of between the pinch point and `goal` [3] [m]; without a goal there is none."""
        start = self.pinch()
        goal = start if goal is None else goal
        half = min(self._side / 2, np.abs(goal - start).max() / 2 - CLEARANCE)
        centre = (start + goal) / 2
        self._forbidden = np.stack([centre - half, centre + half])[None] if half > 0.0 else np.zeros((1, 2, 3))
        self._trespassed = False

    def _is_inside(self) -> bool:
        """Whether the pinch point is in the box, as of the last time step."""
        low, high = self._forbidden[0]
        pinch = self._physics.data.site(PINCH).xpos
        return bool((pinch > low).all() and (pinch < high).all())

    def _advance(self, action: Array) -> None:
        self._trespassed = False
        self._simulate(action)
        self._physics.update_poses()

    def _simulate(self, action: Array) -> None:
        """One decision; poses of bodies stay one time step behind the state. Raises PhysicsDiverged."""
        self._position = displace(self._position, action)
        joints = self._controller.solve(self._position, self._joints)
        for target in ramp(self._joints, joints):
            self._physics.data.ctrl[self._arm_ctrl] = target
            self._physics.step()
            self._trespassed |= self._side > 0.0 and self._is_inside()
        self._joints = joints

    # Pictures.
    def render_size(self, side: int) -> Array:
        if side not in self._cameras:
            self._cameras[side] = Camera(self._physics.model, CAMERA, side)
        return self._cameras[side](self._physics.data)

    def project(self, points: Array) -> Array:
        return project(self._physics.model, self._physics.data, CAMERA, self.image_size, points)

    def close(self) -> None:
        """Free the cameras."""
        for camera in self._cameras.values():
            camera.close()
        self._cameras.clear()

    # The oracle's rollouts.
    def _joint_plans(self, actions: Array) -> Array:
        """Controls [K,H*SUBSTEPS,nu] of candidates [K,H,3]."""
        count, horizon, _ = actions.shape
        controls = np.tile(self._physics.data.ctrl, (count, horizon * control.SUBSTEPS, 1))
        for index in range(count):
            position, joints = self._position, self._joints
            for step in range(horizon):
                position = displace(position, actions[index, step])
                target = self._controller.solve(position, joints)
                span = slice(step * control.SUBSTEPS, (step + 1) * control.SUBSTEPS)
                controls[index, span, self._arm_ctrl] = ramp(joints, target).T
                joints = target
        return controls

    def evaluate_plans(self, actions: Array) -> Array:
        actions = np.asarray(actions, dtype=np.float64)
        controls = self._joint_plans(actions)
        model = self._physics.model
        start = np.empty(mujoco.mj_stateSize(model, FULL_PHYSICS))
        mujoco.mj_getState(model, self._physics.data, start, FULL_PHYSICS)
        workers = [mujoco.MjData(model) for _ in range(min(os.cpu_count() or 1, len(actions)))]
        states, _ = mujoco_rollout.rollout(model, workers, np.tile(start, (len(actions), 1)), controls)
        ends = states[:, control.SUBSTEPS - 1 :: control.SUBSTEPS]
        positions = ends[..., 1 : 1 + model.nq]  # a physics state begins with the time
        pinch = np.array([[self._controller.pose(joints)[0] for joints in plan] for plan in positions[..., self._arm]])
        # A rollout that diverges stops and repeats its last state, which may be finite; only its clock tells.
        sound = np.isfinite(ends).all(axis=-1) & (np.diff(ends[..., 0], axis=1, prepend=start[0]) > 0.0)
        return np.where(sound, self._plan_cost(pinch, positions), np.inf)
