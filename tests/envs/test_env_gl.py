"""Pictures need GL: where there is none, one line says what to try; where there is, nothing is left behind."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from env_worlds import JACO, TASKS

import envs
from envs.render import backend_name

ROOT = Path(__file__).resolve().parents[2]
GL = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID")
START = """
import sys
import gymnasium
import envs
try:
    gymnasium.make(sys.argv[1]).reset(seed=0)
except envs.RenderError as error:
    print(error)
"""
IMPORT = """
import os, sys
import gymnasium  # which hides the greeting of pygame by a variable of its own
before = dict(os.environ)
import envs.arm.push, envs.arm.reach, envs.navigation.navigate, envs.render
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
env = gymnasium.make(sys.argv[1])
assert not [name for name in sys.modules if name.startswith("OpenGL")], "GL was loaded before the first picture"
assert dict(os.environ) == before
"""
EXIT = """
import sys
import weakref
class Earlier: pass
earlier = Earlier()
weakref.finalize(earlier, int)  # registers the exit handler of all finalizers before that of the GL library
import gymnasium, envs
kept = [gymnasium.make(sys.argv[1]) for _ in range(2)]
for env in kept:
    env.reset(seed=0, options={"explore": True})
kept[0].unwrapped.render_size(200)
"""
NO_EGL = {"__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}  # the loader of EGL finds no driver
BROKEN = {
    "no driver": ("egl", NO_EGL),
    "no driver, asked for": ("egl", {"MUJOCO_GL": "egl", **NO_EGL}),
    "no such device": ("egl", {"MUJOCO_EGL_DEVICE_ID": "99"}),
    "another platform": ("egl", {"PYOPENGL_PLATFORM": "osmesa"}),
    "nonsense": ("nonsense", {"MUJOCO_GL": "nonsense"}),
    "switched off": ("off", {"MUJOCO_GL": "off"}),
    "no library": ("osmesa", {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "glx"}),
    "no display": ("glfw", {"MUJOCO_GL": "glfw", "DISPLAY": "", "WAYLAND_DISPLAY": "", "PYTHONWARNINGS": "ignore"}),
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="EGL and OSMesa are Linux's")


def child(code: str, task: str, **extra: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in GL}
    environment = {**kept, "PYTHONPATH": str(ROOT), **extra}
    return subprocess.run([sys.executable, "-c", code, task], env=environment, capture_output=True, text=True)


@linux
@pytest.mark.parametrize("kind", BROKEN)
def test_without_gl_one_line_names_backend_cause_and_remedy(kind: str) -> None:
    backend, environment = BROKEN[kind]
    done = child(START, next(iter(TASKS)), **environment)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("expected ")
    assert f"got {backend!r}" in done.stdout
    if "which failed" in done.stdout:
        assert all(remedy in done.stdout for remedy in ("libegl1", "MUJOCO_GL=osmesa", "unset MUJOCO_GL"))
    else:
        assert "MUJOCO_GL=egl" in done.stdout
    assert kind != "no such device" or "99" in done.stdout  # the cause, in the words of who knows


@pytest.mark.parametrize("task", TASKS)
def test_importing_and_making_touch_neither_gl_nor_the_environment(task: str) -> None:
    done = child(IMPORT, task)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_a_process_may_end_with_its_cameras_open() -> None:
    done = child(EXIT, next(iter(TASKS)))
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(("value", "expected"), [("EGL ", "egl"), ("osmesa", "osmesa"), ("glfw", "glfw")])
def test_the_backend_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    monkeypatch.setenv("MUJOCO_GL", value)
    assert backend_name() == expected


def test_a_backend_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(envs.RenderError, match="'vulkan'"):
        backend_name()


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


def test_open_files_stay_flat_over_thirty_environments() -> None:
    counts = []
    for task in itertools.islice(itertools.cycle(TASKS), 30):
        made = gymnasium.make(task)
        made.reset(seed=0, options={"explore": True})
        made.close()
        del made
        counts.append(descriptors())
    assert counts[-1] <= counts[2]


@pytest.mark.parametrize("close", [True, False], ids=["closed", "forgotten"])
@pytest.mark.parametrize("task", JACO)
def test_the_camera_goes_with_its_environment(task: str, close: bool) -> None:
    made: Any = gymnasium.make(task)
    made.reset(seed=0, options={"explore": True})
    made.unwrapped.render_size(64)
    finalizers = [camera._finalizer for camera in made.unwrapped._cameras.values()]
    assert len(finalizers) == 2
    assert all(finalizer.alive for finalizer in finalizers)
    if close:
        made.close()
    else:
        del made
        gc.collect()
    assert not any(finalizer.alive for finalizer in finalizers)
