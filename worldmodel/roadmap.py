"""The shortest ways along what the logs went: a distance that leads through doorways. Legend: worldmodel/types.py.

A probabilistic roadmap (Kavraki et al. 1996) whose places and links are those of the robot's own logs, so that nobody
has to say where walls are. n nodes, C coordinates of a place.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from torch import Tensor, nn

from worldmodel.predictor import place_gaps

Array = NDArray[np.float32]

SPAN = 3  # decisions over which a log links the places it went through
FAR = 1e3  # [m] between places that no log connects


class Roadmap(nn.Module):
    """Lengths of the shortest ways between any two places, along links that were driven.

    reach: how far a place may be from the nodes it is linked to; where no node is within it, the nearest one is.
    """

    nodes: Tensor
    lengths: Tensor
    reach: Tensor

    def __init__(self, nodes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("nodes", torch.zeros(nodes, dim))
        self.register_buffer("lengths", torch.zeros(nodes, nodes))
        self.register_buffer("reach", torch.zeros(()))

    def fit(self, places: Array, episode: NDArray[np.int64]) -> None:
        """Take nodes, links and the shortest ways from places [n,C] in the order of their episodes [n]."""
        count = len(self.nodes)
        picked, nearest, gap = spread_out(places, count)
        nodes = places[picked].astype(np.float64)
        lengths = np.full((count, count), np.inf)
        for span in range(1, SPAN + 1):
            same = episode[span:] == episode[:-span]
            ends = nearest[:-span][same], nearest[span:][same]
            lengths[ends] = np.linalg.norm(nodes[ends[0]] - nodes[ends[1]], axis=1)
        links = np.argwhere(np.isfinite(lengths) & (lengths > 0.0)).T
        graph = coo_array((lengths[links[0], links[1]], (links[0], links[1])), shape=(count, count))
        ways = np.minimum(shortest_path(graph, directed=False), FAR)
        self.nodes.copy_(torch.from_numpy(nodes))
        self.lengths.copy_(torch.from_numpy(ways))
        self.reach.fill_(2.0 * gap)

    def forward(self, place: Tensor, goal: Tensor) -> Tensor:
        """How long the way is from places [...,C] to goals [...,C], which broadcast: [...] [m]."""
        direct: Tensor = (place - goal).norm(dim=-1)
        onwards = (self._links(goal)[..., None] + self.lengths).amin(dim=-2)
        length = (self._links(place) + onwards).amin(dim=-1)
        return torch.where(direct < self.reach, direct, length)

    def _links(self, place: Tensor) -> Tensor:
        """Distances of places [...,C] to the nodes they are linked to, infinity to the others: [...,n]."""
        gaps = place_gaps(place, self.nodes)
        far = gaps > gaps.amin(dim=-1, keepdim=True).clamp_min(self.reach)
        return gaps.masked_fill(far, torch.inf)


def spread_out(places: Array, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Rows [count] of places [n,C] that cover them evenly, for each place the nearest of these [n], and the widest gap.

    The next one is always the place that is farthest from all before (Gonzalez 1985).
    """
    picked = np.zeros(count, np.int64)
    nearest = np.zeros(len(places), np.int64)
    gaps = np.linalg.norm(places - places[0], axis=1)
    for index in range(1, count):
        picked[index] = gaps.argmax()
        distance = np.linalg.norm(places - places[picked[index]], axis=1)
        nearest[distance < gaps] = index
        gaps = np.minimum(gaps, distance)
    return picked, nearest, float(gaps.max())
