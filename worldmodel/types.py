"""The dimension legend and the contracts between the parts.

Dimension legend (the whole repository):
B episodes in parallel   K candidate sequences   T context frames   H planning horizon [decision steps]
S image side [px]        M encoder tokens, F their width   N latent tokens, D their width
A action dim             P proprioception dim
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from planners import Plan
from worldmodel.guardrails import Guardrails

Observations = Mapping[str, np.ndarray]
"""{"pixels": uint8 [B,S,S,3], "proprio": float32 [B,P] in [m]}; a batch of what an environment returns.

Where the environment has regions to keep out of, also "keep_out": float32 [B,n,2,3] in [m], their lows and highs.
"""


@dataclass(frozen=True)
class Decision:
    """What an agent thought at its last `act`; every field may be absent for agents that do not plan.

    energy: [B] energy of the present latent against the goal.
    path: [B,H,3] planned end-effector positions [m].
    held: [B] bool, the agent chose to stand still because no plan was better, or none was allowed.
    blocked: [B] bool, none was allowed.
    plan: the planner's own report. guardrails: the limits it had to keep.
    """

    energy: Tensor | None = None
    path: Tensor | None = None
    held: Tensor | None = None
    blocked: Tensor | None = None
    plan: Plan | None = None
    guardrails: Guardrails | None = None


class Encoder(Protocol):
    """Frozen, deterministic, in inference mode."""

    tokens: int
    width: int
    image_size: int

    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> float32 [B,T,M,F]."""
        ...


class Energy(Protocol):
    """Distance of latents; >= 0, zero iff equal."""

    def __call__(self, z: Tensor, z_goal: Tensor) -> Tensor:
        """[...,N,D], [...,N,D] -> [...]."""
        ...


class Agent(Protocol):
    """Planning, DreamerV3, cloning, random, oracle: all the same to the benchmark."""

    decision: Decision

    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3], the episodes' seeds."""
        ...

    def act(self, observations: Observations) -> np.ndarray:
        """One decision for B episodes: float32 [B,A] in the units of the environment, of ours [-1, 1]."""
        ...
