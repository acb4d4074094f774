"""Candidates and their ranking: the noise, the clamp, the one rule for costs that are not finite, the refit.

Dimension legend: B episodes, K candidates, H horizon [decision steps], A action dim, E elites.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planners.errors import require
from planners.types import ActionBox, Proposal


@dataclass(frozen=True)
class Ranked:
    """Candidates with their costs.

    actions: [B,K,H,A]. cost: [B,K], +inf where it was not finite. order: [B,K], indices from best to worst; equal costs
    keep their order. ascending: [B,K], the costs in that order.
    """

    actions: Tensor
    cost: Tensor
    order: Tensor
    ascending: Tensor


def rank_finite(actions: Tensor, cost: Tensor) -> Ranked:
    """The one rule for NaN and infinities of either sign: they cost +inf, so they rank last and are never elected."""
    cost = torch.nan_to_num(cost, nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
    ascending, order = torch.sort(cost, dim=1, stable=True)
    return Ranked(actions, cost, order, ascending)


def is_finite(cost: Tensor) -> Tensor:
    """Which costs are finite, of those that `rank_finite` has been through: the others are +inf."""
    return cost < torch.inf


def take(actions: Tensor, index: Tensor) -> Tensor:
    """[B,K,H,A], [B,E] -> [B,E,H,A]."""
    rows, count, horizon, dims = actions.shape
    flat = actions.reshape(rows, count, horizon * dims)
    if rows == 1:  # one episode: whole sequences are copied, not their entries one by one
        return flat[0].index_select(0, index[0]).view(1, -1, horizon, dims)
    return flat.gather(1, index.unsqueeze(2).expand(-1, -1, horizon * dims)).view(rows, -1, horizon, dims)


def elect(ranked: Ranked, count: int) -> tuple[Tensor, Tensor]:
    """The best `count` candidates (all, if there are fewer): actions [B,E,H,A] and their costs [B,E], best first.

    Where a row has fewer finite costs than that, the best candidate is repeated, at cost +inf: it gets no weight.
    """
    index, cost = ranked.order[:, :count], ranked.ascending[:, :count]
    index = torch.where(is_finite(cost), index, index[:, :1])
    return take(ranked.actions, index), cost


def noise_filter(planner: str, beta: float, like: Tensor) -> Tensor | None:
    """[H,H], turns white noise along H into noise of power spectrum 1/f^beta and unit variance; None for beta = 0.

    Timmer and Koenig 1995, as used by iCEM (Pinneri et al. 2020, arXiv 2008.06389): Fourier coefficients
    scaled by f^(-beta/2), frequency zero by the lowest one's factor. Scaling the coefficients of white noise is a
    circular convolution; its matrix, made once per plan, is cheaper than two transforms per iteration.
    Raises PlanningError for a beta below 0, or so large that the factors would leave the floats.
    """
    require(0 <= beta <= 10, planner, "noise_beta in [0,10]", beta, "0 is white, 2 is strongly correlated")
    horizon = like.shape[-2]
    if beta == 0.0 or horizon == 1:
        return None
    precise = torch.promote_types(like.dtype, torch.float32)
    frequency = torch.fft.rfftfreq(horizon, dtype=precise, device=like.device).clamp(min=1.0 / horizon)
    kernel = torch.fft.irfft(frequency ** (-0.5 * beta), n=horizon)
    kernel = kernel / torch.linalg.vector_norm(kernel)
    step = torch.arange(horizon, device=like.device)
    circulant: Tensor = kernel[(step[:, None] - step[None, :]) % horizon]
    return circulant.to(like.dtype)


def draw_noise(like: Tensor, num_samples: int, generator: torch.Generator, colour: Tensor | None) -> Tensor:
    """Standard normal noise [B,K,H,A] for a mean [B,H,A], correlated along H by `colour` of `noise_filter`."""
    rows, horizon, dims = like.shape
    shape = (rows, num_samples, horizon, dims) if colour is None else (rows, num_samples, dims, horizon)
    noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    return noise if colour is None else (noise @ colour).transpose(-1, -2).contiguous()


def draw(proposal: Proposal, box: ActionBox, noise: Tensor, candidates: Tensor | None) -> Tensor:
    """Candidates [B,K,H,A] inside the box: the mean, then the given `candidates` [B,C,H,A], then samples."""
    noise[:, 0] = 0.0
    actions = torch.addcmul(proposal.mean.unsqueeze(1), proposal.std.unsqueeze(1), noise)
    if candidates is not None:
        actions[:, 1 : 1 + candidates.shape[1]] = candidates
    return box.clamp(actions)


def moments(actions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and std (no correction, so one sample has std 0) [B,H,A] of [B,K,H,A]; weights [B,K] sum to 1."""
    rows, count, horizon, dims = actions.shape
    flat, weights = actions.reshape(rows, count, horizon * dims), weights.unsqueeze(1)
    mean = weights @ flat
    std = (weights @ (flat - mean).square()).sqrt()
    return mean.view(rows, horizon, dims), std.view(rows, horizon, dims)


def check_refit(planner: str, momentum: float, min_std: float) -> None:
    """Raise PlanningError for settings of `refit` that learn nothing or leave the box."""
    require(0 <= momentum < 1, planner, "momentum in [0,1)", momentum, "1 would never learn")
    require(0 <= min_std <= 1, planner, "min_std in [0,1]", min_std, "give it in half-widths of the box")


def refit(
    old: Proposal, mean: Tensor, std: Tensor, alive: Tensor, momentum: float, floor: Tensor, box: ActionBox
) -> Proposal:
    """The next distribution: momentum x old + (1 - momentum) x new, mean inside the box, std not below `floor` [A].

    alive: [B] bool; a row without a single finite cost learned nothing and keeps its distribution.
    """
    alive = alive.view(-1, 1, 1)
    # The mean of points in the box is in the box, but for rounding.
    mean = torch.where(alive, box.clamp(torch.lerp(mean, old.mean, momentum)), old.mean)
    std = torch.where(alive, torch.maximum(torch.lerp(std, old.std, momentum), floor), old.std)
    return Proposal(mean, std)
