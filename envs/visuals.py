"""How the scene looks: the standard look, and random ones for training data."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONTRAST = 0.5  # least distance of two objects' random colours in the RGB cube


class Visuals:
    """Draws colours, light and a slightly moved camera; nothing that touches the physics."""

    def __init__(self, model: mujoco.MjModel, camera: str, *, objects: Sequence[str], surfaces: Sequence[str]) -> None:
        """`camera`: the one that is moved. `objects` and `surfaces`: geoms; objects stay of different colours."""
        self._model, self.camera = model, camera
        self._camera = model.camera(camera).id
        self._objects = [model.geom(name).id for name in objects]
        self._surfaces = [model.geom(name).id for name in surfaces]
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
        drawn: list[Array] = []
        for geom in self._objects:
            colour = rng.uniform(0.05, 0.95, 3)
            while any(np.linalg.norm(colour - other) < CONTRAST for other in drawn):
                colour = rng.uniform(0.05, 0.95, 3)
            drawn.append(colour)
            model.geom_rgba[geom, :3] = colour
        model.light_pos[0] += rng.uniform(-0.6, 0.6, 3)
        model.light_dir[0, :2] += rng.uniform(-0.5, 0.5, 2)
        model.light_diffuse[0] = np.clip(rng.uniform(0.4, 0.9) + rng.uniform(-0.08, 0.08, 3), 0.0, 1.0)
        model.cam_pos[self._camera] += rng.uniform(-0.01, 0.01, 3)
        turn = np.empty(4)
        axis = rng.normal(size=3)
        mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), np.deg2rad(rng.uniform(-0.5, 0.5)))
        mujoco.mju_mulQuat(model.cam_quat[self._camera], model.cam_quat[self._camera].copy(), turn)
