"""OpenGL seen from outside: whether the simulator can be imported with it, and which renderer answers."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from worldmodel.errors import ConfigError


def require_simulator() -> None:
    """Import MuJoCo, which reads MUJOCO_GL and can fail in many ways. Raises ConfigError for all of them."""
    try:
        import mujoco  # noqa: F401
    except Exception as error:
        if "MUJOCO_GL" not in os.environ:
            raise
        got = f"{os.environ['MUJOCO_GL']!r}, with which MuJoCo cannot be imported ({error})"
        raise ConfigError(f"expected MUJOCO_GL to name a backend that works here, got {got}: unset it") from error


def gl_renderer() -> str:
    """The backend and its renderer, or why there is none; one line.

    Asked in a child process, because a broken driver can take its process with it.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        try:
            return child.submit(_probe).result()
        except BrokenProcessPool:
            return "none: the OpenGL driver crashed (install Mesa: apt-get install libegl1 libgl1 libgl1-mesa-dri)"


def _probe() -> str:
    try:
        require_simulator()
    except ConfigError as error:
        return f"none: {error}"
    from envs.errors import EnvError
    from envs.render import backend_name, make_gl_context

    try:
        context = make_gl_context(8, 8)
    except EnvError as error:
        return f"none: {error}"
    from OpenGL import GL

    words = [GL.glGetString(name) for name in (GL.GL_RENDERER, GL.GL_VERSION)]
    context.free()
    return f"{backend_name()}: " + ", OpenGL ".join(word.decode() for word in words if word is not None)
