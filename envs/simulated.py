"""What every task has whose world is one MuJoCo model seen by one camera: pictures, looks and true rollouts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import SceneError
from envs.goal_env import GoalEnv
from envs.physics import Physics
from envs.render import Camera, project
from envs.visuals import SHIFTS, Visuals

Array = NDArray[Any]


def empty_scene(name: str, timestep: float) -> mujoco.MjSpec:
    """A scene without anything in it, with the solver and the soft light of all tasks. timestep: [s]."""
    scene = mujoco.MjSpec()
    scene.modelname = name
    scene.option.timestep = timestep
    scene.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    scene.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    scene.visual.headlight.ambient = [0.35] * 3
    scene.visual.headlight.diffuse = [0.35] * 3
    scene.visual.headlight.specular = [0.0] * 3
    return scene


class SimulatedEnv(GoalEnv):
    """A goal task in one simulated world. Subclasses build the model and make the spaces."""

    def __init__(
        self, image_size: int, randomize_visuals: float, render_mode: str | None, shift: str | None = None
    ) -> None:
        """`randomize_visuals`: share of the episodes whose colours, light and camera are drawn anew.

        `shift`: one of SHIFTS, in which every episode looks unlike the training data, start and goal image alike; it
        follows from the episode's seed and changes pictures only. None: the standard look.

        `render_mode` is gymnasium's own argument; there is only "rgb_array". Raises SceneError.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise SceneError(f"expected render_mode 'rgb_array' or none, got {render_mode!r}: leave it out")
        if not 32 <= image_size <= 1024 or not 0.0 <= randomize_visuals <= 1.0:
            raise SceneError(
                "expected image_size in 32..1024 and randomize_visuals in 0..1, "
                f"got {image_size} and {randomize_visuals}: change the environment's arguments"
            )
        if shift is not None and shift not in SHIFTS:
            raise SceneError(
                f"expected shift to be one of {', '.join(SHIFTS)}, got {shift!r}: choose one, or leave it out"
            )
        self._randomize_visuals, self._shift = randomize_visuals, shift
        self._physics = Physics(self._build_model())
        self._visuals = self._make_visuals(self._physics.model)
        self._cameras: dict[int, Camera] = {}

    @abstractmethod
    def _build_model(self) -> mujoco.MjModel:
        """Compile the scene."""

    @abstractmethod
    def _make_visuals(self, model: mujoco.MjModel) -> Visuals:
        """Which parts of the scene may look different, and through which camera it is seen."""

    def _draw_look(self, look_seed: int) -> None:
        """The standard look or a random one, from a generator of its own: looks never change a start or a goal."""
        rng = np.random.default_rng(look_seed)
        if rng.random() < self._randomize_visuals:
            self._visuals.randomize(rng)
        else:
            self._visuals.restore()
        if self._shift is not None:
            self._visuals.shift(self._shift, rng)
            mujoco.mj_camlight(self._physics.model, self._physics.data)  # the next picture may be of the state as it is

    def visible_pixels(self, geom: str) -> int:
        """How many pixels of the observation show the geom `geom`; what stands before it hides it."""
        colour = self._physics.model.geom(geom).rgba
        shown, alpha = self.render_size(self.image_size), colour[3]
        colour[3] = 0.0
        without = self.render_size(self.image_size)
        colour[3] = alpha
        return int((shown != without).any(axis=-1).sum())

    def render_size(self, side: int) -> Array:
        if side not in self._cameras:
            self._cameras[side] = Camera(self._physics.model, self._visuals.camera, side)
        return self._cameras[side](self._physics.data, self._visuals.decorations)

    def project(self, points: Array) -> Array:
        return project(self._physics.model, self._physics.data, self._visuals.camera, self.image_size, points)

    def close(self) -> None:
        """Free the cameras."""
        for camera in self._cameras.values():
            camera.close()
        self._cameras.clear()
