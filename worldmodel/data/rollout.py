"""One exploratory episode, and the process that draws a list of them.

An episode is a function of the settings and its own number: which process draws it, and when, leaves no trace.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from worldmodel.data.layout import Layout, Record
from worldmodel.data.schema import one_line
from worldmodel.data.writer import Rollout, write_episode
from worldmodel.errors import DataError, WorldModelError
from worldmodel.storage import write_json

CAMERA = "front"
TRAINING_SEEDS = 100_000
MAX_REDRAWS = 20
WORK_FOLDER = "meta/collect"


@dataclass(frozen=True)
class Job:
    """What a collecting process must know. `out` is the data set's folder."""

    env_id: str
    env_kwargs: dict[str, Any]
    steps: int
    seed: int
    video: bool
    out: str


@dataclass(frozen=True)
class Scene:
    """What the environment says about itself: found out by the workers, needed to describe the data set.

    tasks: what its episodes may be about.
    """

    layout: Layout
    tasks: tuple[str, ...]
    environment: dict[str, Any]


def record_path(root: Path, episode: int) -> Path:
    """Where a finished episode's record lies until the data set is complete."""
    return root / WORK_FOLDER / f"episode-{episode:06d}.json"


def scene_path(root: Path) -> Path:
    """Where the scene's description lies until the data set is complete."""
    return root / WORK_FOLDER / "scene.json"


def read_record(path: Path) -> Record:
    """A record as `work` wrote it; OSError, ValueError, KeyError or TypeError when it is none."""
    return Record(**json.loads(path.read_text(encoding="utf-8")))


def read_scene(root: Path) -> Scene:
    """The description as `work` wrote it; OSError, ValueError, KeyError or TypeError when it is none."""
    raw = json.loads(scene_path(root).read_text(encoding="utf-8"))
    layout = raw["layout"]
    layout["cameras"] = {name: (size[0], size[1]) for name, size in layout["cameras"].items()}
    return Scene(Layout(**layout), tuple(raw["tasks"]), raw["environment"])


def work(job: Job, episodes: Sequence[int], pipe: Connection) -> None:
    """Body of a collecting process: sends ("done", episode) for each, or ("error", message) and ends.

    Ctrl-C is the parent's to handle; when the parent is gone this process ends at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    root = Path(job.out)
    try:
        # -1: episodes last as long as asked, not as long as the task's budget.
        env = gymnasium.make(job.env_id, max_episode_steps=-1, disable_env_checker=True, **job.env_kwargs)
        scene = describe(env, job)
        _agree(root, scene)
        for episode in episodes:
            rollout, redraws = draw_episode(env, job, episode)
            task = rollout.task or scene.tasks[0]
            start, index = episode * job.steps, scene.tasks.index(task)
            record = write_episode(
                root, scene.layout, rollout, episode=episode, start=start, task=task, task_index=index
            )
            write_json(record_path(root, episode), asdict(record) | {"extra": {"redraws": redraws}})
            pipe.send(("done", episode))
        env.close()
    except WorldModelError as error:
        pipe.send(("error", str(error)))
    except Exception as error:  # whatever a simulator or a disk throws becomes one line in the parent
        pipe.send(("error", f"{type(error).__name__}: {one_line(error)}"))


def _end_with_parent(pipe: Connection) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)


def describe(env: gymnasium.Env[Any, Any], job: Job) -> Scene:
    """Read off sizes, rate and task. Raises DataError for an environment that does not keep the contract."""
    _, info = env.reset(seed=job.seed, options={"explore": True})
    spaces, fps = env.observation_space, env.metadata["render_fps"]
    if not isinstance(spaces, gymnasium.spaces.Dict) or {"pixels", "proprio"} - set(spaces):
        raise DataError(f"expected observations with pixels and proprio from {job.env_id}, got {spaces}")
    pixels, proprio, action = spaces["pixels"].shape, spaces["proprio"].shape, env.action_space.shape
    if pixels is None or proprio is None or action is None or int(fps) != fps:
        raise DataError(f"expected arrays at a whole rate [Hz] from {job.env_id}, got {spaces} at {fps}")
    privileged = info.get("privileged")
    layout = Layout(
        fps=int(fps),
        state_dim=proprio[0],
        action_dim=action[0],
        cameras={CAMERA: (pixels[0], pixels[1])},
        video=job.video,
        privileged_dim=None if privileged is None else len(privileged),
        robot_type=env.metadata.get("robot_type"),
    )
    world = env.unwrapped
    named = "log_tasks" if world.has_wrapper_attr("log_tasks") else "task_name"
    found = world.get_wrapper_attr(named)
    tasks = (found,) if isinstance(found, str) else tuple(found)
    return Scene(layout, tasks, _json_form(env.metadata))


def _json_form(value: Any) -> dict[str, Any]:
    form: dict[str, Any] = json.loads(json.dumps(value, default=str))
    return form


def _agree(root: Path, scene: Scene) -> None:
    """Write the scene's description; all processes find the same, or the data set would be two in one."""
    path, found = scene_path(root), _json_form(asdict(scene))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_json(path, found)
    if json.loads(path.read_text(encoding="utf-8")) != found:
        raise DataError(f"expected the scene that {path} describes, got another one: choose another out=")


def draw_episode(env: gymnasium.Env[Any, Any], job: Job, episode: int) -> tuple[Rollout, int]:
    """The episode and how often it was drawn again because the simulation diverged.

    Raises DataError when it diverges every time.
    """
    for redraw in range(MAX_REDRAWS + 1):
        key = [job.seed, episode] if redraw == 0 else [job.seed, episode, redraw]
        # A second start, too, comes from the range of seeds that is for training.
        again = int(np.random.SeedSequence(key).generate_state(1)[0]) % TRAINING_SEEDS
        start = job.seed + episode if redraw == 0 else again
        rollout = _attempt(env, job, start, np.random.default_rng(key))
        if rollout is not None:
            return rollout, redraw
    raise DataError(f"expected a stable simulation, got {MAX_REDRAWS + 1} divergences in episode {episode}")


def _attempt(env: gymnasium.Env[Any, Any], job: Job, seed: int, rng: np.random.Generator) -> Rollout | None:
    """`steps` frames with the actions that leave them, or None when the simulation diverges."""
    observation, info = env.reset(seed=seed, options={"explore": True})
    policy = env.get_wrapper_attr("exploration_policy")(rng)
    frames, proprio, actions, privileged = [], [], [], []
    for step in range(job.steps):
        if info["diverged"]:
            return None
        frames.append(observation["pixels"])
        proprio.append(observation["proprio"])
        if "privileged" in info:
            privileged.append(info["privileged"])
        actions.append(np.asarray(policy(), dtype=np.float32))
        if step + 1 < job.steps:
            observation, _, terminated, truncated, info = env.step(actions[-1])
            if (terminated or truncated) and not info["diverged"]:
                raise DataError(f"expected {job.steps} steps from {job.env_id}, got an end after {step + 1}")
    truth: NDArray[np.float32] | None = np.stack(privileged) if privileged else None
    return Rollout({CAMERA: np.stack(frames)}, np.stack(proprio), np.stack(actions), truth, info.get("task"))
