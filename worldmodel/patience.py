"""When to leave the search for a while: it has stopped getting nearer to the goal. Legend: worldmodel/types.py."""

from __future__ import annotations

import torch
from torch import Tensor

PROGRESS = 0.01  # of the energy, below which nothing has been gained


class Patience:
    """Counts, for B episodes, the decisions that gained nothing; after `decisions` of them a detour of `detour` begins.

    decisions: None never begins one. A search that looks a few decisions ahead stands still, or hovers, where every way
    to the goal first leads away from it: a hand around a cup that is to be grasped.
    """

    def __init__(self, decisions: int | None, detour: int) -> None:
        self._decisions, self._detour = decisions, float(detour)
        self._best = self._idle = self._left = torch.zeros(0)  # [B]: energy, and decisions without gain, of the detour

    def reset(self, batch: int, device: torch.device) -> None:
        """Begin B episodes."""
        self._best = torch.full((batch,), torch.inf, device=device)
        self._idle = self._left = torch.zeros_like(self._best)

    @property
    def limited(self) -> bool:
        """Whether it ever ends."""
        return self._decisions is not None

    @property
    def over(self) -> Tensor:
        """bool [B]: on a detour now."""
        return self._left > 0.0

    def count(self, energy: Tensor, content: Tensor) -> None:
        """One decision, begun at this energy [B], has been made; content: bool [B], nothing more is to be gained."""
        if self._decisions is None:
            return
        gained = (energy < self._best - PROGRESS) | content | self.over
        self._best = torch.where(gained, energy, self._best)
        idle = torch.where(gained, 0.0, self._idle + 1.0)
        stuck = idle >= self._decisions
        self._left = torch.where(stuck, self._detour, (self._left - 1.0).clamp(min=0.0))
        self._idle = torch.where(stuck, 0.0, idle)
