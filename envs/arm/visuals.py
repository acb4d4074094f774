"""How the scene looks: the standard look, and random ones for training data."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.arm.scene import CAMERA

Array = NDArray[np.float64]


class Visuals:
    """Draws colours, light and a slightly moved camera; nothing that touches the physics."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._camera = model.camera(CAMERA).id
        self._objects = [i for i in range(model.ngeom) if model.geom(i).name.startswith(("cube", "cup"))]
        self._surfaces = [model.geom("table").id, model.geom("ground").id]
        self._standard = {name: getattr(model, name).copy() for name in self._fields()}

    def _fields(self) -> tuple[str, ...]:
        return ("geom_rgba", "light_pos", "light_dir", "light_diffuse", "cam_pos", "cam_quat")

    def restore(self) -> None:
        """The standard look."""
        for name, value in self._standard.items():
            getattr(self._model, name)[:] = value

    def randomize(self, rng: np.random.Generator) -> None:
        """A random look. The camera moves by up to 1 cm and turns by up to 0.5 degrees."""
        self.restore()
        model = self._model
        for geom in self._surfaces:
            model.geom_rgba[geom, :3] = np.clip(rng.uniform(0.25, 0.9) + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0)
        for geom in self._objects:
            model.geom_rgba[geom, :3] = rng.uniform(0.05, 0.95, 3)
        model.light_pos[0] += rng.uniform(-0.6, 0.6, 3)
        model.light_dir[0, :2] += rng.uniform(-0.5, 0.5, 2)
        model.light_diffuse[0] = np.clip(rng.uniform(0.4, 0.9) + rng.uniform(-0.08, 0.08, 3), 0.0, 1.0)
        model.cam_pos[self._camera] += rng.uniform(-0.01, 0.01, 3)
        turn = np.empty(4)
        axis = rng.normal(size=3)
        mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), np.deg2rad(rng.uniform(-0.5, 0.5)))
        mujoco.mju_mulQuat(model.cam_quat[self._camera], model.cam_quat[self._camera].copy(), turn)
