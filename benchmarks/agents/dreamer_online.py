"""Two suites of DreamerV3 learning in an environment: whether our adapter reaches the published scores of dm_control,
and what it reaches on a task with the task's own reward, which no other agent is given ("privileged").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import machine, versions
from worldmodel.baselines.bundle import save_baseline
from worldmodel.baselines.dreamer import Dreamer
from worldmodel.baselines.dreamer_online import ControlSuite, OnlineSettings, Seen, World, learn_online
from worldmodel.baselines.dreamer_policy import DreamerBaseline, new_dreamer
from worldmodel.encoders import load_encoder
from worldmodel.storage import new_folder, write_json
from worldmodel.training.device import choose_device

Array = NDArray[Any]
# dreamerv3/scores, dmc_proprio reacher_easy, up to so many steps: mean and deviation of 5 seeds, and over how many of
# the last steps they were taken.
PUBLISHED = {100_000: (740, 196, 30_000), 250_000: (877, 87, 50_000), 490_000: (951, 13, 50_000)}
LATEST = 2_000  # decisions before a milestone whose returns stand for it; a longer window would reach far back


def dreamerv3_reacher(
    *,
    out: str | Path,
    steps: int,
    environments: int,
    size: str,
    train_ratio: float,
    learning_starts: int,
    batch_size: int,
    length: int,
    learning_rate: float,
    seed: int,
    model: object = None,
    threads: int | None = None,
    device: str = "auto",
    config: str | None = None,
) -> dict[str, Any]:
    """Learn dm_control reacher_easy from its state; write table.md and curve.json to the new folder `out`.

    For the rest see OnlineSettings. model: not used. Raises ConfigError, OutputError and TrainingError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    worlds = [ControlSuite("reacher", "easy") for _ in range(environments)]
    settings = OnlineSettings(steps, train_ratio, learning_starts, batch_size, length, learning_rate, seed)
    where = choose_device(device)
    torch.manual_seed(seed)
    seen = {"state": worlds[0].width}
    dreamer = Dreamer({}, seen, worlds[0].action_dim, size=size, device=where, replay_context=1)
    folder, curve = _begin(out, config), list[tuple[int, float]]()
    learn_online(dreamer, worlds, settings, partial(_note, folder, curve))
    rows = [
        f"| {point} | {window} | {mean} +- {deviation} | {score(curve, point, window, steps)} |"
        for point, (mean, deviation, window) in PUBLISHED.items()
    ]
    head = [
        "# dm_control reacher_easy from its state, one seed",
        "",
        "| steps | mean over the last | published, 5 seeds | here |",
        "|---|---|---|---|",
    ]
    last = f"{steps} steps in all, mean return of the last 10 episodes: {_mean([value for _, value in curve[-10:]])}"
    return _finish(folder, [*head, *rows, "", last], {"steps": steps, "curve": curve, "device": str(where)})


def dreamerv3_online(
    *,
    out: str | Path,
    env: str,
    milestones: Sequence[int],
    sees: str,
    encoder: str,
    environments: int,
    size: str,
    train_ratio: float,
    learning_starts: int,
    batch_size: int,
    length: int,
    learning_rate: float,
    seed: int,
    model: object = None,
    threads: int | None = None,
    device: str = "auto",
    config: str | None = None,
) -> dict[str, Any]:
    """Learn a task from its reward, minus the distance to the goal; write out/model-N after each of the milestones.

    These are for `drive agent=dreamerv3 baseline=OUT/model-N`. env: a gymnasium id of `envs`. milestones: decisions of
    all environments together. For the rest see OnlineSettings and DreamerConfig. model: not used.
    """
    import envs  # registers the tasks  # noqa: F401

    if threads is not None:
        torch.set_num_threads(threads)
    made = [gymnasium.make(env, disable_env_checker=True) for _ in range(environments)]
    steps, where = max(milestones), choose_device(device)
    settings = OnlineSettings(steps, train_ratio, learning_starts, batch_size, length, learning_rate, seed)
    spaces: Any = made[0].action_space, made[0].observation_space
    dims = (int(spaces[0].shape[0]), int(spaces[1]["proprio"].shape[0]))
    torch.manual_seed(seed)
    sizes = {"reward": "task", "sees": sees, "size": size, "length": length}
    baseline = new_dreamer(load_encoder(encoder), dims, sizes, where, replay_context=1)
    _fit_statistics(baseline, made[0])
    folder, curve = _begin(out, config), list[tuple[int, float]]()
    left = sorted(milestones)

    def milestone(step: int) -> None:
        while left and step >= left[0]:
            _save(baseline, folder / f"model-{left[0]}", env, left.pop(0))

    worlds = [GoalWorld(each, baseline) for each in made]
    try:
        learn_online(baseline.dreamer, worlds, settings, partial(_note, folder, curve), milestone)
    finally:
        for each in made:
            each.close()
    points = [f"| {point} | {score(curve, point, LATEST, steps)} |" for point in sorted(milestones)]
    over = f"| decisions | mean return over the last {LATEST} |"
    head = [f"# {env}, privileged: the task's reward", "", over, "|---|---|"]
    return _finish(folder, [*head, *points], {"env": env, "curve": curve, "device": str(where)})


class GoalWorld(World):
    """An environment of `envs`, seen as the baseline sees it; the picture of the goal is seen once."""

    def __init__(self, env: gymnasium.Env[Any, Any], baseline: DreamerBaseline) -> None:
        self._env, self._baseline = env, baseline
        self._goal = torch.zeros(0)

    def reset(self, seed: int) -> Seen:
        """See World."""
        found, info = self._env.reset(seed=seed)
        self._goal = self._baseline.see(torch.from_numpy(info["goal"][None]))
        return self._seen(found)

    def step(self, action: Array) -> tuple[Seen, float, bool, bool]:
        """See World."""
        found, reward, terminated, truncated, _ = self._env.step(action)
        return self._seen(found), float(reward), terminated, truncated

    def _seen(self, found: Mapping[str, Array]) -> Seen:
        now = self._baseline.see(torch.from_numpy(found["pixels"][None]))
        proprio = torch.from_numpy(found["proprio"][None]).float()
        return {name: value[0].numpy() for name, value in self._baseline.observation(now, self._goal, proprio).items()}


def _fit_statistics(baseline: DreamerBaseline, env: gymnasium.Env[Any, Any], count: int = 64) -> None:
    """Means and scales from the starts of `count` training episodes."""
    starts = [env.reset(seed=seed)[0] for seed in range(count)]
    baseline.posture.fit(torch.from_numpy(np.stack([start["proprio"] for start in starts])).float()[:, None])
    if baseline.encoder is not None:
        frames = torch.from_numpy(np.stack([start["pixels"] for start in starts]))
        baseline.norm.fit(baseline.encoder(frames[:, None])[:, 0])


def _save(baseline: DreamerBaseline, folder: Path, env: str, decisions: int) -> None:
    about = {
        "parameters": sum(weight.numel() for part in baseline.trainable().values() for weight in part.parameters()),
        "decisions": decisions,
        "privileged": "the task's reward",
        "configurations_tried": 1,
    }
    card = f"# dreamerv3, online\n\nLearned {env} in {decisions} decisions from the task's own reward (privileged).\n"
    save_baseline(baseline, "dreamerv3", about, folder, card)


def _begin(out: str | Path, config: str | None) -> Path:
    folder = new_folder(Path(out))
    if config is not None:
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    return folder


def _note(folder: Path, curve: list[tuple[int, float]], step: int, value: float) -> None:
    curve.append((step, value))
    with (folder / "curve.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": step, "return": value}) + "\n")


def score(curve: Sequence[tuple[int, float]], point: int, window: int, steps: int) -> str:
    """The mean return of the episodes of a curve (step, return) that ended in the last `window` steps before `point`.

    steps: of the whole run. The last episodes end before it does: environments in lockstep end all at once.
    """
    if steps < point:
        return "not run"
    return _mean([value for step, value in curve if point - window < step <= point])


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ({len(values)} episodes)" if values else "none ended"


def _finish(folder: Path, lines: Sequence[str], measured: dict[str, Any]) -> dict[str, Any]:
    found = {**measured, "machine": machine(), "versions": versions()}
    write_json(folder / "curve.json", found)
    text = "\n".join([*lines, ""])
    (folder / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return found
