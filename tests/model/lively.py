"""Small transformers whose every input matters: at their initialisation the weights are so small that little does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worldmodel.transformer import Layout, TransformerPredictor

N, D, A, P = 4, 24, 3, 2


def lively(layout: Layout, seed: int = 0, **settings: Any) -> TransformerPredictor:
    sizes = {
        "latent_tokens": N,
        "latent_dim": D,
        "action_dim": A,
        "proprio_dim": P,
        "width": 32,
        "depth": 3,
        "heads": 2,
    }
    predictor = TransformerPredictor(**{**sizes, "layout": layout, **settings})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in predictor.named_parameters():
            if "norm" not in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.6 / weight.shape[-1] ** 0.5)
    return predictor.eval()


def inputs(batch: int, frames: int, tokens: int = N, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """z [B,T,N,D], actions [B,T,A], proprio [B,T,P]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, frames, tokens, D), (batch, frames, A), (batch, frames, P))
    z, actions, proprio = (torch.randn(shape, generator=generator) for shape in shapes)
    return z, actions, proprio
