"""The units of a model: actions by their range in the logs, proprioception by its statistics; both travel with it.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ActionUnits:
    """For configs that know the range of the logged actions.

    action_range: lows [A] and highs [A] of the logged actions, which the model knows as -1 and 1; None: they are that.
    """

    action_range: Sequence[Sequence[float]] | None

    def normalise(self, actions: Tensor) -> Tensor:
        """Actions [...,A] in the units of the data -> in the model's, where the data lie in [-1, 1]."""
        if self.action_range is None:
            return actions
        low, high = actions.new_tensor(self.action_range).unbind()
        half = (high - low) / 2.0
        return (actions - (low + high) / 2.0) / torch.where(half > 0.0, half, 1.0)

    def denormalise(self, actions: Tensor) -> Tensor:
        """The inverse, kept within the range of the data; a number that never changed there does not change here."""
        if self.action_range is None:
            return actions
        low, high = actions.new_tensor(self.action_range).unbind()
        return ((low + high) / 2.0 + actions * (high - low) / 2.0).clamp(low, high)


class ProprioNorm(nn.Module):
    """Proprioception at zero mean and unit standard deviation over the logs; before `fit`, as it is."""

    mean: Tensor
    std: Tensor

    def __init__(self, proprio_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(proprio_dim))
        self.register_buffer("std", torch.ones(proprio_dim))

    def fit(self, proprio: Tensor) -> None:
        """Take the statistics of proprio [n,P]; what never changes keeps its unit."""
        std = proprio.std(dim=0)
        self.mean.copy_(proprio.mean(dim=0))
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def forward(self, proprio: Tensor) -> Tensor:
        """[...,P] in the units of the data -> [...,P]."""
        return (proprio - self.mean) / self.std

    def inverse(self, state: Tensor) -> Tensor:
        """[...,P] -> [...,P] in the units of the data."""
        return state * self.std + self.mean
