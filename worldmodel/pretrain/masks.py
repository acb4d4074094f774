"""Multi-block masks: which tokens the context encoder sees and which the predictor must infer.

Counts are the same for every clip, so that shapes never change.
Legend: G tokens per side of the grid, C visible tokens, Q hidden tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def block_masks(
    rng: np.random.Generator, count: int, grid: int, hidden_share: float, blocks: int = 4
) -> tuple[Tensor, Tensor]:
    """Visible [count,C] and hidden [count,Q] token indices, sorted, disjoint, C + Q = G*G.

    Hidden tokens are the union of `blocks` rectangles of random aspect (Bardes et al. 2024, arXiv 2404.08471, section
    3.2), filled up or trimmed at random to exactly `hidden_share` of the grid.
    """
    total = grid * grid
    hidden_count = round(hidden_share * total)
    score = rng.random((count, grid, grid))
    side = np.sqrt(hidden_share / blocks) * grid * 1.1
    for index in range(count):
        for aspect in np.exp(rng.uniform(-0.4, 0.4, blocks)):
            height = int(np.clip(round(side * aspect), 1, grid))
            width = int(np.clip(round(side / aspect), 1, grid))
            top, left = rng.integers(0, grid - height + 1), rng.integers(0, grid - width + 1)
            score[index, top : top + height, left : left + width] += 1.0
    order = np.argsort(-score.reshape(count, total), axis=1)
    hidden = np.sort(order[:, :hidden_count], axis=1)
    visible = np.sort(order[:, hidden_count:], axis=1)
    return torch.from_numpy(visible), torch.from_numpy(hidden)
