"""Does the latent still say anything? Spread, effective rank, and probes in centimetres.

Legend: N frames, M tokens, F width, Q target dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def content(features: Tensor) -> Tensor:
    """[N,M,F] minus the mean over frames at each position: what is left is content, not place."""
    return features - features.mean(dim=0, keepdim=True)


def spread(features: Tensor) -> float:
    """Standard deviation of the content, in the units of the features."""
    return float(content(features).square().mean().sqrt())


def effective_rank(features: Tensor) -> float:
    """exp(entropy) of the normalised spectrum of the content's covariance (Roy and Vetterli 2007), in [1, F]."""
    flat = content(features).flatten(0, 1).double()
    spectrum = torch.linalg.eigvalsh(flat.T @ flat / len(flat)).clamp_min(0.0)
    share = spectrum / spectrum.sum().clamp_min(1e-300)
    return float(torch.exp(-(share * share.clamp_min(1e-300).log()).sum()))


def ridge_probe(train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], penalty: float = 1e-3) -> Tensor:
    """Predictions [n,Q] on the held-out features of a ridge regression from features [N,...] to targets [N,Q].

    Solved in the dual (kernel) form, since there are more features than frames.
    """
    x, y = train[0].flatten(1).double(), train[1].double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x = x - mean_x
    kernel = x @ x.T
    # The least penalty keeps the kernel of a constant encoder, which is zero, from being singular.
    kernel.diagonal().add_((penalty * kernel.diagonal().mean() * len(x) ** 0.5).clamp_min(1e-9))
    dual = torch.linalg.solve(kernel, y - mean_y)
    predicted: Tensor = ((held_out[0].flatten(1).double() - mean_x) @ (x.T @ dual) + mean_y).to(train[1].dtype)
    return predicted


def probe_error(train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Mean Euclidean error of the probe and of predicting the mean, both in the units of the targets."""
    error = (ridge_probe(train, held_out) - held_out[1]).norm(dim=-1).mean()
    baseline = (train[1].mean(dim=0) - held_out[1]).norm(dim=-1).mean()
    return float(error), float(baseline)
