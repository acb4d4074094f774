"""An ensemble of compact predictors as one: the same layers of all members in one batched product.

Legend: worldmodel/types.py; E members, W their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.predictor import CompactPredictor, ResidualBlock

Layer = tuple[Tensor, Tensor]
"""Weights [E,in,out] and biases [E,1,out]."""


@dataclass(frozen=True)
class Ensemble:
    """The weights of E members, stacked: rollouts equal to those of the members one by one, but for rounding.

    shared: the member whose kinematics and Fourier features stand for all; they are fitted on the same data.
    blocks: for each residual block its two layers; scale and shift of the norm before them are in the first.
    """

    shared: CompactPredictor
    enter: Layer
    blocks: tuple[tuple[Layer, Layer], ...]
    leave: Layer

    @staticmethod
    def of(members: Sequence[CompactPredictor], dtype: torch.dtype) -> Ensemble:
        """A snapshot of the members in the dtype their products are to run in; gradients reach the members' weights."""
        towers = [[block for block in member.blocks if isinstance(block, ResidualBlock)] for member in members]
        return Ensemble(
            members[0],
            _stack([member.enter for member in members], dtype),
            tuple(
                (
                    _stack([block.up for block in level], dtype, [block.norm for block in level]),
                    _stack([block.down for block in level], dtype),
                )
                for level in zip(*towers, strict=True)
            ),
            _stack([member.leave for member in members], dtype),
        )

    def rollout(self, z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [E,...,H,N,D] and poses [...,H,P] after each of the actions [...,H,A].

        From z [...,N,D], whose N tokens do not act on each other, and proprio [...,P]; both broadcast against the
        leading dimensions of the actions.
        """
        lead, horizon = actions.shape[:-2], actions.shape[-2]
        members, tokens = len(self.leave[0]), z.shape[-2]
        flat = actions.reshape(-1, horizon, actions.shape[-1])
        z = z.expand(*lead, *z.shape[-2:]).reshape(1, -1, z.shape[-1]).expand(members, -1, -1)
        poses = self._poses(proprio.expand(*lead, proprio.shape[-1]).reshape(-1, proprio.shape[-1]), flat)
        # What does not depend on the members' latents is worked out once for all of them and all steps.
        features = self.shared.fourier(poses)
        known = torch.cat([flat, features[:, :-1], features[:, 1:]], dim=-1)
        if tokens > 1:
            known = known.repeat_interleave(tokens, dim=0)
        latents = []
        for step in range(horizon):
            z = z + self._change(torch.cat([z, known[:, step].expand(members, -1, -1)], dim=-1))
            latents.append(z)
        path = torch.stack(latents, dim=2).reshape(members, *lead, tokens, horizon, z.shape[-1])
        # With strides as those of a fresh tensor, for what is multiplied by them next.
        path = path.movedim(-2, -3) if tokens > 1 else path.view(members, *lead, horizon, 1, z.shape[-1])
        return path, poses[:, 1:].reshape(*lead, horizon, poses.shape[-1])

    def _poses(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """[n,H+1,P]: proprio [n,P], then the pose after each of the actions [n,H,A]."""
        poses = [proprio]
        for action in actions.unbind(dim=1):
            poses.append(self.shared.kinematics(poses[-1], action))
        return torch.stack(poses, dim=1)

    def _change(self, inputs: Tensor) -> Tensor:
        """[E,n,in] -> what the members add to their latents, [E,n,D]."""
        x = _apply(self.enter, inputs)
        for up, down in self.blocks:
            x = x + _apply(down, F.gelu(_apply(up, F.layer_norm(x, x.shape[-1:]))))
        return _apply(self.leave, x)


def _stack(layers: Sequence[nn.Linear], dtype: torch.dtype, norms: Sequence[nn.LayerNorm] | None = None) -> Layer:
    """The layers of all members in one. (x scale + shift) M + b = x (scale M) + (shift M + b) for the norms before."""
    weights = torch.stack([layer.weight.T for layer in layers])
    biases = torch.stack([layer.bias for layer in layers]).unsqueeze(1)
    if norms is not None:
        biases = biases + torch.stack([norm.bias for norm in norms]).unsqueeze(1) @ weights
        weights = weights * torch.stack([norm.weight for norm in norms]).unsqueeze(2)
    return weights.to(dtype), biases.to(dtype)


def _apply(layer: Layer, x: Tensor) -> Tensor:
    weights, biases = layer
    return torch.baddbmm(biases, x.to(weights.dtype), weights)
