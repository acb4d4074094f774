"""How the scene looks: the standard look, random ones for training data, and shifted ones for tests.

A shift is a look that training data does not have, or hardly. The goal image is taken in it, too: with the same camera
in the same scene, as somebody would who puts the arm at the goal and takes a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.render import Decoration

Array = NDArray[np.float64]

CONTRAST = 0.5  # least distance of two objects' random colours in the RGB cube
SHIFTS = ("lighting", "camera", "colour", "distractor")
TINTS = ((1.0, 0.72, 0.45), (0.55, 0.75, 1.0))  # of a lamp in the evening, of a window at noon
KINDS = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_SPHERE)


class Visuals:
    """Draws colours, light and a slightly moved camera; nothing that touches the physics."""

    def __init__(
        self,
        model: mujoco.MjModel,
        camera: str,
        *,
        objects: Sequence[str],
        surfaces: Sequence[str],
        beside: Sequence[Sequence[float]],
        bulk: float,
        sway: float,
    ) -> None:
        """`camera`: the one that is moved. `objects` and `surfaces`: geoms; objects stay of different colours.

        `beside`: places [n,2] [m] on the ground at which a distractor may stand, about `bulk` [m] to every side.
        `sway`: how far the shifted camera moves, as a share of its distance, and turns [rad], at most.
        """
        self._model, self.camera = model, camera
        self._camera = model.camera(camera).id
        self._objects = [model.geom(name).id for name in objects]
        self._surfaces = [model.geom(name).id for name in surfaces]
        self._beside, self._bulk, self._sway = beside, bulk, sway
        self._standard = {name: getattr(model, name).copy() for name in self._fields()}
        self._headlight = [part.copy() for part in self._room()]
        self.decorations: tuple[Decoration, ...] = ()

    def _fields(self) -> tuple[str, ...]:
        return ("geom_rgba", "light_pos", "light_dir", "light_diffuse", "cam_pos", "cam_quat")

    def _room(self) -> tuple[Array, Array]:
        """The light that comes from everywhere, and that from the camera."""
        return self._model.vis.headlight.ambient, self._model.vis.headlight.diffuse

    def restore(self) -> None:
        """The standard look."""
        for name, value in self._standard.items():
            getattr(self._model, name)[:] = value
        for part, value in zip(self._room(), self._headlight, strict=True):
            part[:] = value
        self.decorations = ()

    def randomize(self, rng: np.random.Generator) -> None:
        """A random look. The camera moves by up to 1 cm and turns by up to 0.5 degrees."""
        self.restore()
        model = self._model
        self._colour_surfaces(rng)
        self._colour_objects(rng, [])
        model.light_pos[0] += rng.uniform(-0.6, 0.6, 3)
        model.light_dir[0, :2] += rng.uniform(-0.5, 0.5, 2)
        model.light_diffuse[0] = np.clip(rng.uniform(0.4, 0.9) + rng.uniform(-0.08, 0.08, 3), 0.0, 1.0)
        model.cam_pos[self._camera] += rng.uniform(-0.01, 0.01, 3)
        axis = rng.normal(size=3)
        self._turn_camera(axis, np.deg2rad(rng.uniform(-0.5, 0.5)))

    def shift(self, name: str, rng: np.random.Generator) -> None:
        """One of SHIFTS, on top of the present look.

        lighting: a darker room and a tinted lamp that shines from another side. camera: moved and turned by half
        to all of `sway`. colour: other surfaces, and objects far from their own colours.
        distractor: an object beside the scene, which the physics do not know.
        """
        {
            "lighting": self._shift_lighting,
            "camera": self._shift_camera,
            "colour": self._shift_colour,
            "distractor": self._shift_distractor,
        }[name](rng)

    def _shift_lighting(self, rng: np.random.Generator) -> None:
        model, dim = self._model, rng.uniform(0.3, 0.6)
        for part in self._room():
            part *= dim
        side = rng.choice((-1.0, 1.0)) * rng.uniform(0.8, 1.2)
        model.light_dir[0] = [-side, rng.uniform(-0.6, 0.6), -1.0]
        model.light_pos[0] = [1.5 * side, 0.0, 1.5]
        model.light_diffuse[0] = rng.uniform(0.8, 1.1) * np.array(TINTS[int(rng.integers(len(TINTS)))])

    def _shift_camera(self, rng: np.random.Generator) -> None:
        place = self._model.cam_pos[self._camera]
        way = rng.normal(size=3)
        place += self._sway * rng.uniform(0.5, 1.0) * np.linalg.norm(place) * way / np.linalg.norm(way)
        self._turn_camera(rng.normal(size=3), self._sway * rng.uniform(0.5, 1.0))

    def _shift_colour(self, rng: np.random.Generator) -> None:
        own = [self._model.geom_rgba[geom, :3].copy() for geom in self._objects]
        self._colour_surfaces(rng)
        surfaces = [self._model.geom_rgba[geom, :3].copy() for geom in self._surfaces]
        self._colour_objects(rng, own + surfaces)

    def _shift_distractor(self, rng: np.random.Generator) -> None:
        size = self._bulk * rng.uniform(0.8, 1.2, 3)
        kind = KINDS[int(rng.integers(len(KINDS)))]
        height = {KINDS[0]: size[2], KINDS[1]: size[1], KINDS[2]: size[0]}[kind]
        place = np.append(self._beside[int(rng.integers(len(self._beside)))], height)
        colours = [self._model.geom_rgba[geom, :3] for geom in (*self._objects, *self._surfaces)]
        rgba = np.append(_unlike(rng, list(colours)), 1.0).astype(np.float32)
        self.decorations = (*self.decorations, Decoration(kind, size, place, rgba))

    def _colour_surfaces(self, rng: np.random.Generator) -> None:
        for geom in self._surfaces:
            self._model.geom_rgba[geom, :3] = np.clip(rng.uniform(0.25, 0.9) + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0)

    def _colour_objects(self, rng: np.random.Generator, avoid: list[Array]) -> None:
        """Colours far from one another and from those to `avoid`."""
        drawn = list(avoid)
        for geom in self._objects:
            drawn.append(_unlike(rng, drawn))
            self._model.geom_rgba[geom, :3] = drawn[-1]

    def _turn_camera(self, axis: Array, angle: float) -> None:
        """By `angle` [rad] about `axis` [3]."""
        turn = np.empty(4)
        mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), angle)
        mujoco.mju_mulQuat(self._model.cam_quat[self._camera], self._model.cam_quat[self._camera].copy(), turn)


def _unlike(rng: np.random.Generator, others: Sequence[Array]) -> Array:
    """A random colour that is far from all `others`."""
    colour = rng.uniform(0.05, 0.95, 3)
    while any(np.linalg.norm(colour - other) < CONTRAST for other in others):
        colour = rng.uniform(0.05, 0.95, 3)
    return colour
