"""Receding horizon: encode, plan in latent space, do the first action, plan again. Legend: worldmodel/types.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import planners
from planners import ActionBox, Plan, Proposal, shift
from planners.receding import shift_actions
from worldmodel.energy import Distance, Goal, GoalEnergy
from worldmodel.errors import ConfigError, WorldModelError
from worldmodel.model import WorldModel
from worldmodel.types import Decision, Observations

PLANNERS: dict[str, Callable[..., Plan]] = {
    "cem": planners.cem,
    "icem": planners.icem,
    "mppi": planners.mppi,
    "gradient": planners.gradient,
    "random_shooting": planners.random_shooting,
}


class PlanningAgent:
    """Drives B episodes at once towards their goal images with one of the planners.

    horizon: decisions looked ahead. initial_std: of the search, in units of the action. hold_margin: the arm stands
    still unless a plan lowers the energy of standing still by more than this share. seed: of the planner, not of the
    episode. Further settings go to the planner. Raises ConfigError for a planner that does not exist.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: str = "cem",
        *,
        horizon: int = 8,
        initial_std: float = 0.6,
        distance: Distance = "l2",
        running_weight: float = 0.3,
        latent_weight: float = 0.2,
        place_weight: float = 1.0,
        approach_weight: float = 0.1,
        proprio_weight: float = 0.15,
        pessimism: float = 1.0,
        settled_below: float = 0.6,
        hold_margin: float = 0.0,
        policy_candidates: bool = True,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if planner not in PLANNERS:
            raise ConfigError(f"expected planner to be one of {', '.join(PLANNERS)}, got {planner!r}")
        self._model, self._horizon, self._std, self._seed = model, horizon, initial_std, seed
        self._planner = partial(PLANNERS[planner], **settings)
        self._energy = GoalEnergy(
            model.config.scene_dim,
            model.locate,
            distance=distance,
            running_weight=running_weight,
            latent_weight=latent_weight,
            place_weight=place_weight,
            approach_weight=approach_weight,
            proprio_weight=proprio_weight,
            pessimism=pessimism,
            settled_below=settled_below,
        )
        self._hold_margin, self._policy_candidates = hold_margin, policy_candidates
        bound = torch.ones(model.config.action_dim, device=model.device())
        self._box = ActionBox(-bound, bound)
        self._generator = torch.Generator(model.device())
        self._goal: Goal | None = None
        self._previous: Plan | None = None
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        z = self._model.encode(self._frames(goals))[:, 0]
        nothing = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self._goal = Goal(z, self._model.decode_proprio(z), self._model.locate(z), nothing)
        self._previous, self.decision = None, Decision()
        entropy = np.random.SeedSequence([self._seed, *(int(seed) for seed in seeds)])
        self._generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """One decision for B episodes: float32 [B,A] in [-1, 1]. Raises PlanningError where no cost is finite."""
        if self._goal is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        z = self._model.encode(self._frames(observations["pixels"]))[:, 0]
        proprio = torch.as_tensor(observations["proprio"], dtype=torch.float32, device=z.device)
        goal = replace(self._goal, settled=self._energy.settled(z, self._goal.z))

        def cost(actions: Tensor) -> Tensor:
            with self._precision():
                path, poses = self._model.rollout(z, proprio, actions)
            return self._energy(path.float(), poses.float(), goal)

        plan = self._planner(
            cost, self._proposal(len(z)), self._box, self._generator, candidates=self._candidates(z, proprio)
        )
        still = torch.zeros_like(plan.actions)
        held = plan.cost > (1.0 - self._hold_margin) * cost(still[:, None])[:, 0]
        actions = torch.where(held[:, None, None], still, plan.actions)
        path = self._model.rollout(z, proprio, actions[:, None])[1][:, 0]
        self._previous = plan
        self.decision = Decision(energy=self._energy.step(z, proprio, goal), path=path, held=held, plan=plan)
        return actions[:, 0].cpu().numpy().astype(np.float32)

    def _precision(self) -> torch.autocast:
        """bf16 where the hardware multiplies it faster."""
        kind = self._model.device().type
        fast = kind != "cpu" or torch.cpu._is_avx512_bf16_supported()
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=fast)

    def _frames(self, frames: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(frames), device=self._model.device())[:, None]

    def _proposal(self, batch: int) -> Proposal:
        shape = (batch, self._horizon, self._model.config.action_dim)
        if self._previous is None:
            mean = torch.zeros(shape, device=self._model.device())
            return Proposal(mean, torch.full_like(mean, self._std))
        return shift(self._previous.proposal, 1, self._std)

    def _candidates(self, z: Tensor, proprio: Tensor) -> Tensor:
        """[B,C,H,A]: standing still, the rest of the last plan, and what inverse dynamics would do."""
        shape = (len(z), self._horizon, self._model.config.action_dim)
        found = [torch.zeros(shape, device=z.device)]
        if self._previous is not None:
            found.append(shift_actions(self._previous.actions, 1))
        if self._policy_candidates:
            found.append(self._policy(z, proprio))
        return torch.stack(found, dim=1)

    def _policy(self, z: Tensor, proprio: Tensor) -> Tensor:
        assert self._goal is not None
        actions = []
        for _ in range(self._horizon):
            action = self._model.inverse(z, self._goal.z).clamp(-1.0, 1.0)
            path, poses = self._model.rollout(z, proprio, action[:, None, None])
            z, proprio = path[0, :, 0, 0], poses[:, 0, 0]
            actions.append(action)
        return torch.stack(actions, dim=1)
