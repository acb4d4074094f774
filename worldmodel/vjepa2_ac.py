"""V-JEPA 2-AC as a model that plans (Assran et al. 2025, arXiv 2506.09985): its latents are all tokens of a picture.

Legend: worldmodel/types.py. A = P = 7: poses and actions are written as worldmodel/actions.py says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from planners import ActionBox, Plan, Proposal, shift
from worldmodel.actions import integrate_pose
from worldmodel.agent import PLANNERS, require_known, stream
from worldmodel.candidates import CandidateRollout, Chunked, Context, goal_cost, multiplies_bf16
from worldmodel.encoders import FrozenEncoder
from worldmodel.energy import Distance, latent_distance
from worldmodel.errors import BundleError, ConfigError, WorldModelError
from worldmodel.projector import IdentityProjector
from worldmodel.transformer import TransformerPredictor
from worldmodel.types import Decision, Observations


class VJEPA2AC(nn.Module):
    """encode: pictures -> latents; rollout: latents and poses under candidate actions.

    Raises BundleError where encoder and predictor do not belong to each other.
    """

    def __init__(
        self, encoder: FrozenEncoder, predictor: TransformerPredictor, name: str = "vjepa2_ac", sha256: str = ""
    ) -> None:
        super().__init__()
        has, needs = (encoder.tokens, encoder.width), (predictor.latent_tokens, predictor.latent_dim)
        if has != needs:
            raise BundleError(
                f"expected an encoder of {needs[0]} tokens of width {needs[1]} as the predictor needs, got {has[0]} of "
                f"width {has[1]}: use the encoder it was trained on"
            )
        self.name, self.sha256 = name, sha256
        self.encoder, self.predictor = encoder, predictor
        self.projector = IdentityProjector(encoder.tokens, encoder.width)

    @property
    def image_size(self) -> int:
        """Side of the pictures the encoder was trained on [px]."""
        return self.encoder.image_size

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> latents [B,T,N,D], layer-normalised."""
        z: Tensor = self.projector(self.encoder(frames))
        return z

    def rollout(self, z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B,K,H,N,D], layer-normalised, and poses [B,K,H,7] after each of the actions [B,K,H,7].

        From latents [B,N,D] and poses [B,7]. Raises WorldModelError for other sizes.
        """
        none_before = actions.new_zeros(len(z), 0, actions.shape[-1])
        context = self.predictor.encode_context(z[:, None], none_before, proprio[:, None])
        return self.predictor.rollout(context, actions, integrate_pose, normalise=True)

    def agent(self, planner: str = "cem", **settings: Any) -> VJEPA2ACAgent:
        """An agent that plans with this model. Raises ConfigError for settings that do not exist."""
        return VJEPA2ACAgent(self, planner, **{key: value for key, value in settings.items() if value is not None})

    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class VJEPA2ACAgent:
    """Plans B episodes at once as V-JEPA 2-AC does: the mean absolute difference of all tokens after the last action.

    An action is the change of the end effector's pose; only x, y, z and the gripper are searched, it does not turn.
    horizon: actions looked ahead. max_step: per axis [m]. max_gripper: of the gripper's closedness. initial_std: of the
    search, in units of both. threshold: smaller changes of the gripper are not carried out. distance, running_weight,
    discount: of the energy, see `goal_cost`. warm_start: begin each search where the last one ended. chunk: candidates
    imagined at a time, which bounds the memory; halved where it is still too large. bf16: of the predictor's products;
    None: where the hardware is faster with it. seed: of the planner. Further settings go to the planner. The defaults
    are those of the public code. Raises ConfigError for a planner or a setting that does not exist, or a size out of
    range.
    """

    def __init__(
        self,
        model: VJEPA2AC,
        planner: str = "cem",
        *,
        horizon: int = 2,
        max_step: float = 0.05,
        max_gripper: float = 0.75,
        initial_std: float = 1.0,
        threshold: float = 0.25,
        distance: Distance = "l1",
        running_weight: float = 0.0,
        discount: float = 1.0,
        warm_start: bool = False,
        chunk: int = 16,
        bf16: bool | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if planner not in PLANNERS:
            raise ConfigError(f"expected planner to be one of {', '.join(PLANNERS)}, got {planner!r}")
        if horizon < 1 or chunk < 1 or not (0 < max_step <= 1 and 0 <= max_gripper <= 1):
            raise ConfigError(
                "expected horizon and chunk >= 1, max_step in (0,1] m and max_gripper in [0,1], got "
                f"{horizon}, {chunk}, {max_step} and {max_gripper}: correct the one that is out of range"
            )
        require_known(planner, settings)
        self._model, self._horizon, self._std = model, horizon, initial_std
        self._threshold, self._chunk, self._seed = threshold, chunk, seed
        self._measure = partial(goal_cost, distance=distance, running_weight=running_weight, discount=discount)
        self._distance, self._warm_start = distance, warm_start
        self._dtype = torch.bfloat16 if (multiplies_bf16(model.device()) if bf16 is None else bf16) else None
        self._planner = partial(PLANNERS[planner], **settings)
        high = torch.tensor([max_step] * 3 + [0.0] * 3 + [max_gripper], device=model.device())
        self._box = ActionBox(-high, high)
        self._generator = torch.Generator(model.device())
        self._goal: Tensor | None = None
        self._previous: Plan | None = None
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]."""
        self._goal, self._previous, self.decision = self._encode(goals), None, Decision()
        self._generator.manual_seed(stream(self._seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """One decision for B episodes, whose proprio are poses [B,7]: float32 [B,7], the change of each.

        Raises WorldModelError for other proprio, PlanningError where no cost is finite.
        """
        if self._goal is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        z, goal = self._encode(observations["pixels"]), self._goal
        proprio = torch.as_tensor(observations["proprio"], dtype=torch.float32, device=z.device)

        context = Context(z[:, None], proprio.new_zeros(len(z), 0, len(self._box.low)), proprio[:, None])
        rollout = CandidateRollout(self._model.predictor, context, integrate_pose, dtype=self._dtype)
        cost = Chunked(self._measure(rollout, goal), self._chunk * len(z))
        plan = self._planner(cost, self._proposal(len(z)), self._box, self._generator)
        self._previous, self._chunk = plan, max(1, cost.size // len(z))
        poses, pose = [], proprio
        for action in plan.actions.unbind(dim=1):
            pose = integrate_pose(pose, action)
            poses.append(pose[:, :3])
        self.decision = Decision(
            energy=latent_distance(self._distance, z, goal), path=torch.stack(poses, dim=1), plan=plan
        )
        first = plan.actions[:, 0].clone()
        first[:, 6] = torch.where(first[:, 6].abs() < self._threshold, 0.0, first[:, 6])
        return first.cpu().numpy().astype(np.float32)

    def _proposal(self, batch: int) -> Proposal:
        if self._previous is not None and self._warm_start:
            return shift(self._previous.proposal, 1, self._std * self._box.half_width)
        mean = torch.zeros(batch, self._horizon, len(self._box.low), device=self._box.low.device)
        return Proposal(mean, (self._std * self._box.half_width).expand_as(mean).clone())

    def _encode(self, frames: np.ndarray) -> Tensor:
        """uint8 [B,S,S,3] -> [B,N,D]."""
        pictures = torch.as_tensor(np.ascontiguousarray(frames), device=self._model.device())
        return self._model.encode(pictures[:, None])[:, 0]
