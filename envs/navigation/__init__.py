"""Table-top tasks of the Kinova Jaco arm."""

from __future__ import annotations

import os

from envs.errors import RenderError

# Importing MuJoCo loads the GL library that MUJOCO_GL names, and fails in as many ways as there are libraries.
try:
    import mujoco  # noqa: F401
except Exception as error:
    if "MUJOCO_GL" not in os.environ:
        raise
    raise RenderError.of(os.environ["MUJOCO_GL"], error) from error
