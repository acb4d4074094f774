"""How many decisions the logs need to get a thing from one place to another: a distance that minds walls and hands.

Legend: worldmodel/types.py; C coordinates of a place. How it is learned: worldmodel/training/time_to_go.py.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.predictor import Fourier, ResidualBlock

Things = Literal["robot", "objects"]
"""What is timed: the robot's own way, or that of the objects it moves."""

USUAL = 10.0  # [decisions] the network's unit


class TimeToGo(nn.Module):
    """The time from where robot and thing are to where the thing shall be, as a length: decisions times `pace`.

    A quasimetric in the sense of Wang et al. (2023, arXiv 2304.01203) is not enforced; only that no time is negative.
    pace: how far a thing that moves gets in a decision [m].
    """

    pace: Tensor

    def __init__(self, proprio_dim: int, place_dim: int, hidden: int = 128, blocks: int = 2) -> None:
        super().__init__()
        self.pose, self.place = Fourier(proprio_dim), Fourier(place_dim)
        # One product for each of the inputs, so that those which candidates share are not worked out for every one.
        self.robot = nn.Linear(self.pose.width, hidden)
        self.here, self.there = nn.Linear(self.place.width, hidden), nn.Linear(self.place.width, hidden)
        self.way = nn.Linear(place_dim + 1, hidden)
        self.trunk = nn.Sequential(*(ResidualBlock(hidden) for _ in range(blocks)), nn.Linear(hidden, 1))
        self.register_buffer("pace", torch.ones(()))

    def fit(self, proprio: Tensor, places: Tensor, pace: float) -> None:
        """Take the ranges of proprio [n,P] and places [n,C], and how far a decision moves a thing [m]."""
        self.pose.fit(proprio)
        self.place.fit(places)
        self.pace.fill_(pace)

    def decisions(self, proprio: Tensor, place: Tensor, goal: Tensor) -> Tensor:
        """From poses [...,P] and places [...,C] to goals [...,C], which broadcast: [...]."""
        gap = (place - goal) / (USUAL * self.pace)
        way = torch.cat([gap, gap.norm(dim=-1, keepdim=True)], dim=-1)
        seen = self.robot(self.pose(proprio)) + self.here(self.place(place)) + self.there(self.place(goal))
        out: Tensor = USUAL * F.softplus(self.trunk(seen + self.way(way))[..., 0])
        return out

    def forward(self, proprio: Tensor, place: Tensor, goal: Tensor) -> Tensor:
        """The same as a length: [...] [m]."""
        return self.pace * self.decisions(proprio, place, goal)
