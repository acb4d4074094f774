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
from worldmodel.belief import Belief
from worldmodel.energy import Distance, Goal, GoalEnergy, latent_distance
from worldmodel.errors import ConfigError, WorldModelError
from worldmodel.guardrails import Guardrails
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

    settled_below, settled_within: the scene counts as settled throughout if its first picture is below this `distance`
    from the goal's, and while the object is nearer to its place than this [m]; then the arm goes to its own pose.
    horizon: decisions looked ahead. initial_std: of the search, in units of the action. hold_margin: the arm stands
    still unless a plan lowers the energy of standing still by more than this share. warm_start: begin each search
    where the last one ended. guardrails: limits on the planned path; an environment that observes "keep_out" boxes
    [B,n,2,3] [m] adds to them. seed: of the planner, not of the episode. Further settings go to the planner.
    Raises ConfigError for a planner that does not exist.
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
        discount: float = 1.0,
        place_weight: float = 1.0,
        approach_weight: float = 0.2,
        proprio_weight: float = 0.0,
        pessimism: float = 2.0,
        settled_below: float = 1.5,
        settled_within: float = 0.01,
        hold_margin: float = 0.0,
        policy_candidates: bool = True,
        warm_start: bool = True,
        guardrails: Guardrails | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if planner not in PLANNERS:
            raise ConfigError(f"expected planner to be one of {', '.join(PLANNERS)}, got {planner!r}")
        self._model, self._horizon, self._std, self._seed = model, horizon, initial_std, seed
        self._planner = partial(PLANNERS[planner], **settings)
        self._energy = GoalEnergy(
            model.locate,
            running_weight=running_weight,
            discount=discount,
            place_weight=place_weight,
            approach_weight=approach_weight,
            proprio_weight=proprio_weight,
            pessimism=pessimism,
        )
        self._distance, self._settled = distance, (settled_below, settled_within)
        self._hold_margin, self._policy_candidates = hold_margin, policy_candidates
        self._warm_start, self._guardrails = warm_start, guardrails
        bound = torch.ones(model.config.action_dim, device=model.device())
        self._box = ActionBox(-bound, bound)
        self._generator = torch.Generator(model.device())
        self._goal: Goal | None = None
        self._belief = Belief()
        self._alike: Tensor | None = None  # bool [B]: the first picture already shows the goal's scene
        self._previous: Plan | None = None
        self._last = torch.zeros(0)  # [B,A] the executed action
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        z = self._model.encode(self._frames(goals))[:, 0]
        nothing = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self._goal = Goal(z, self._model.decode_proprio(z), self._model.locate(self._model.place(z)), nothing)
        self._belief, self._alike, self._previous, self.decision = Belief(), None, None, Decision()
        self._last = torch.zeros(len(z), self._model.config.action_dim, device=z.device)
        entropy = np.random.SeedSequence([self._seed, *(int(seed) for seed in seeds)])
        self._generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """One decision for B episodes: float32 [B,A] in [-1, 1]. Raises PlanningError where no cost is finite."""
        if self._goal is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        z = self._model.encode(self._frames(observations["pixels"]))[:, 0]
        proprio = torch.as_tensor(observations["proprio"], dtype=torch.float32, device=z.device)
        places = self._belief.update(self._model.place(z), self._model.doubt(z))
        goal = replace(self._goal, settled=self._is_settled(z, places, self._goal))

        breach = partial(self._breach, proprio, observations.get("keep_out"))

        def cost(actions: Tensor) -> Tensor:
            actions = self._lawful(actions)
            with self._precision():
                path, poses = self._model.rollout(places, proprio, actions)
            energy = self._energy(path.float(), poses.float(), goal)
            if self._guardrails is None:
                return energy
            return self._guardrails.cost(energy, breach(poses.float(), actions))

        candidates = self._candidates(z, self._goal.z)
        plan = self._planner(cost, self._proposal(len(z)), self._box, self._generator, candidates=candidates)
        plan = replace(plan, actions=self._lawful(plan.actions[:, None])[:, 0])
        still = torch.zeros_like(plan.actions)
        held = plan.cost > (1.0 - self._hold_margin) * cost(still[:, None])[:, 0]
        blocked = torch.zeros_like(held)
        if self._guardrails is not None and self._guardrails.hard:
            _, poses = self._model.rollout(places, proprio, plan.actions[:, None])
            blocked = breach(poses, plan.actions[:, None])[:, 0] > 0.0
        actions = torch.where((held | blocked)[:, None, None], still, plan.actions)
        path, poses = self._model.rollout(places, proprio, actions[:, None])
        self._belief.predict(path[:, :, 0, 0])
        self._previous, self._last = plan, actions[:, 0]
        energy = self._energy.step(places, proprio, goal)
        self.decision = Decision(energy=energy, path=poses[:, 0], held=held | blocked, blocked=blocked, plan=plan)
        return actions[:, 0].cpu().numpy().astype(np.float32)

    def _lawful(self, actions: Tensor) -> Tensor:
        """Candidates [B,K,H,A] within the limits of speed and rate, if there are any."""
        if self._guardrails is None:
            return actions
        return self._guardrails.slowed(actions, self._last, self._model.predictor.kinematics.gain)

    def _breach(self, proprio: Tensor, keep_out: np.ndarray | None, poses: Tensor, actions: Tensor) -> Tensor:
        """How far candidates [B,K,H,A] and their poses [B,K,H,P] break the guardrails and the observed boxes: [B,K]."""
        assert self._guardrails is not None
        regions = None if keep_out is None else torch.as_tensor(keep_out, dtype=poses.dtype, device=poses.device)
        return self._guardrails.breach(proprio, poses, actions, self._last, regions)

    def _is_settled(self, z: Tensor, places: Tensor, goal: Goal) -> Tensor:
        """bool [B]: nothing is left to do but to bring the arm to its own pose."""
        if self._alike is None:
            gap = latent_distance(self._distance, self._model.scene(z), self._model.scene(goal.z))
            self._alike = gap < self._settled[0]
        away = (self._model.locate(places) - goal.place).norm(dim=-1)
        settled: Tensor = self._alike | (away < self._settled[1])
        return settled

    def _precision(self) -> torch.autocast:
        """bf16 where the hardware multiplies it faster."""
        kind = self._model.device().type
        fast = kind != "cpu" or torch.cpu._is_avx512_bf16_supported()
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=fast)

    def _frames(self, frames: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(frames), device=self._model.device())[:, None]

    def _proposal(self, batch: int) -> Proposal:
        shape = (batch, self._horizon, self._model.config.action_dim)
        if self._previous is None or not self._warm_start:
            mean = torch.zeros(shape, device=self._model.device())
            return Proposal(mean, torch.full_like(mean, self._std))
        return shift(self._previous.proposal, 1, self._std)

    def _candidates(self, z: Tensor, z_goal: Tensor) -> Tensor:
        """[B,C,H,A]: standing still, the rest of the last plan, and what inverse dynamics would do all along."""
        shape = (len(z), self._horizon, self._model.config.action_dim)
        found = [torch.zeros(shape, device=z.device)]
        if self._previous is not None and self._warm_start:
            found.append(shift_actions(self._previous.actions, 1))
        if self._policy_candidates:
            action = self._model.inverse(self._model.appearance(z), self._model.appearance(z_goal)).clamp(-1.0, 1.0)
            found.append(action[:, None].expand(shape))
        return torch.stack(found, dim=1)
