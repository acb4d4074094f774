"""Behaviour cloning and inverse dynamics: one look, one action, no search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worldmodel.baselines.policy import GoalPolicy
from worldmodel.errors import WorldModelError
from worldmodel.types import Decision, Observations


class PolicyAgent:
    """Does what the policy says, clipped to the box, in the units of its logs."""

    def __init__(self, policy: GoalPolicy) -> None:
        self._policy = policy
        self._goals: Tensor | None = None
        self._waiting: list[np.ndarray] = []  # what is left of the last look
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]."""
        self._goals, self._waiting = self._policy.encode(torch.from_numpy(goals)), []

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A / k] within the range of the logs. k is the policy's frame skip: it looks at every k-th call."""
        if self._goals is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        if not self._waiting:
            z, config = self._policy.encode(torch.from_numpy(observations["pixels"])), self._policy.config
            action = self._policy.act(z, self._goals, torch.from_numpy(observations["proprio"]).float())
            self._waiting = np.split(config.denormalise(action.clamp(-1.0, 1.0)).numpy(), config.frame_skip, axis=1)
        return self._waiting.pop(0)
