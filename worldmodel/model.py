"""A world model: frozen encoder, projector, dynamics and read-outs under one roof. Legend: worldmodel/types.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import BundleError
from worldmodel.heads import ContactHead, InverseDynamics, ProprioHead
from worldmodel.predictor import CompactPredictor
from worldmodel.projector import CompactProjector, FeatureNorm
from worldmodel.rollout import rollout

if TYPE_CHECKING:
    from worldmodel.agent import PlanningAgent


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shapes, and how the model is best planned with.

    scene_dim, pose_dim: the two parts of a latent: what the arm acts on, and the arm itself. members: of the ensemble.
    planning: default settings of the agent (horizon, initial_std, ...), chosen on validation goals.
    """

    action_dim: int
    proprio_dim: int
    scene_dim: int = 12
    pose_dim: int = 8
    token_width: int = 32
    projector_hidden: int = 512
    members: int = 4
    predictor_hidden: int = 256
    predictor_blocks: int = 3
    planning: Mapping[str, Any] = field(default_factory=dict)

    @property
    def latent_dim(self) -> int:
        """D: the scene part comes first, the pose part last."""
        return self.scene_dim + self.pose_dim


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
        self.members = nn.ModuleList(
            CompactPredictor(
                config.latent_dim,
                config.action_dim,
                config.proprio_dim,
                hidden=config.predictor_hidden,
                blocks=config.predictor_blocks,
            )
            for _ in range(config.members)
        )
        self.proprio_head = ProprioHead(1, config.pose_dim, config.proprio_dim)
        self.inverse = InverseDynamics(1, config.latent_dim, config.action_dim)
        self.contact = ContactHead(config.scene_dim, config.proprio_dim)

    @property
    def image_size(self) -> int:
        """Side of the pictures the encoder was trained on [px]."""
        return self.encoder.image_size

    def trainable(self) -> dict[str, nn.Module]:
        """The parts that are trained; the encoder stays frozen."""
        return {
            "norm": self.norm,
            "projector": self.projector,
            "members": self.members,
            "proprio_head": self.proprio_head,
            "inverse": self.inverse,
            "contact": self.contact,
        }

    def project(self, features: Tensor) -> Tensor:
        """Normalised features [B,T,M,F] -> latents [B,T,N,D]."""
        z: Tensor = self.projector(features)
        return z

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> latents [B,T,N,D]."""
        return self.project(self.norm(self.encoder(frames)))

    @property
    def predictor(self) -> CompactPredictor:
        """The first member of the ensemble; all share how actions move the pose."""
        return cast(CompactPredictor, self.members[0])

    def scene(self, z: Tensor) -> Tensor:
        """The part of a latent that the pose does not explain: [...,N,D] -> [...,N,scene_dim]."""
        return z[..., : self.config.scene_dim]

    def pose_part(self, z: Tensor) -> Tensor:
        """The part that the pose is read from: [...,N,D] -> [...,N,pose_dim]."""
        return z[..., self.config.scene_dim :]

    def decode_proprio(self, z: Tensor) -> Tensor:
        """[...,N,D] -> [...,P] [m]."""
        out: Tensor = self.proprio_head(self.pose_part(z))
        return out

    def locate(self, z: Tensor) -> Tensor:
        """Where the hand would touch what is in the scene: [...,N,D] -> [...,P] [m]."""
        out: Tensor = self.contact(self.scene(z))
        return out

    def rollout(self, z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [E,B,K,H,N,D] of E members, poses [B,K,H,P]: candidates [B,K,H,A] from z [B,N,D], proprio [B,P]."""
        found = [
            rollout(cast(CompactPredictor, member), z[:, None], proprio[:, None], actions) for member in self.members
        ]
        return torch.stack([path for path, _ in found]), found[0][1]

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
