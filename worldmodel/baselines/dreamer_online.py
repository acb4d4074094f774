"""DreamerV3 in an environment: play, keep, train at a fixed ratio, over the adapter and with sheeprl's replay.

What `sheeprl.algos.dreamer_v3_5` does in its own `main`, without its logger, environments and pickled checkpoints.
Legend: worldmodel/types.py. n environments in lockstep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.baselines.dreamer import Dreamer, require_sheeprl
from worldmodel.baselines.dreamer_fit import require_finite

Array = NDArray[Any]
Seen = Mapping[str, Array]
Report = Callable[[int, float], None]


class World(Protocol):
    """One environment, as the agent sees it."""

    def reset(self, seed: int) -> Seen:
        """Begin an episode: its first observations by name."""
        ...

    def step(self, action: Array) -> tuple[Seen, float, bool, bool]:
        """Observations, reward, terminated, truncated, as in gymnasium."""
        ...


@dataclass(frozen=True)
class OnlineSettings:
    """steps: decisions of all environments together. train_ratio: training steps per decision.

    learning_starts: decisions before the first of them. length: of a sequence. seeds: of episodes, [low, high).
    """

    steps: int
    train_ratio: float
    learning_starts: int
    batch_size: int
    length: int
    learning_rate: float
    seed: int
    seeds: tuple[int, int] = (0, 100_000)


class Replay:
    """sheeprl's buffer of everything that was seen, with the latent of each step, which training refreshes."""

    def __init__(self, dreamer: Dreamer, environments: int, settings: OnlineSettings) -> None:
        from sheeprl.data.buffers import EnvIndependentReplayBuffer, SequentialReplayBuffer

        self._dreamer, self._settings = dreamer, settings
        # Every episode adds one row more than decisions, for where it ended.
        self._size = 2 * settings.steps // environments + settings.length + 2
        made = {"n_envs": environments, "buffer_cls": SequentialReplayBuffer, "seed": settings.seed}
        self._buffer = EnvIndependentReplayBuffer(self._size, **made)
        self._counters = np.zeros(environments, np.int64)

    def add(self, row: Mapping[str, Array], who: Array) -> None:
        """Rows [n,...] of the environments `who`, with the latents that the agent has of them now."""
        classes = int(self._dreamer.settings.algo.world_model.discrete_size)
        deter, stoch = (part[torch.from_numpy(who)].cpu() for part in self._dreamer.state())
        kinds = stoch.reshape(len(stoch), -1, classes).argmax(-1).to(torch.uint8)
        latents = {"deter": deter.half().numpy(), "stoch": kinds.numpy()}
        number = {"stepid": np.stack([who, self._counters[who]], axis=-1)}
        self._buffer.add({name: value[None] for name, value in {**row, **latents, **number}.items()}, who.tolist())
        self._counters[who] += 1

    def ready(self) -> bool:
        """Whether every environment has played one sequence."""
        return int(self._counters.min()) > self._settings.length

    def train(self, optimizer: torch.optim.Optimizer, told: dict[str, float] | None) -> None:
        """One step on sequences, the newest first."""
        from sheeprl.algos.dreamer_v3_5.dreamer_v3_5 import sample_sequences, write_latent_states

        settings = self._settings
        drawn = (settings.batch_size, settings.length + 1, 1, self._dreamer.device)
        sample, numbers = sample_sequences(self._buffer, *drawn, online=True)
        latents = self._dreamer.update({name: value[0] for name, value in sample.items()}, optimizer, told)
        write_latent_states(self._buffer, [(numbers[0, 1:], *latents)], self._size)


def learn_online(
    dreamer: Dreamer,
    worlds: Sequence[World],
    settings: OnlineSettings,
    report: Report,
    milestone: Callable[[int], None] | None = None,
) -> None:
    """Train in place; report(decision, return) at the end of each episode, milestone(decision) after each round.

    The dreamer has a replay context of 1, as published. All draws are torch's and numpy's from settings.seed; torch's
    global generator is left elsewhere. Raises TrainingError for a non-finite loss.
    """
    torch.manual_seed(settings.seed)
    rng, count = np.random.default_rng(settings.seed), len(worlds)
    replay, optimizer = Replay(dreamer, count, settings), dreamer.optimizer(settings.learning_rate)
    everyone = np.arange(count)
    dreamer.begin(count)
    seen = [world.reset(int(rng.integers(*settings.seeds))) for world in worlds]
    flags, returns, owed, trained = _flags(count), np.zeros(count), 0.0, 0
    flags["is_first"][:] = 1.0
    for step in range(count, settings.steps + 1, count):
        observed = {name: np.stack([each[name] for each in seen]) for name in seen[0]}
        tensors = {name: torch.from_numpy(value) for name, value in observed.items()}
        actions = dreamer.act(tensors, greedy=False).cpu().numpy()
        replay.add({**observed, **flags, "actions": actions}, everyone)
        flags = _flags(count)
        for index, world in enumerate(worlds):
            seen[index], reward, terminated, truncated = world.step(actions[index])
            returns[index] += reward
            ends = {"rewards": reward, "terminated": terminated, "truncated": truncated}
            for name, value in ends.items():
                flags[name][index] = value
            if terminated or truncated:
                report(step, float(returns[index]))
                _close(dreamer, replay, seen[index], flags, index)
                seen[index], returns[index] = world.reset(int(rng.integers(*settings.seeds))), 0.0
        if step >= settings.learning_starts and replay.ready():
            owed += count * settings.train_ratio
        while owed >= 1.0:
            losses: dict[str, float] | None = {} if trained % 100 == 0 else None
            replay.train(optimizer, losses)
            require_finite(losses or {}, trained)
            owed, trained = owed - 1.0, trained + 1
        if milestone is not None:
            milestone(step)


def _flags(count: int) -> dict[str, Array]:
    """Of rows on which nothing happened."""
    return {name: np.zeros((count, 1), np.float32) for name in ("rewards", "terminated", "truncated", "is_first")}


def _close(dreamer: Dreamer, replay: Replay, last: Seen, flags: dict[str, Array], index: int) -> None:
    """Keep where an episode ended, a row without an action or a latent, and begin the next one."""
    dreamer.forget([index])
    row = {name: value[None] for name, value in last.items()}
    ended = {name: value[[index]].copy() for name, value in flags.items()}
    replay.add({**row, **ended, "actions": np.zeros((1, dreamer.action_dim), np.float32)}, np.array([index]))
    for value in flags.values():
        value[index] = 0.0
    flags["is_first"][index] = 1.0


class ControlSuite:
    """A task of the DeepMind Control Suite from its state alone, as sheeprl wraps it: {"state": float32 [P]}."""

    def __init__(self, domain: str, task: str) -> None:
        require_sheeprl()
        from sheeprl.envs.dmc import DMCWrapper

        self._env = DMCWrapper(domain, task, from_pixels=False, from_vectors=True)
        self.width = int(self._env.observation_space["state"].shape[0])
        self.action_dim = int(self._env.action_space.shape[0])

    def reset(self, seed: int) -> Seen:
        """See World."""
        return self._seen(self._env.reset(seed=seed)[0])

    def step(self, action: Array) -> tuple[Seen, float, bool, bool]:
        """See World."""
        found, reward, terminated, truncated, _ = self._env.step(action)
        return self._seen(found), float(reward), bool(terminated), bool(truncated)

    @staticmethod
    def _seen(found: Mapping[str, Array]) -> Seen:
        return {"state": found["state"].astype(np.float32)}
