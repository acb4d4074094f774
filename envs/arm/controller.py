"""Differential inverse kinematics: end-effector displacements to joint targets, without looking at the physics.

The commanded pose is integrated from the actions alone, so a whole plan's joint targets can be computed before it is
simulated. The hand points straight down.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm.scene import ARM_JOINTS, PINCH, TIMESTEP

Array = NDArray[np.float64]

STEP = 0.06  # [m] displacement per axis and decision at action 1.0
DECISION = 0.2  # [s]
SUBSTEPS = round(DECISION / TIMESTEP)
RAMP = 0.8  # share of a decision in which the command moves; the rest lets the arm settle
WORKSPACE_LOW = np.array([-0.21, -0.02, 0.03])  # [m]; away from the wrist singularity near the base
WORKSPACE_HIGH = np.array([0.21, 0.28, 0.22])
DAMPING, ITERATIONS = 1e-4, 5
DOWN = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])  # columns: the pinch site's axes in the world
HOME = np.array([1.42, 3.82, 1.36, -0.20, 0.79, 2.79])  # [rad] a posture from which the workspace is reached


def rotation_error(target: Array, current: Array) -> Array:
    """Axis times angle [rad] of the rotation that takes `current` to `target`, exact to first order: [3]."""
    error = target @ current.T
    return 0.5 * np.array([error[2, 1] - error[1, 2], error[0, 2] - error[2, 0], error[1, 0] - error[0, 1]])


class Controller:
    """Turns actions in [-1, 1]^3 into joint targets by damped least squares (Nakamura and Hanafusa 1986)."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._scratch = mujoco.MjData(model)
        self._site = model.site(PINCH).id
        self._joints = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._dofs = np.array([model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self._jacobian = np.zeros((6, model.nv))

    def pose(self, joints: Array) -> tuple[Array, Array]:
        """Pinch position [3] [m] and rotation [3,3] at the joint angles [6] [rad]."""
        self._scratch.qpos[self._joints] = joints
        mujoco.mj_kinematics(self._model, self._scratch)
        return self._scratch.site_xpos[self._site].copy(), self._scratch.site_xmat[self._site].reshape(3, 3).copy()

    def solve(self, position: Array, start: Array, iterations: int = ITERATIONS) -> Array:
        """Joint angles [6] [rad] that bring the pinch site to `position` [3] [m], hand down, from `start`."""
        joints = start.copy()
        for _ in range(iterations):
            at, rotation = self.pose(joints)
            error = np.concatenate([position - at, rotation_error(DOWN, rotation)])
            mujoco.mj_comPos(self._model, self._scratch)
            mujoco.mj_jacSite(self._model, self._scratch, self._jacobian[:3], self._jacobian[3:], self._site)
            jacobian = self._jacobian[:, self._dofs]
            joints += jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(6), error)
        return joints

    def home(self, position: Array) -> Array:
        """Joint angles [6] for a start pose at `position` [3] [m], found from HOME."""
        return self.solve(position, HOME, iterations=60)


def displace(position: Array, action: Array) -> Array:
    """Next commanded position [...,3] [m] after an action [...,3], kept inside the workspace."""
    moved: Array = np.clip(position + STEP * np.clip(action, -1.0, 1.0), WORKSPACE_LOW, WORKSPACE_HIGH)
    return moved


def ramp(start: Array, end: Array) -> Array:
    """Joint targets [SUBSTEPS, n] from `start` to `end` at constant speed, then hold, so that no object is hurled."""
    phase = np.clip(np.arange(1, SUBSTEPS + 1) / (RAMP * SUBSTEPS), 0.0, 1.0)
    return start + phase[:, None] * (end - start)
