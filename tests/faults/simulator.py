"""Faults 47 to 51: worlds that fall apart, bad actions, pictures that cannot be drawn, and what is left behind."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.harness import ROOT, Fault, Lab, Tally

TASKS = ("worldmodel/JacoReach-v0", "worldmodel/JacoPush-v0")
GL = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID", "DISPLAY", "WAYLAND_DISPLAY")
HOSTILE = {
    "no driver": {"__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"},
    "a backend nobody knows": {"MUJOCO_GL": "vulkan"},
    "no such device": {"MUJOCO_EGL_DEVICE_ID": "99"},
    "switched off": {"MUJOCO_GL": "off"},
    "another platform": {"PYOPENGL_PLATFORM": "osmesa"},
    "no library": {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "glx"},
    "no display": {"MUJOCO_GL": "glfw"},
    "a library that is none": {"__EGL_VENDOR_LIBRARY_FILENAMES": "/dev/null"},
}


PROVOCATIONS: dict[str, Callable[[Any, Any], None]] = {
    "position NaN": lambda data, model: data.qpos.__setitem__(0, math.nan),
    "position 1e12": lambda data, model: data.qpos.__setitem__(2, 1e12),
    "velocity inf": lambda data, model: data.qvel.__setitem__(0, math.inf),
    "velocity 1e12": lambda data, model: data.qvel.__setitem__(1, 1e12),
    "time step x 500": lambda data, model: setattr(model.opt, "timestep", model.opt.timestep * 500),
    "forces of 1e30": lambda data, model: data.qfrc_applied.__setitem__(slice(None), 1e30),
}


def made(task: str, **options: Any) -> Any:
    import gymnasium

    import envs  # registers the tasks  # noqa: F401

    return gymnasium.make(task, disable_env_checker=True, **options)


def provoked(tally: Tally, lab: Lab) -> None:
    """States and forces that no arm survives: the episode ends as diverged, and nothing begins anew behind its back."""
    import numpy as np

    os.chdir(lab.fresh("log").parent)  # MuJoCo writes its warnings to a file where it is
    for task in TASKS:
        env = made(task)
        world = env.unwrapped
        data, model = world._physics.data, world._physics.model
        hold = np.zeros(world.action_space.shape, np.float32)
        for note, provoke in PROVOCATIONS.items():
            env.reset(seed=1, options={"explore": True})
            start, step = data.qpos.copy(), model.opt.timestep
            provoke(data, model)
            ends = []
            for _ in range(4):
                try:
                    ends.append(world.step(hold))
                except Exception as error:
                    tally.count("wrong", f"{task}, {note}: {type(error).__name__}: {error}")
                    break
                if ends[-1][2]:
                    break
            model.opt.timestep = step
            if not ends:
                continue
            _, reward, ended, cut, info = ends[-1]
            anew = np.allclose(data.qpos, model.qpos0) or (np.isfinite(data.qpos).all() and data.time == 0.0)
            told = (ended, cut, info["diverged"], info["success"], reward) == (True, False, True, False, 0.0)
            tally.holds(told and not anew, f"{task}, {note}: diverged {info['diverged']}, began anew {anew}")
            env.reset(seed=1, options={"explore": True})
            tally.holds(np.array_equal(data.qpos, start), f"{task}, {note}: the next episode is another")
        env.close()


def silent_reset(tally: Tally, lab: Lab) -> None:
    """MuJoCo's own answer to divergence, a fresh start without a word, is switched off."""
    import mujoco
    import numpy as np

    from envs.physics import Physics

    os.chdir(lab.fresh("log").parent)
    xml = "<mujoco><worldbody><body><joint/><geom size='.1'/></body></worldbody></mujoco>"
    for value in (np.nan, np.inf, 1e30):
        physics = Physics(mujoco.MjModel.from_xml_string(xml))
        physics.step(20)
        time = physics.data.time
        physics.data.qvel[0] = value
        tally.refused(f"velocity {value}", physics.step, "expected finite", "reset the environment")
        tally.holds(physics.data.time >= time and not abs(physics.data.qvel[0]) < 1e5, f"velocity {value}: began anew")


def bad_actions(tally: Tally, lab: Lab) -> None:
    import numpy as np

    for task in TASKS:
        env = made(task)
        env.reset(seed=0, options={"explore": True})
        world = env.unwrapped
        before = world.get_state()
        size = world.action_space.shape[0]
        for note, action in {
            "NaN": np.full(size, np.nan), "inf": np.full(size, np.inf), "one less": np.zeros(size - 1),
            "one more": np.zeros(size + 1), "nested": np.zeros((1, size)), "a number": np.float32(0.0), "none": None,
        }.items():  # fmt: skip
            call = partial(world.step, action)
            tally.refused(f"{task}, {note}", call, "expected a finite action", also=(ValueError,))
        tally.holds(np.array_equal(world.get_state(), before), f"{task}: something moved")
        env.close()


def without_gl(tally: Tally, lab: Lab) -> None:
    """Whole commands in environments without a working GL: one line with backend, cause and what to try."""
    for note in list(HOSTILE)[: lab.times(2, 99)]:
        kept = {name: value for name, value in os.environ.items() if name not in GL}
        words = [sys.executable, "-m", "worldmodel.cli", "drive", f"out={lab.fresh('out')}", "agent=hold", "episodes=1"]
        environment = {**kept, "PYTHONPATH": str(ROOT), **HOSTILE[note]}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        good = done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr and "MUJOCO_GL" in errors[0]
        tally.count("detected" if good else "wrong", f"{note}: {done.stderr[-200:]}")


def cycles(tally: Tally, lab: Lab) -> None:
    """Environments made, drawn from and closed: descriptors and memory stay flat."""

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/dev/fd"))

    def memory() -> float:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    total, early, used = lab.times(30, 500), 0, []
    third = total // 3
    for number in range(total):
        env = made(TASKS[number % 2])
        env.reset(seed=number, options={"explore": True})
        env.close()
        del env
        used.append(memory())
        if number == third:
            early = descriptors()
    # What GL's threads hold comes and goes by a few MB, so single readings say nothing: what leaks lifts the least.
    grown = min(used[-third:]) - min(used[third // 2 : third])
    late = descriptors()
    tally.holds(late <= early, f"descriptors: {early}, then {late}")
    tally.holds(grown < 0.15 * total, f"memory grew by {grown:.1f} MB in {total - third} environments")


def forked(tally: Tally, lab: Lab) -> None:
    """A camera that is used in a fork of the process that made it."""
    from tests.faults.harness import run

    env = made(TASKS[0])
    env.reset(seed=0, options={"explore": True})

    def child() -> int:
        from envs.errors import RenderError

        try:
            env.render()
        except RenderError as error:
            return 0 if "process" in str(error) else 1
        return 3

    ended = run(child, 20.0)
    tally.count("hung" if ended.hung else {0: "detected", 3: "silent"}.get(ended.status, "wrong"), ended.err[-200:])
    env.close()


def hanging(tally: Tally, lab: Lab) -> None:
    """A driver that never comes back from reading the pixels (mujoco#3444): a stub in its place that waits."""
    from tests.faults.harness import run

    def child() -> int:
        import os
        import time

        import mujoco

        if not lab.full:
            os.environ["WORLDMODEL_RENDER_SECONDS"] = "1"
        mujoco.mjr_readPixels = lambda *arguments: time.sleep(1e6)
        made(TASKS[0]).reset(seed=0, options={"explore": True})
        return 3

    ended = run(child, 90.0)
    said = ended.err.strip().splitlines()
    told = ended.status == 2 and len(said) == 1 and "which failed (no picture after" in said[0]
    tally.count("hung" if ended.hung else "detected" if told else "wrong", f"reading pixels: {said[-1:]}")


def too_large(tally: Tally, lab: Lab) -> None:
    """Pictures beyond what the context was made for, and sizes that are none."""
    env = made(TASKS[0])
    env.reset(seed=0, options={"explore": True})
    picture = env.unwrapped.render_size(700)
    tally.holds(picture.shape == (700, 700, 3) and bool(picture.std() > 1), "a picture larger than the observation")
    for side in (0, 8, 5000):
        tally.refused(f"image_size={side}", lambda side=side: made(TASKS[0], image_size=side), "expected")
    env.close()


def same_seed(tally: Tally, lab: Lab) -> None:
    """A seed fixes an episode to the last bit, whatever was done before it."""
    import gymnasium
    import numpy as np

    for task in TASKS:
        runs = []
        for before in (0, 3):
            env = made(task)
            for seed in range(before):
                env.reset(seed=100 + seed, options={"explore": True})
                env.step(np.ones(env.action_space.shape, np.float32))
            observation, _ = env.reset(seed=5)
            seen = [observation["pixels"].tobytes(), env.unwrapped.get_state().tobytes()]
            for action in np.random.default_rng(0).uniform(-1, 1, (3, 3)).astype(np.float32):
                observation = env.step(action)[0]
                seen += [observation["pixels"].tobytes(), env.unwrapped.get_state().tobytes()]
            runs.append(seen)
            env.close()
        tally.holds(runs[0][1::2] == runs[1][1::2], f"{task}: states differ")
        tally.holds(runs[0][::2] == runs[1][::2], f"{task}: pictures differ")
        fresh = gymnasium.make(task)
        try:
            fresh.step(np.zeros(3, np.float32))
            tally.count("silent", "a step before the first reset")
        except gymnasium.error.ResetNeeded:
            tally.count("detected")


FAULTS = (
    Fault(47, "divergence: six provocations of every task", "reported, a failure; the next episode is whole", provoked),
    Fault(47, "MuJoCo's silent fresh start", "switched off; an error instead", silent_reset, guards=("autoreset",)),
    Fault(48, "actions that are no numbers or of another shape", "refused before anything moves", bad_actions),
    Fault(49, "no GL, wrong backend, no device", "one line: backend, cause, what to try", without_gl),
    Fault(50, "environments made and closed again and again", "descriptors and memory stay flat", cycles),
    Fault(50, "camera used in a fork of its process", "an error that says so", forked),
    Fault(50, "renderer that hangs", "one line after 30 s, exit code 2", hanging),
    Fault(50, "pictures larger than the buffer", "drawn, or refused in one line", too_large),
    Fault(51, "the same seed after other episodes; a step before a reset", "the same bits; refused", same_seed),
)
