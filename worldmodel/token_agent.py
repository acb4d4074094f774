"""Receding horizon on all tokens of a picture: encode, imagine candidates, do the first action, plan again.

Assran et al. 2025, arXiv 2506.09985, section 3.2. Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planners import ActionBox, CostFn, Plan, Proposal, shift
from worldmodel.candidates import goal_cost
from worldmodel.energy import Distance, latent_distance, straight
from worldmodel.errors import ConfigError, WorldModelError
from worldmodel.guardrails import Guardrails
from worldmodel.precision import multiplies_bf16
from worldmodel.search import Search, stream
from worldmodel.tokens import TokenModel
from worldmodel.types import Decision, Observations


class TokenAgent:
    """Plans B episodes at once: how far all tokens are from the goal image's, after the last action or on the way.

    horizon: actions looked ahead. initial_std: of the search, in half-widths of the action box. distance,
    running_weight, discount: of the energy, see `goal_cost`. proprio_weight: added to it for the pose's distance from
    the pose in the goal image, per metre. warm_start: begin each search where the last one ended. chunk: candidates
    imagined at a time, which bounds the memory; halved where it is still too large. bf16: of the predictor's products;
    None: where the hardware is faster with it. guardrails: limits on the planned path, to which an environment that
    observes "keep_out" boxes adds. seed: of the planner. box: of the actions, in the model's units; None: the range of
    the logs. Further settings go to the planner. Raises ConfigError for a planner or a setting that does not exist, or
    a size out of range.
    """

    def __init__(
        self,
        model: TokenModel,
        planner: str = "cem",
        *,
        horizon: int = 2,
        initial_std: float = 1.0,
        distance: Distance = "l1",
        running_weight: float = 0.0,
        discount: float = 1.0,
        proprio_weight: float = 0.0,
        warm_start: bool = True,
        chunk: int = 64,
        bf16: bool | None = None,
        guardrails: Guardrails | None = None,
        seed: int = 0,
        box: ActionBox | None = None,
        **settings: Any,
    ) -> None:
        most = model.predictor.context
        if not 1 <= horizon <= most or chunk < 1:
            raise ConfigError(
                f"expected horizon from 1 to the predictor's context of {most} frames and chunk >= 1, got {horizon} "
                f"and {chunk}: correct the one that is out of range"
            )
        if proprio_weight > 0.0 and model.reader is None:
            got = f"{proprio_weight:g}: leave it out, or train with predictor.reader_hidden above 0"
            raise ConfigError(f"expected proprio_weight=0 for a model that reads no pose from pictures, got {got}")
        device, dims = model.device(), model.config.action_dim
        bound = torch.ones(dims, device=device)
        self._model, self._horizon, self._std = model, horizon, initial_std
        self._chunk, self._seed, self._warm_start = chunk, seed, warm_start
        self._measure = partial(goal_cost, distance=distance, running_weight=running_weight, discount=discount)
        self._distance, self._proprio_weight, self._guardrails = distance, proprio_weight, guardrails
        self._dtype = torch.bfloat16 if (multiplies_bf16(device) if bf16 is None else bf16) else None
        self._search = Search(planner, settings)
        self._box = ActionBox(-bound, bound) if box is None else box
        self._still = model.config.normalise(torch.zeros_like(bound)).clamp(self._box.low, self._box.high)
        self._generator = torch.Generator(device)
        self._goal: Tensor | None = None
        self._previous: Plan | None = None
        self._last = self._still.expand(0, -1)  # [B,A] the executed action
        self._waiting: list[np.ndarray] = []  # what is left of the last decision, in the units of the data
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        self._goal, self._previous, self.decision = self._encode(goals), None, Decision()
        self._last, self._waiting = self._still.expand(len(goals), -1), []
        self._generator.manual_seed(stream(self._seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """One action for B episodes, float32 [B,A / k] in the units of the data, where k is the model's frame skip.

        Looks and plans at every k-th call, as `PlanningAgent` does. Raises WorldModelError for proprio of another size,
        PlanningError where no cost is finite.
        """
        if self._waiting:
            self.decision = Decision()
        else:
            actions = self._carried_out(self._decide(observations)).cpu().numpy().astype(np.float32)
            self._waiting = np.split(actions, self._model.config.frame_skip, axis=1)
        return self._waiting.pop(0)

    def _carried_out(self, actions: Tensor) -> Tensor:
        """The chosen actions [B,A] in the units of the data."""
        return self._model.config.denormalise(actions)

    def _decide(self, observations: Observations) -> Tensor:
        """Look, plan, and choose the model's action [B,A] for now."""
        self._search.begin()
        if self._goal is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        z, goal = self._encode(observations["pixels"]), self._goal
        seen = {
            name: torch.as_tensor(observations[name], dtype=torch.float32, device=z.device)
            for name in ("proprio", "keep_out")
            if name in observations
        }
        proprio, regions = seen["proprio"], seen.get("keep_out")
        cost = self._cost(z, goal, proprio, regions)
        self._search.size = self._chunk * len(z)
        plan = self._search(cost, self._proposal(len(z)), self._box, self._generator)
        self._previous, self._chunk = plan, max(1, self._search.size // len(z))
        actions = self._lawful(plan.actions[:, None])
        poses = self._model.poses(proprio, actions)
        blocked = None
        if self._guardrails is not None and self._guardrails.hard:
            blocked = self._guardrails.breach(proprio, poses, actions, self._last, regions)[:, 0] > 0.0
            actions = torch.where(blocked[:, None, None, None], self._still, actions)
            poses = self._model.poses(proprio, actions)
        self._last = actions[:, 0, 0]
        self.decision = Decision(
            energy=latent_distance(self._distance, z, goal), path=poses[:, 0, :, :3], held=blocked, blocked=blocked,
            plan=plan,
        )  # fmt: skip
        return self._last

    def _cost(self, z: Tensor, goal: Tensor, proprio: Tensor, regions: Tensor | None) -> CostFn:
        """The energy of candidates from latents [B,N,D] and proprio [B,P], and what breaking the guardrails costs."""
        model, guardrails = self._model, self._guardrails
        weight = self._proprio_weight
        wanted = model.decode_proprio(goal[:, None])[:, :, None] if weight > 0.0 else proprio[:, None, None]

        def posed(actions: Tensor) -> Tensor:
            return weight * straight(model.poses(proprio, actions), wanted)

        energy = self._measure(model.imagine(z, proprio, self._dtype), goal, further=posed if weight > 0.0 else None)

        def cost(actions: Tensor) -> Tensor:
            if guardrails is None:
                return energy(actions)
            actions = self._lawful(actions)
            breach = guardrails.breach(proprio, model.poses(proprio, actions), actions, self._last, regions)
            return guardrails.cost(energy(actions), breach)

        return cost

    def _lawful(self, actions: Tensor) -> Tensor:
        """Candidates [B,K,H,A] within the limits of speed and rate, if there are any."""
        if self._guardrails is None:
            return actions
        return self._guardrails.slowed(actions, self._last, self._model.gain())

    def _proposal(self, batch: int) -> Proposal:
        if self._previous is not None and self._warm_start:
            return shift(self._previous.proposal, 1, self._std * self._box.half_width)
        mean = torch.zeros(batch, self._horizon, len(self._box.low), device=self._box.low.device)
        return Proposal(mean, (self._std * self._box.half_width).expand_as(mean).clone())

    def _encode(self, frames: np.ndarray) -> Tensor:
        """uint8 [B,S,S,3] -> [B,N,D]."""
        pictures = torch.as_tensor(np.ascontiguousarray(frames), device=self._model.device())
        return self._model.encode(pictures[:, None])[:, 0]
