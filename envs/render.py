"""Off-screen pictures through EGL (Mesa is enough), created at the first picture and never at import."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import RenderError
from envs.watchdog import Watchdog

BACKENDS = ("egl", "osmesa", "glfw", "cgl")


def backend_name() -> str:
    """The GL backend in use: MUJOCO_GL where it is set, otherwise EGL (CGL on macOS)."""
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if not chosen:
        return "cgl" if sys.platform == "darwin" else "egl"
    if chosen not in BACKENDS:
        raise RenderError(
            f"expected MUJOCO_GL to be one of {', '.join(BACKENDS)}, got {chosen!r}: unset it, or set MUJOCO_GL=egl"
        )
    return chosen


def make_gl_context(width: int, height: int) -> Any:
    """A current GL context of `backend_name()`. Raises RenderError with what to try."""
    name = backend_name()
    try:
        if name == "egl":
            from mujoco.egl import GLContext
        elif name == "osmesa":
            from mujoco.osmesa import GLContext
        elif name == "glfw":
            from mujoco.glfw import GLContext
        else:
            from mujoco.cgl import GLContext
        if not hasattr(GLContext, "_context"):
            GLContext._context = None  # a context that failed half-way is destroyed in silence
        context = GLContext(width, height)
        context.make_current()
    except Exception as error:  # the libraries below raise anything from AttributeError to ctypes errors
        raise RenderError.of(name, error) from error
    return context


@functools.cache
def watchdog() -> Watchdog:
    """The one of this process, from its first camera on."""
    return Watchdog(backend_name())


@dataclass(frozen=True)
class Decoration:
    """Something that is in the picture and nowhere else: a geom of type `kind`, its sizes [3] and place [3] in [m]."""

    kind: mujoco.mjtGeom
    size: NDArray[np.float64]
    place: NDArray[np.float64]
    rgba: NDArray[np.float32]


class Camera:
    """Renders one named camera at one size, without shadows, reflections or multisampling: the look of the data."""

    def __init__(self, model: mujoco.MjModel, name: str, size: int) -> None:
        self._model, self._size = model, size
        self._gl = make_gl_context(size, size)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        model.vis.quality.offsamples = 0
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:  # such as a backend that made no context and did not say so
            self._gl.free()
            raise RenderError.of(backend_name(), error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._rect = mujoco.MjrRect(0, 0, size, size)
        # Freed at collection or, at the latest, before the GL library's own exit handler, which was registered earlier.
        self._process = os.getpid()
        self._finalizer = weakref.finalize(self, _free, self._gl, self._context, self._process)
        self._finalizer.atexit = False
        atexit.register(self._finalizer)

    def __call__(self, data: mujoco.MjData, decorations: Sequence[Decoration] = ()) -> NDArray[np.uint8]:
        """uint8 [S,S,3], a fresh array. Raises RenderError in a fork of the process that made the camera."""
        if os.getpid() != self._process:  # it would wait forever for threads of the driver that were not forked
            raise RenderError(
                f"expected pictures from process {self._process}, which made the camera, got process {os.getpid()}: "
                "a GL context does not survive a fork; start processes with spawn"
            )
        with watchdog().drawing():
            self._gl.make_current()
            mujoco.mjv_updateScene(
                self._model, data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
            )
            for each in decorations:
                geom = self._scene.geoms[self._scene.ngeom]
                mujoco.mjv_initGeom(geom, each.kind, each.size, each.place, np.eye(3).ravel(), each.rgba)
                self._scene.ngeom += 1
            mujoco.mjr_render(self._rect, self._scene, self._context)
            pixels = np.empty((self._size, self._size, 3), dtype=np.uint8)
            mujoco.mjr_readPixels(pixels, None, self._rect, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def close(self) -> None:
        """Free the context; the camera cannot be used afterwards."""
        atexit.unregister(self._finalizer)
        self._finalizer()


def _free(gl: Any, context: mujoco.MjrContext, process: int) -> None:
    if os.getpid() != process:
        return
    gl.make_current()
    context.free()
    gl.free()


def project(
    model: mujoco.MjModel, data: mujoco.MjData, name: str, size: int, points: NDArray[Any]
) -> NDArray[np.float64]:
    """World points [N,3] [m] to pixel coordinates [N,2] (x right, y down) in a picture of side `size`."""
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    rotation = data.cam_xmat[index].reshape(3, 3)
    local = (np.asarray(points, dtype=np.float64) - data.cam_xpos[index]) @ rotation
    focal = 0.5 * size / np.tan(np.deg2rad(model.cam_fovy[index]) / 2)
    depth = np.maximum(-local[:, 2], 1e-6)
    return np.stack([size / 2 + focal * local[:, 0] / depth, size / 2 - focal * local[:, 1] / depth], axis=-1)
