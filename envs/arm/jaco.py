"""What every Jaco task shares: the scene, the controller, the objects' states and the oracle's rollouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm import controller as control
from envs.arm.controller import WORKSPACE_HIGH, WORKSPACE_LOW, Controller, displace, ramp
from envs.arm.scene import ARM_JOINTS, BESIDE, CAMERA, FINGERS, PINCH, build_model
from envs.errors import SceneError
from envs.simulated import SimulatedEnv
from envs.visuals import Visuals

Array = NDArray[Any]

FINGERS_OPEN, FINGERS_CLOSED = 0.2, 1.3  # [rad]
GRIP = 0.4  # [rad] the fingers close by this much per decision at action 1.0
ATTEMPTS = 400  # to reach a goal by a script
VISIBLE = 0.008  # share of the picture an object must fill in a goal image: about half a cube that nothing hides
CLEARANCE = 0.025  # [m] along the longest axis, from a box to keep out of to start and goal


class JacoEnv(SimulatedEnv):
    """A Jaco arm on a table, driven by end-effector displacements: 0.2 s and up to 0.06 m per axis and decision.

    Where the hand can grip, a fourth action closes the fingers, up to 0.4 rad per decision, and a fourth number of the
    proprioception tells how far they are closed (0 to 1).
    """

    grips: ClassVar[bool] = False

    def __init__(
        self,
        image_size: int = 128,
        randomize_visuals: float = 0.0,
        keep_out: float = 0.0,
        shift: str | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        """`keep_out`: side [m] of a box half-way between start and goal that the pinch point must keep out of; 0: none.

        It is smaller where start or goal would be within 0.025 m of it. Nothing is there to see or to bump into.
        The other arguments are those of every task. Raises SceneError.
        """
        if not 0.0 <= keep_out <= 1.0:
            raise SceneError(f"expected keep_out in 0..1 m, got {keep_out}: change the environment's arguments")
        super().__init__(image_size, randomize_visuals, render_mode, shift)
        low, high = WORKSPACE_LOW - 0.1, WORKSPACE_HIGH + 0.1
        if self.grips:
            low, high = np.append(low, -0.5), np.append(high, 1.5)
        self._make_spaces(image_size, 3 + self.grips, low, high, keep_out=int(keep_out > 0.0))
        self._side, self._forbidden, self._trespassed = keep_out, np.zeros((1, 2, 3)), False
        model = self._physics.model
        self._controller = Controller(model)
        self._arm = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._fingers = np.array([model.joint(name).qposadr[0] for name in FINGERS])
        self._motors = np.array([model.actuator(name).id for name in ARM_JOINTS + FINGERS])
        self._position = np.zeros(3)  # [m] commanded pinch position
        self._joints = np.zeros(len(self._motors))  # [rad] commanded joint angles, the arm's and the fingers'

    def _build_model(self) -> mujoco.MjModel:
        return build_model(self._add_objects)

    def _make_visuals(self, model: mujoco.MjModel) -> Visuals:
        surfaces = ("table", "ground")
        return Visuals(model, CAMERA, objects=self._objects(), surfaces=surfaces, beside=BESIDE, bulk=0.035, sway=0.04)

    # What a task adds to the scene.
    def _objects(self) -> tuple[str, ...]:
        """Names of the objects that stand on the table, each a free body with a geom of the same name."""
        return ()

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

    def object_position(self, name: str) -> Array:
        """Centre [3] [m] of an object."""
        position: Array = self._physics.data.body(name).xpos.copy()
        return position

    def is_seen(self) -> bool:
        least = VISIBLE * self.image_size**2
        return all(self.visible_pixels(name) >= least for name in self._objects())

    def _place_object(self, name: str, where: Array, yaw: float) -> None:
        """Put an object, upright and at rest, with its centre at `where` [3] [m]."""
        joint = self._physics.data.joint(name)
        joint.qpos[:] = [*where, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        joint.qvel[:] = 0.0

    def _is_settled(self, name: str) -> bool:
        """Whether an object is upright (within 11 degrees) and at rest."""
        upright = self._physics.data.body(name).xmat[8] > 0.98
        return bool(upright and np.linalg.norm(self._physics.data.joint(name).qvel) < 0.05)

    def get_state(self) -> Array:
        return np.concatenate([self._physics.get_state(), self._position, self._joints])

    def set_state(self, state: Array) -> None:
        own = len(self._joints) + 3
        self._physics.set_state(state[:-own])
        self._position, self._joints = state[-own : 3 - own].copy(), state[3 - own :].copy()

    def _proprio(self) -> Array:
        if not self.grips:
            return self.pinch().astype(np.float32)
        angle = self._physics.data.qpos[self._fingers].mean()
        closed = (angle - FINGERS_OPEN) / (FINGERS_CLOSED - FINGERS_OPEN)
        return np.append(self.pinch(), closed).astype(np.float32)

    def _place_arm(self, position: Array, fingers: float = FINGERS_CLOSED) -> None:
        """Put the arm, at rest, with its pinch site at `position` [3] [m] and its fingers at an angle [rad]."""
        arm, hand = self._controller.home(position), np.full(len(FINGERS), fingers)
        self._joints, self._position = np.append(arm, hand), position.copy()
        data = self._physics.data
        data.qpos[self._arm], data.qpos[self._fingers] = arm, hand
        data.qvel[:] = 0.0
        data.ctrl[self._motors] = self._joints
        self._physics.forward()

    def _find_goal(self, look_seed: int, attempt: Callable[[], Array | None], where: Callable[[], Array]) -> None:
        """Repeat `attempt`, a script that returns its start state if it brought the world to a goal; go back there.

        where: the goal position(s) [...,3] [m] of the world as it is then. Raises SceneError.
        """
        self._visuals.restore()  # goals are chosen in the standard look, so that looks never change them
        for _ in range(ATTEMPTS):
            start = attempt()
            if start is not None:
                self._goal_position = where()
                self._draw_look(look_seed)
                self._goal = self.render_size(self.image_size)
                self.set_state(start)
                self._forbid(np.atleast_2d(self._goal_position)[0])
                return
        raise SceneError(f"expected a reachable goal within {ATTEMPTS} attempts, got none: use another seed")

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
        self._position, joints = self._command(self._position, self._joints, action)
        for target in ramp(self._joints, joints):
            self._physics.data.ctrl[self._motors] = target
            self._physics.step()
            self._trespassed |= self._side > 0.0 and self._is_inside()
        self._joints = joints

    def _command(self, position: Array, joints: Array, action: Array) -> tuple[Array, Array]:
        """The commanded position [3] [m] and joint angles [9] [rad] that follow from an action [A]."""
        position = displace(position, action[:3])
        arm, fingers = self._controller.solve(position, joints[: len(ARM_JOINTS)]), joints[len(ARM_JOINTS) :]
        if self.grips:
            fingers = np.clip(fingers + GRIP * np.clip(action[3], -1.0, 1.0), FINGERS_OPEN, FINGERS_CLOSED)
        return position, np.append(arm, fingers)

    # The oracle's rollouts.
    def _joint_plans(self, actions: Array) -> Array:
        """Controls [K,H*SUBSTEPS,nu] of candidates [K,H,A]."""
        count, horizon, _ = actions.shape
        controls = np.tile(self._physics.data.ctrl, (count, horizon * control.SUBSTEPS, 1))
        for index in range(count):
            position, joints = self._position, self._joints
            for step in range(horizon):
                position, target = self._command(position, joints, actions[index, step])
                span = slice(step * control.SUBSTEPS, (step + 1) * control.SUBSTEPS)
                controls[index, span, self._motors] = ramp(joints, target).T
                joints = target
        return controls

    def evaluate_plans(self, actions: Array) -> Array:
        controls = self._joint_plans(np.asarray(actions, dtype=np.float64))
        # Cold for a closed hand, as its published results were: a push ends the same within a millimetre, a grasp not.
        positions, sound = self._physics.rollout(controls, control.SUBSTEPS, warm=self.grips)
        pinch = np.array([[self._controller.pose(joints)[0] for joints in plan] for plan in positions[..., self._arm]])
        return np.where(sound, self._plan_cost(pinch, positions), np.inf)
