"""A model whose latents are all tokens of a picture, layer-normalised: the form of V-JEPA 2-AC.

Assran et al. 2025, arXiv 2506.09985, section 3. Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from worldmodel.actions import integrate_pose
from worldmodel.candidates import CandidateRollout, Context
from worldmodel.encoders import FrozenEncoder
from worldmodel.errors import BundleError, ConfigError, WorldModelError
from worldmodel.predictor import Kinematics
from worldmodel.projector import IdentityProjector, PoseReader
from worldmodel.transformer import Layout, TransformerPredictor
from worldmodel.units import ActionUnits, ProprioNorm

if TYPE_CHECKING:
    from worldmodel.token_agent import TokenAgent


@dataclass(frozen=True)
class TokenConfig(ActionUnits):
    """Everything that decides the shapes, and how the model is best planned with.

    pool: side of the squares of encoder tokens that are averaged into one: 256 tokens become 64 (2) or 16 (4).
    width, depth, heads, layout, context: see `TransformerPredictor`.
    kinematics: how actions move the proprioception: "fitted", linearly, as in the logs; "pose", as `integrate_pose`
    says, for poses and actions of seven numbers.
    reader_width, reader_hidden: of the network that reads the proprioception from a goal image; reader_hidden 0: none.
    planning: default settings of the agent. action_range, frame_skip: see `ModelConfig`.
    """

    action_dim: int
    proprio_dim: int
    pool: int = 1
    width: int = 384
    depth: int = 6
    heads: int = 6
    layout: Layout = "action_after"
    context: int = 8
    kinematics: Literal["fitted", "pose"] = "fitted"
    reader_width: int = 32
    reader_hidden: int = 512
    planning: Mapping[str, Any] = field(default_factory=dict)
    action_range: Sequence[Sequence[float]] | None = None
    frame_skip: int = 1

    def predictor(self, tokens: int, width: int) -> TransformerPredictor:
        """Not yet trained, for so many tokens of this width. Raises ConfigError."""
        return TransformerPredictor(
            latent_tokens=tokens,
            latent_dim=width,
            action_dim=self.action_dim,
            proprio_dim=self.proprio_dim,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            context=self.context,
            layout=self.layout,
        )


class TokenModel(nn.Module):
    """encode: pictures -> latents; rollout: latents and poses under candidate actions; decode_proprio: latents -> pose.

    predictor: None for a new one of the config's sizes. Raises BundleError where encoder and predictor do not belong to
    each other, and ConfigError for sizes that do not fit together.
    """

    def __init__(
        self,
        encoder: FrozenEncoder,
        config: TokenConfig,
        name: str = "unnamed",
        sha256: str = "",
        predictor: TransformerPredictor | None = None,
    ) -> None:
        super().__init__()
        self.name, self.sha256, self.config = name, sha256, config
        self.encoder = encoder = encoder.pooled(config.pool)
        self.predictor = config.predictor(encoder.tokens, encoder.width) if predictor is None else predictor
        has, needs = (encoder.tokens, encoder.width), (self.predictor.latent_tokens, self.predictor.latent_dim)
        if has != needs:
            raise BundleError(
                f"expected an encoder of {needs[0]} tokens of width {needs[1]} as the predictor needs, got {has[0]} of "
                f"width {has[1]}: use the encoder it was trained on"
            )
        if config.kinematics == "pose" and (config.action_dim, config.proprio_dim) != (7, 7):
            got = f"{config.action_dim} and {config.proprio_dim}"
            raise ConfigError(
                f"expected actions and proprioception of 7 numbers for kinematics=pose, got {got}: use fitted"
            )
        self.norm = IdentityProjector(encoder.tokens, encoder.width)
        self.state = ProprioNorm(config.proprio_dim)
        fitted = config.kinematics == "fitted"
        self.kinematics = Kinematics(config.proprio_dim, config.action_dim) if fitted else None
        sizes = (config.proprio_dim, config.reader_width, config.reader_hidden)
        self.reader = PoseReader(encoder.tokens, encoder.width, *sizes) if config.reader_hidden else None

    @property
    def image_size(self) -> int:
        """Side of the pictures the encoder was trained on [px]."""
        return self.encoder.image_size

    def trainable(self) -> dict[str, nn.Module]:
        """The parts that are trained or fitted; the encoder stays frozen."""
        parts = {"predictor": self.predictor, "state": self.state, "kinematics": self.kinematics, "reader": self.reader}
        return {name: part for name, part in parts.items() if part is not None}

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> latents [B,T,N,D], layer-normalised."""
        z: Tensor = self.norm(self.encoder(frames))
        return z

    def decode_proprio(self, z: Tensor) -> Tensor:
        """[B,T,N,D] -> [B,T,P]: what of the proprioception is to be seen. Raises ConfigError without a reader."""
        if self.reader is None:
            raise ConfigError("expected a model that reads poses from pictures, got one without: set proprio_weight=0")
        pose: Tensor = self.reader(z)[:, :, 0]
        return pose

    def move(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """Proprioception [...,P] after actions [...,A] of the model, in the units of the data; in full precision."""
        with torch.autocast(actions.device.type, enabled=False):
            if self.kinematics is None:
                return integrate_pose(proprio, self.config.denormalise(actions))
            moved: Tensor = self.kinematics(proprio, actions)
            return moved

    def gain(self) -> Tensor:
        """What a unit of each of the model's actions changes in the proprioception, about [P,A]: see `Guardrails`."""
        if self.kinematics is not None:
            return self.kinematics.gain
        unit = torch.ones(self.config.action_dim, device=self.device())
        return torch.diag(self.config.denormalise(unit) - self.config.denormalise(torch.zeros_like(unit)))

    def advance(self, state: Tensor, actions: Tensor) -> Tensor:
        """The same for the normalised proprioception that the predictor knows."""
        following: Tensor = self.state(self.move(self.state.inverse(state), actions))
        return following

    def poses(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """Where actions [B,K,H,A] lead from proprio [B,P]: [B,K,H,P], in the units of the data."""
        found, pose = [], proprio[:, None]
        for action in actions.unbind(dim=2):
            pose = self.move(pose, action)
            found.append(pose)
        return torch.stack(found, dim=2)

    def imagine(self, z: Tensor, proprio: Tensor, dtype: torch.dtype | None = None) -> CandidateRollout:
        """Rollouts of many candidates from latents [B,N,D] and proprio [B,P]; their poses are normalised.

        dtype: of the products, None for that of the weights. Raises WorldModelError for other sizes.
        """
        config = self.config
        if proprio.shape[-1:] != (config.proprio_dim,) or not proprio.is_floating_point():
            got = f"{str(proprio.dtype).removeprefix('torch.')} {list(proprio.shape)}"
            raise WorldModelError(
                f"expected proprio as floats [B,P={config.proprio_dim}], got {got}: give what the model was trained on"
            )
        none_before = proprio.new_zeros(len(z), 0, config.action_dim)
        context = Context(z[:, None], none_before, self.state(proprio)[:, None])
        return CandidateRollout(self.predictor, context, self.advance, dtype=dtype)

    def rollout(self, z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B,K,H,N,D], layer-normalised, and poses [B,K,H,P] after each of the actions [B,K,H,A].

        From latents [B,N,D] and poses [B,P]. Raises WorldModelError for other sizes.
        """
        path, states = self.imagine(z, proprio)(actions)
        return path, self.state.inverse(states)

    def agent(self, planner: str = "cem", **settings: Any) -> TokenAgent:
        """An agent that plans with this model; settings override the model's own planning defaults.

        Raises ConfigError for a planner or a setting that does not exist.
        """
        from worldmodel.token_agent import TokenAgent

        return TokenAgent(self, planner, **{**self.config.planning, **given(settings)})

    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None."""
    return {key: value for key, value in settings.items() if value is not None}
