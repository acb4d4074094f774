"""A world model: frozen encoder, projector, dynamics and read-outs under one roof. Legend: worldmodel/types.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import BundleError
from worldmodel.heads import InverseDynamics, ProprioHead
from worldmodel.predictor import CompactPredictor
from worldmodel.projector import CompactProjector, FeatureNorm
from worldmodel.rollout import rollout

if TYPE_CHECKING:
    from worldmodel.agent import PlanningAgent


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shapes, and how the model is best planned with.

    planning: default settings of the agent (horizon, initial_std, ...), chosen on validation goals.
    """

    action_dim: int
    proprio_dim: int
    latent_dim: int = 32
    token_width: int = 32
    projector_hidden: int = 512
    predictor_hidden: int = 512
    predictor_blocks: int = 3
    planning: Mapping[str, Any] = field(default_factory=dict)


class WorldModel(nn.Module):
    """encode: pictures -> latents; rollout: latents under candidate actions; decode_proprio: latents -> pose."""

    def __init__(self, encoder: VJEPAEncoder, config: ModelConfig, name: str = "unnamed", sha256: str = "") -> None:
        super().__init__()
        self.name, self.sha256, self.config = name, sha256, config
        self.encoder = encoder
        self.norm = FeatureNorm(encoder.tokens, encoder.width)
        self.projector = CompactProjector(
            encoder.tokens, encoder.width, config.latent_dim, config.token_width, config.projector_hidden
        )
        tokens = self.projector.latent_tokens
        self.predictor = CompactPredictor(
            config.latent_dim,
            config.action_dim,
            config.proprio_dim,
            hidden=config.predictor_hidden,
            blocks=config.predictor_blocks,
        )
        self.proprio_head = ProprioHead(tokens, config.latent_dim, config.proprio_dim)
        self.inverse = InverseDynamics(tokens, config.latent_dim, config.action_dim)

    @property
    def image_size(self) -> int:
        """Side of the pictures the encoder was trained on [px]."""
        return self.encoder.image_size

    def trainable(self) -> dict[str, nn.Module]:
        """The parts that are trained; the encoder stays frozen."""
        return {
            "norm": self.norm,
            "projector": self.projector,
            "predictor": self.predictor,
            "proprio_head": self.proprio_head,
            "inverse": self.inverse,
        }

    def project(self, features: Tensor) -> Tensor:
        """Normalised features [B,T,M,F] -> latents [B,T,N,D]."""
        z: Tensor = self.projector(features)
        return z

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> latents [B,T,N,D]."""
        return self.project(self.norm(self.encoder(frames)))

    def decode_proprio(self, z: Tensor) -> Tensor:
        """[...,N,D] -> [...,P] [m]."""
        out: Tensor = self.proprio_head(z)
        return out

    def rollout(self, z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B,K,H,N,D] and poses [B,K,H,P] of candidates [B,K,H,A] from z [B,N,D] and proprio [B,P]."""
        return rollout(self.predictor, z[:, None], proprio[:, None], actions)

    def agent(self, planner: str = "cem", **settings: Any) -> PlanningAgent:
        """An agent that plans with this model; settings override the model's own planning defaults."""
        from worldmodel.agent import PlanningAgent

        chosen = {**self.config.planning, **{key: value for key, value in settings.items() if value is not None}}
        try:
            return PlanningAgent(self, planner, **chosen)
        except TypeError as error:
            raise BundleError(
                f"expected planning settings PlanningAgent knows, got {sorted(chosen)} ({error})"
            ) from error

    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
