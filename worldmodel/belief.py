"""Object permanence: a place is believed, not just seen. Legend: worldmodel/types.py; Q place dim."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.projector import DOUBT

DRIFT = 0.06**2  # variance a resting object's place gains in a decision [place units squared]: 3 mm


class Belief:
    """A Kalman filter over the object's place (Kalman 1960), with the model's rollout as its prediction.

    A hand in front of the object hides it; the tracker then says something, and that it is unsure. Without a memory the
    planner would learn that hiding the object moves it. memory: False takes every picture at its word.
    """

    def __init__(self, memory: bool = True) -> None:
        self._memory = memory
        self._mean: Tensor | None = None
        self._variance: Tensor | None = None

    def update(self, seen: Tensor, doubt: Tensor) -> Tensor:
        """The believed place [B,N,Q] after seeing `seen` [B,N,Q] with log variance doubt [B,N,1]."""
        noise = doubt.exp()
        if self._mean is None or self._variance is None or not self._memory:
            self._mean, self._variance = seen, noise
            return seen
        surprise = (seen - self._mean).square().mean(dim=-1, keepdim=True)
        # A clear view far from the prediction means that the prediction was wrong, by about as much.
        variance = torch.maximum(self._variance, surprise - noise)
        gain = variance / (variance + noise)
        self._mean = self._mean + gain * (seen - self._mean)
        self._variance = (1.0 - gain) * variance
        return self._mean

    def predict(self, members: Tensor) -> None:
        """Move on to what the members [E,B,N,Q] of the ensemble expect after the action; they disagree as they err."""
        assert self._variance is not None
        spread = members.var(dim=0, correction=0).mean(dim=-1, keepdim=True)
        self._mean = members.mean(dim=0)
        self._variance = (self._variance + spread + DRIFT).clamp_max(float(torch.tensor(DOUBT[1]).exp()))
