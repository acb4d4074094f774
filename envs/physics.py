"""A MuJoCo world that reports divergence instead of silently starting anew."""

from __future__ import annotations

import os

import mujoco
import numpy as np
from mujoco import rollout as mujoco_rollout
from numpy.typing import NDArray

from envs.errors import PhysicsDiverged

FULL = mujoco.mjtState.mjSTATE_INTEGRATION
FULL_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS  # begins with the time, then positions
Array = NDArray[np.float64]


class Physics:
    """One compiled model and its data.

    MuJoCo answers a diverged state by resetting the world (`mj_checkPos` and its siblings call `mj_resetData`),
    after which the next frame is a clean picture of the initial pose. That reset is disabled here.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.model = model
        self.data = mujoco.MjData(model)

    def step(self, count: int = 1) -> None:
        """Advance `count` time steps. Raises PhysicsDiverged."""
        before = self.data.time
        mujoco.mj_step(self.model, self.data, count)
        self.check(before)

    def check(self, time_before: float) -> None:
        """Raise PhysicsDiverged if the world diverged since `time_before` [s]."""
        warned = [
            mujoco.mjtWarning(index).name
            for index in (
                mujoco.mjtWarning.mjWARN_BADQPOS,
                mujoco.mjtWarning.mjWARN_BADQVEL,
                mujoco.mjtWarning.mjWARN_BADQACC,
                mujoco.mjtWarning.mjWARN_BADCTRL,
                mujoco.mjtWarning.mjWARN_INERTIA,
                mujoco.mjtWarning.mjWARN_CONTACTFULL,
                mujoco.mjtWarning.mjWARN_CNSTRFULL,
            )
            if self.data.warning[index].number
        ]
        finite = all(bool(np.isfinite(values).all()) for values in (self.data.qpos, self.data.qvel, self.data.qacc))
        if warned or not finite or not self.data.time > time_before:
            raise PhysicsDiverged(
                f"expected finite positions, velocities, accelerations, got {', '.join(warned) or 'non-finite values'} "
                f"at simulated time {self.data.time:.3f} s: the episode is over; reset the environment"
            )

    def forward(self) -> None:
        """Recompute everything that follows from positions and velocities."""
        mujoco.mj_forward(self.model, self.data)

    def update_poses(self) -> None:
        """Bring bodies, sites and cameras up to the state; a time step leaves them where they were at its beginning.

        Without it, a restored state would look different from the same state when it was reached.
        """
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def reset(self) -> None:
        """Back to the model's initial state, warnings cleared."""
        mujoco.mj_resetData(self.model, self.data)

    def get_state(self) -> Array:
        """Everything the integrator reads, so that a restored world continues bit for bit."""
        state = np.empty(mujoco.mj_stateSize(self.model, FULL))
        mujoco.mj_getState(self.model, self.data, state, FULL)
        return state

    def set_state(self, state: Array) -> None:
        """Restore what `get_state` returned."""
        mujoco.mj_setState(self.model, self.data, state, FULL)
        # A diverged world leaves its warnings behind; the restored one has not diverged.
        for warning in self.data.warning:
            warning.number = 0
        self.forward()

    def rollout(self, controls: Array, every: int, *, warm: bool = True) -> tuple[Array, NDArray[np.bool_]]:
        """Try controls [K,T,nu] from the present state, which stays.

        Returns positions [K,T/every,nq] after every `every` time steps, and whether the world was sound until then.
        `warm` begins with the contact solver's last solution, as stepping would: bit for bit the same.
        """
        start = np.empty(mujoco.mj_stateSize(self.model, FULL_PHYSICS))
        mujoco.mj_getState(self.model, self.data, start, FULL_PHYSICS)
        workers = [mujoco.MjData(self.model) for _ in range(min(os.cpu_count() or 1, len(controls)))]
        last = np.tile(self.data.qacc_warmstart, (len(controls), 1)) if warm else None
        states, _ = mujoco_rollout.rollout(
            self.model, workers, np.tile(start, (len(controls), 1)), controls, initial_warmstart=last
        )
        ends = states[:, every - 1 :: every]
        # A rollout that diverges stops and repeats its last state, which may be finite; only its clock tells.
        sound = np.isfinite(ends).all(axis=-1) & (np.diff(ends[..., 0], axis=1, prepend=start[0]) > 0.0)
        return ends[..., 1 : 1 + self.model.nq], sound
