"""Trainable maps from frozen features to planning latents.

A frozen encoder's patch tokens saturate after one move of the arm: no slope for a planner to descend. A small projector
trained together with the dynamics gives the latents that slope. Legend: worldmodel/types.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLACE_UNIT = 0.05  # [m]
DOUBT = (-8.0, 6.0)  # log of a place's variance, in squared units: from 1 mm to a metre


class FeatureNorm(nn.Module):
    """Subtracts each position's mean over the data and divides by one global scale: what is left is content."""

    mean: Tensor
    scale: Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tokens, width))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, features: Tensor) -> None:
        """Take the statistics of features [n,M,F]."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_((features - self.mean).square().mean().sqrt().clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """[...,M,F] -> [...,M,F]."""
        return (features - self.mean) / self.scale


class CompactProjector(nn.Module):
    """All tokens of a frame -> one latent: a narrow linear map per token, then an MLP, then batch norm without affine.

    The batch norm keeps every latent dimension at unit variance, so that the latents cannot shrink.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        latent_dim: int,
        token_width: int = 32,
        hidden: int = 512,
        *,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.latent_tokens, self.latent_dim = 1, latent_dim
        self.reduce = nn.Linear(width, token_width)
        self.place = nn.Parameter(torch.zeros(tokens, token_width))
        self.mlp = nn.Sequential(
            nn.Linear(tokens * token_width, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, latent_dim),
        )
        self.norm: nn.Module = nn.BatchNorm1d(latent_dim, affine=False) if normalise else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """[B,T,M,F] -> [B,T,1,D]."""
        batch, time = features.shape[:2]
        tokens = F.gelu(self.reduce(features) + self.place)
        z: Tensor = self.norm(self.mlp(tokens.flatten(2)).flatten(0, 1))
        return z.reshape(batch, time, 1, self.latent_dim)


class PlaceTracker(nn.Module):
    """Where each of N objects is, from all tokens, and how unsure that is: a hand in front of it hides it.

    How it is learned without labels: worldmodel/training/tracking.py. Places are in units of PLACE_UNIT, in a frame
    that all objects share; `locate` takes them to the robot's.
    """

    gain: Tensor
    origin: Tensor

    def __init__(
        self,
        tokens: int,
        width: int,
        place_dim: int,
        proprio_dim: int,
        token_width: int = 32,
        hidden: int = 512,
        objects: int = 1,
    ) -> None:
        super().__init__()
        self.place_dim, self.objects = place_dim, objects
        self.body = CompactProjector(tokens, width, objects * place_dim, token_width, hidden, normalise=False)
        self.doubts = CompactProjector(tokens, width, objects, token_width // 4, hidden // 8, normalise=False)
        self.register_buffer("gain", PLACE_UNIT * torch.eye(place_dim, proprio_dim))
        self.register_buffer("origin", torch.zeros(proprio_dim))

    @torch.no_grad()
    def transform(self, turn: Tensor, shift: Tensor) -> None:
        """Give each object's places another frame: N maps turn [N,Q,Q], shift [N,Q], applied from the right."""
        last = self.body.mlp[-1]
        assert isinstance(last, nn.Linear)
        turn, shift = turn.to(last.weight), shift.to(last.weight)
        weight, bias = last.weight.reshape(*turn.shape[:2], -1), last.bias.reshape(turn.shape[:2])
        last.weight.copy_((turn.mT @ weight).flatten(0, 1))
        last.bias.copy_((torch.einsum("nq,nqr->nr", bias, turn) + shift).flatten())

    def forward(self, features: Tensor) -> Tensor:
        """[B,T,M,F] -> [B,T,N,Q+1]: the places, and last the log of their variance, kept within DOUBT."""
        doubt = self.doubt(features)
        places = self.body(features).float().reshape(*doubt.shape[:-1], self.place_dim)
        return torch.cat([places, doubt], dim=-1)

    def doubt(self, features: Tensor) -> Tensor:
        """[B,T,M,F] -> [B,T,N,1]: log variance of the places, by a network of its own."""
        out: Tensor = self.doubts(features).float().clamp(*DOUBT)
        return out.mT

    def locate(self, places: Tensor) -> Tensor:
        """[...,Q] -> [...,P] [m]."""
        # Kept coordinate by coordinate in memory, as distances are taken: rows of two or three numbers are slow to do.
        found = torch.addmm(self.origin[:, None], self.gain.T, places.reshape(-1, places.shape[-1]).T)
        return found.T.reshape(*places.shape[:-1], -1)


class PoseReader(nn.Module):
    """Where the hand is in a picture, by a network of its own: a goal image has no proprioception."""

    mean: Tensor

    def __init__(self, tokens: int, width: int, proprio_dim: int, token_width: int = 32, hidden: int = 512) -> None:
        super().__init__()
        self.body = CompactProjector(tokens, width, proprio_dim, token_width, hidden, normalise=False)
        self.register_buffer("mean", torch.zeros(proprio_dim))

    def fit(self, proprio: Tensor) -> None:
        """Take the mean of proprio [n,P]."""
        self.mean.copy_(proprio.mean(dim=0))

    def units(self, proprio: Tensor) -> Tensor:
        """[...,P] [m] -> what the network says of it."""
        return (proprio - self.mean.to(proprio.device)) / PLACE_UNIT

    def forward(self, features: Tensor) -> Tensor:
        """[B,T,M,F] -> [B,T,1,P] [m]."""
        out: Tensor = self.body(features).float() * PLACE_UNIT + self.mean
        return out


class IdentityProjector(nn.Module):
    """The V-JEPA 2-AC form: the latents are the layer-normalised features themselves."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.latent_tokens, self.latent_dim = tokens, width

    def forward(self, features: Tensor) -> Tensor:
        """[B,T,M,F] -> [B,T,N,D] with N = M, D = F."""
        return F.layer_norm(features, features.shape[-1:])
