"""A world model: frozen encoder, projector, dynamics and read-outs under one roof. Legend: worldmodel/types.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from worldmodel.encoders import FrozenEncoder
from worldmodel.energy import Timed, Way, Ways, straight
from worldmodel.ensemble import Ensemble
from worldmodel.errors import ConfigError
from worldmodel.heads import InverseDynamics, Proposer
from worldmodel.predictor import CompactPredictor, Kinematics
from worldmodel.projector import CompactProjector, FeatureNorm, PlaceTracker, PoseReader
from worldmodel.roadmap import Roadmap
from worldmodel.time_to_go import Things, TimeToGo
from worldmodel.units import ActionUnits

if TYPE_CHECKING:
    from worldmodel.agent import PlanningAgent


@dataclass(frozen=True)
class ModelConfig(ActionUnits):
    """Everything that decides the shapes, and how the model is best planned with.

    place_dim, scene_dim, pose_dim: the parts of a latent: an object's place (then how unsure it is, and where the hand
    is), what else there is to see of what the arm acts on, and the arm itself. objects: N, how many things move; each
    is what the logs of one task are about. members: of the ensemble that predicts places.
    planning: default settings of the agent (horizon, initial_std, ...), chosen on validation goals.
    pool: side of the squares of encoder tokens that are averaged into one before anything else.
    action_range: lows [A] and highs [A] of the logged actions, which the model knows as -1 and 1; None: they are that.
    frame_skip: how many actions of the data, side by side, are one of the model's A-dimensional actions.
    motion_hidden: width of the network that learns what a linear map misses of how actions move the pose; 0: none.
    position_dim: how many coordinates of the proprioception, from the first, say where the robot is [m]; the others,
    as a heading, are no part of the goal. None: all.
    roadmap_nodes: logged places among which the shortest ways are known, and off which no step leads; 0: none.
    proposal_steps: decisions of the sequence that the logs would do, which a network proposes; 0: none.
    time_to_go: of what a network says how many decisions its way takes, the robot or the objects; None: there is none.
    """

    action_dim: int
    proprio_dim: int
    place_dim: int = 2
    scene_dim: int = 12
    pose_dim: int = 8
    token_width: int = 32
    projector_hidden: int = 512
    members: int = 4
    predictor_hidden: int = 256
    predictor_blocks: int = 3
    planning: Mapping[str, Any] = field(default_factory=dict)
    pool: int = 1
    action_range: Sequence[Sequence[float]] | None = None
    frame_skip: int = 1
    motion_hidden: int = 0
    position_dim: int | None = None
    roadmap_nodes: int = 0
    proposal_steps: int = 0
    objects: int = 1
    time_to_go: Things | None = None

    @property
    def latent_dim(self) -> int:
        """D: place and doubt (one) of each object, hand, scene and pose, in this order."""
        return self.read_dim + self.scene_dim + self.pose_dim

    @property
    def track_dim(self) -> int:
        """Of the first part, what is known of the objects' places."""
        return self.objects * (self.place_dim + 1)

    @property
    def read_dim(self) -> int:
        """Of the first two parts, each read by a network of its own."""
        return self.track_dim + self.proprio_dim

    def kinematics(self) -> Kinematics:
        """How actions move the pose, not yet fitted."""
        return Kinematics(self.proprio_dim, self.action_dim, self.motion_hidden, self.roadmap_nodes, self.position_dim)


class WorldModel(nn.Module):
    """encode: pictures -> latents; rollout: places under candidate actions; decode_proprio: latents -> pose."""

    def __init__(self, encoder: FrozenEncoder, config: ModelConfig, name: str = "unnamed", sha256: str = "") -> None:
        super().__init__()
        self.name, self.sha256, self.config = name, sha256, config
        self.encoder = encoder = encoder.pooled(config.pool)
        self.norm = FeatureNorm(encoder.tokens, encoder.width)
        self.projector = CompactProjector(
            encoder.tokens,
            encoder.width,
            config.scene_dim + config.pose_dim,
            config.token_width,
            config.projector_hidden,
        )
        self.tracker = PlaceTracker(
            encoder.tokens,
            encoder.width,
            config.place_dim,
            config.proprio_dim,
            config.token_width,
            config.projector_hidden,
            config.objects,
        )
        self.reader = PoseReader(
            encoder.tokens, encoder.width, config.proprio_dim, config.token_width, config.projector_hidden
        )
        self.members = nn.ModuleList(
            CompactPredictor(
                config.place_dim,
                config.action_dim,
                config.proprio_dim,
                hidden=config.predictor_hidden,
                blocks=config.predictor_blocks,
                kinematics=config.kinematics(),
            )
            for _ in range(config.members)
        )
        positions = config.proprio_dim if config.position_dim is None else config.position_dim
        self.roadmap = Roadmap(config.roadmap_nodes, positions) if config.roadmap_nodes else None
        self._stacked: dict[torch.dtype, tuple[object, Ensemble]] = {}
        self.inverse = InverseDynamics(1, config.scene_dim + config.pose_dim, config.action_dim)
        self.proposer = self._new_proposer() if config.proposal_steps else None
        self.time_to_go = TimeToGo(config.proprio_dim, positions) if config.time_to_go else None

    def _new_proposer(self) -> Proposer:
        config, sizes = self.config, {"token_width": self.config.token_width, "hidden": self.config.predictor_hidden}
        dims = (config.proprio_dim, config.action_dim, config.proposal_steps)
        sizes["projector_hidden"] = config.projector_hidden
        return Proposer(self.encoder.tokens, self.encoder.width, *dims, **sizes)

    @property
    def image_size(self) -> int:
        """Side of the pictures the encoder was trained on [px]."""
        return self.encoder.image_size

    def trainable(self) -> dict[str, nn.Module]:
        """The parts that are trained; the encoder stays frozen."""
        parts: dict[str, nn.Module] = {
            "norm": self.norm,
            "projector": self.projector,
            "tracker": self.tracker,
            "reader": self.reader,
            "members": self.members,
            "inverse": self.inverse,
        }
        further = {"roadmap": self.roadmap, "proposer": self.proposer, "time_to_go": self.time_to_go}
        return {**parts, **{name: part for name, part in further.items() if part is not None}}

    def project(self, features: Tensor) -> Tensor:
        """Normalised features [B,T,M,F] -> latents [B,T,1,D]."""
        tracked = self.tracker(features).flatten(-2).unsqueeze(-2)
        return torch.cat([tracked, self.reader(features), self.projector(features)], dim=-1)

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> latents [B,T,1,D]."""
        return self.project(self.features(frames))

    def features(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> normalised features [B,T,M,F], which all parts see."""
        normalised: Tensor = self.norm(self.encoder(frames))
        return normalised

    @property
    def predictor(self) -> CompactPredictor:
        """The first member of the ensemble; all share how actions move the pose."""
        return cast(CompactPredictor, self.members[0])

    def place(self, z: Tensor) -> Tensor:
        """Where the objects seem to be: [...,1,D] -> [...,N,Q], in units of PLACE_UNIT and a frame of their own."""
        return self._tracked(z)[..., :-1]

    def doubt(self, z: Tensor) -> Tensor:
        """Log variance of those places, large while something hides an object: [...,1,D] -> [...,N,1]."""
        return self._tracked(z)[..., -1:]

    def _tracked(self, z: Tensor) -> Tensor:
        return z[..., 0, : self.config.track_dim].reshape(*z.shape[:-2], self.config.objects, -1)

    def scene(self, z: Tensor) -> Tensor:
        """The part of a latent that the pose does not explain: [...,1,D] -> [...,1,scene_dim]."""
        return self.appearance(z)[..., : self.config.scene_dim]

    def pose_part(self, z: Tensor) -> Tensor:
        """The part that the pose is read from: [...,1,D] -> [...,1,pose_dim]."""
        return self.appearance(z)[..., self.config.scene_dim :]

    def appearance(self, z: Tensor) -> Tensor:
        """Scene and pose together: [...,1,D] -> [...,1,scene_dim + pose_dim]."""
        return z[..., self.config.read_dim :]

    def decode_proprio(self, z: Tensor) -> Tensor:
        """[...,1,D] -> [...,P] [m]: where the hand is in the picture."""
        return z[..., 0, self.config.track_dim : self.config.read_dim]

    def position(self, proprio: Tensor) -> Tensor:
        """What of a pose says where the robot is: [...,P] -> [...,C] [m]."""
        return proprio[..., : self.config.position_dim]

    def ways(self, kind: Way = "straight", time_share: float = 0.0) -> Ways:
        """How far robot and objects are from their places; of the robot's way, `kind` says what is measured in metres.

        time_share: of the time to go, in the way of what the model times. Raises ConfigError for what it does not have.
        """
        if kind == "roadmap" and self.roadmap is None:
            raise ConfigError(
                "expected a model with a roadmap for way=roadmap, got one without: train with roadmap_nodes"
            )
        measure = straight if kind == "straight" or self.roadmap is None else self.roadmap
        timed = self._timed("robot", time_share, measure)
        return Ways(
            lambda proprio, other: timed(proprio, self.position(proprio), self.position(other)),
            self._timed("objects", time_share, straight),
        )

    def _timed(self, things: Things, share: float, measure: Callable[[Tensor, Tensor], Tensor]) -> Timed:
        """Of the way of these things, that share by the time it takes, the rest as `measure` says it in metres."""
        time = self.time_to_go
        if share > 0.0 and time is None:
            got = f"{share:g}: leave it out, or train with predictor.time_to_go=robot or objects"
            raise ConfigError(f"expected time_share=0 for a model that tells no time to go, got {got}")
        if share == 0.0 or time is None or self.config.time_to_go != things:
            return lambda proprio, place, goal: measure(place, goal)
        if share == 1.0:
            return time
        return lambda proprio, place, goal: torch.lerp(measure(place, goal), time(proprio, place, goal), share)

    def locate(self, places: Tensor) -> Tensor:
        """Places in the coordinates of `position`: [...,N,Q] -> [...,N,C] [m]."""
        return self.position(self.tracker.locate(places))

    def rollout(self, places: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Places [E,B,K,H,N,Q] as E members see them and poses [B,K,H,P] after each action of candidates [B,K,H,A].

        From places [B,N,Q] and proprio [B,P].
        """
        return self.ensemble(actions.device.type).rollout(places[:, None], proprio[:, None], actions)

    def ensemble(self, kind: str) -> Ensemble:
        """The members stacked, in the dtype of autocast; frozen ones are kept until their weights change."""
        weights = list(self.members.parameters())
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weights[0].dtype
        members = [cast(CompactPredictor, member) for member in self.members]
        if any(weight.requires_grad for weight in weights):
            return Ensemble.of(members, dtype)
        versions = (0 if weight.is_inference() else weight._version for weight in weights)
        state = [*(weight.data_ptr() for weight in weights), *versions]
        if dtype not in self._stacked or self._stacked[dtype][0] != state:
            # Kept for later calls, which may want gradients: not as inference tensors.
            with torch.inference_mode(False), torch.no_grad():
                self._stacked[dtype] = state, Ensemble.of(members, dtype)
        return self._stacked[dtype][1]

    def agent(self, planner: str = "cem", **settings: Any) -> PlanningAgent:
        """An agent that plans with this model; settings override the model's own planning defaults.

        Raises ConfigError for a planner or a setting that does not exist.
        """
        from worldmodel.agent import PlanningAgent

        given = {key: value for key, value in settings.items() if value is not None}
        return PlanningAgent(self, planner, **{**self.config.planning, **given})

    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
