"""DreamerV3's actor: the latent state of what it has seen and done so far in, the mean of its policy out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worldmodel.baselines.dreamer_policy import DreamerBaseline
from worldmodel.errors import WorldModelError
from worldmodel.search import stream
from worldmodel.types import Decision, Observations


class DreamerAgent:
    """Plays sheeprl's agent. Its latent states are samples: the same seeds in the same batch give the same ones."""

    def __init__(self, model: DreamerBaseline, seed: int = 0) -> None:
        self._model, self._seed = model, seed
        self._goals: Tensor | None = None
        self._generator = torch.Generator()
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]."""
        self._goals = self._model.see(torch.from_numpy(goals))
        self._model.dreamer.begin(len(goals))
        self._generator.manual_seed(stream(self._seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A] within the range of the logs."""
        if self._goals is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        now = self._model.see(torch.from_numpy(observations["pixels"]))
        proprio = torch.from_numpy(observations["proprio"]).float()
        observed = self._model.observation(now, self._goals, proprio)
        with torch.random.fork_rng(devices=[]):  # sheeprl draws from the global generator
            torch.manual_seed(draw_seed(self._generator))
            actions = self._model.dreamer.act(observed, greedy=True).cpu()
        return self._model.config.denormalise(actions).numpy()


def draw_seed(generator: torch.Generator) -> int:
    """The next of a stream of seeds."""
    return int(torch.randint(2**62, (), generator=generator))
