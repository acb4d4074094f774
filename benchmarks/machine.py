"""On what a result was measured: package versions, the GL renderer and the processor."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "mujoco", "dm_control", "numpy", "gymnasium")


def versions() -> dict[str, str]:
    """Python, the packages that decide a result, and the GL renderer of the current context."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        found[name] = metadata.version(name)
    return {**found, "gl": gl_renderer()}


def release_memory() -> None:
    """Give freed memory back to the system: glibc keeps that of closed scenes, a hundred MB for ten of them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def gl_renderer() -> str:
    """Backend and renderer of the GL context that is current in this thread; "none" before the first picture."""
    # Asking PyOpenGL before a renderer has chosen its platform would choose the wrong one for the whole process.
    if "OpenGL" not in sys.modules:
        return "none"
    from OpenGL import GL

    words = [GL.glGetString(name) for name in (GL.GL_RENDERER, GL.GL_VERSION)]
    text = ", OpenGL ".join(word.decode() for word in words if word)
    return f"{os.environ.get('PYOPENGL_PLATFORM', 'native')}: {text}" if text else "none"


def machine() -> dict[str, Any]:
    """cpu: the processor's name; cores: those this process may use; threads: torch's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_name(), "cores": cores, "threads": torch.get_num_threads()}


def _cpu_name() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
