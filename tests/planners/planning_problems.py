"""Problems with known answers, and the planners as the tests call them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from planners import ActionBox, CostFn, Proposal, cem, gradient, icem, mppi, random_shooting

PLANNERS = {"cem": cem, "icem": icem, "mppi": mppi, "gradient": gradient, "random_shooting": random_shooting}
SAMPLING = {name: planner for name, planner in PLANNERS.items() if name != "gradient"}
SEARCHING = {name: planner for name, planner in PLANNERS.items() if name != "random_shooting"}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(rows: int = 1, horizon: int = 5, dims: int = 4, std: float = 0.5) -> tuple[Proposal, ActionBox]:
    """A broad proposal in the box [-1,1]."""
    mean = torch.zeros(rows, horizon, dims)
    return Proposal(mean, torch.full_like(mean, std)), ActionBox(-torch.ones(dims), torch.ones(dims))


def targets(rows: int, seed: int, horizon: int = 5, dims: int = 4) -> Tensor:
    """[B,H,A], optima well inside the box [-1,1]."""
    return torch.rand(rows, horizon, dims, generator=seeded(seed)) * 1.6 - 0.8


def quadratic(target: Tensor) -> CostFn:
    """One minimum, of cost 0, at target [B,H,A]."""
    return lambda actions: (actions - target.unsqueeze(1)).square().sum((-1, -2))


def multimodal(target: Tensor) -> CostFn:
    """Rastrigin's function: the minimum of cost 0 at target, and another every half unit along each dimension."""

    def cost(actions: Tensor) -> Tensor:
        away = actions - target.unsqueeze(1)
        return (4.0 * away.square() + 1.0 - torch.cos(4.0 * math.pi * away)).sum((-1, -2))

    return cost


class Watched:
    """A cost function that keeps what it was asked and what it answered."""

    def __init__(self, cost: Callable[[Tensor], Tensor]) -> None:
        self._cost = cost
        self.asked: list[Tensor] = []
        self.answered: list[Tensor] = []

    def __call__(self, actions: Tensor) -> Tensor:
        values = self._cost(actions)
        self.asked.append(actions.detach().clone())
        self.answered.append(values.detach().clone())
        return values
