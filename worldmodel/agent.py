"""Receding horizon: encode, plan in latent space, do the first action, plan again. Legend: worldmodel/types.py."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import planners
from planners import ActionBox, CostFn, Plan, Proposal, shift
from planners.receding import shift_actions
from worldmodel.belief import Belief
from worldmodel.energy import Distance, Goal, GoalEnergy, Way, latent_distance
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

LEAVE = 2.0  # how much further than it came the object has to go before it is touched again


@dataclass(frozen=True)
class _View:
    """What the agent makes of B observations.

    z [B,N,D]: latents. places [B,N,Q]: where it believes the object to be, which `belief` would then know. alike: bool
    [B], the first picture already shows the goal's scene. keep_out: boxes [B,n,2,3], if any were observed.
    """

    z: Tensor
    proprio: Tensor
    places: Tensor
    belief: Belief
    alike: Tensor
    goal: Goal
    keep_out: Tensor | None


class PlanningAgent:
    """Drives B episodes at once towards their goal images with one of the planners.

    settled_below: the scene counts as settled throughout if its first picture is below this `distance` from the goal's;
    then the arm goes to its own pose. settled_within: the object has arrived when it is nearer to its place than this
    [m], until it is LEAVE times as far; then the arm goes to its own pose if that does not move the object.
    way: how far the end effector or the robot is from its own place, the straight way or the shortest along the logs.
    horizon: decisions looked ahead. initial_std: of the search, in units of the model's action, as are the limits of
    guardrails: the range of the logged actions is [-1, 1]. hold_margin: the arm stands
    still unless a plan lowers the energy of standing still by more than this share. warm_start: begin each search
    where the last one ended. guardrails: limits on the planned path; an environment that observes "keep_out" boxes
    [B,n,2,3] [m] adds to them. seed: of the planner, not of the episode. Further settings go to the planner.
    Raises ConfigError for a planner or a setting that does not exist.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: str = "cem",
        *,
        horizon: int = 8,
        initial_std: float = 0.6,
        distance: Distance = "l2",
        way: Way = "straight",
        running_weight: float = 0.3,
        discount: float = 1.0,
        place_weight: float = 1.0,
        approach_weight: float = 0.2,
        proprio_weight: float = 0.0,
        arrived_weight: float = 0.1,
        pessimism: float = 2.0,
        settled_below: float = 1.5,
        settled_within: float = 0.02,
        hold_margin: float = 0.0,
        policy_candidates: bool = True,
        warm_start: bool = True,
        guardrails: Guardrails | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if planner not in PLANNERS:
            raise ConfigError(f"expected planner to be one of {', '.join(PLANNERS)}, got {planner!r}")
        require_known(planner, settings)
        self._model, self._horizon, self._std, self._seed = model, horizon, initial_std, seed
        self._planner = partial(PLANNERS[planner], **settings)
        self._energy = GoalEnergy(
            model.locate,
            running_weight=running_weight,
            discount=discount,
            place_weight=place_weight,
            approach_weight=approach_weight,
            proprio_weight=proprio_weight,
            arrived_weight=arrived_weight,
            pessimism=pessimism,
            way=model.way(way),
        )
        self._distance, self._settled = distance, (settled_below, settled_within)
        self._hold_margin, self._policy_candidates = hold_margin, policy_candidates
        self._warm_start, self._guardrails = warm_start, guardrails
        bound = torch.ones(model.config.action_dim, device=model.device())
        self._box = ActionBox(-bound, bound)
        self._still = model.config.normalise(torch.zeros_like(bound)).clamp(-1.0, 1.0)  # [A] do not move
        self._generator = torch.Generator(model.device())
        self._goal: Goal | None = None
        self._belief = Belief()
        self._alike: Tensor | None = None
        self._previous: Plan | None = None
        self._last = torch.zeros(0)  # [B,A] the executed action
        self._waiting: list[np.ndarray] = []  # what is left of the last decision, in the units of the data
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        z = self._model.encode(self._frames(goals))[:, 0]
        nothing = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        place = self._model.locate(self._model.place(z))
        self._goal = Goal(z, self._model.decode_proprio(z), place, nothing, nothing)
        self._belief, self._alike, self._previous, self.decision = Belief(), None, None, Decision()
        self._last, self._waiting = self._still.expand(len(z), -1), []
        self._generator.manual_seed(stream(self._seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """One action for B episodes, float32 [B,A / k] in the units of the data, where k is the model's frame skip.

        Looks and plans at every k-th call; the calls in between hand out the rest of the decision, and `decision` is
        empty. Raises PlanningError where no cost is finite.
        """
        if self._waiting:
            self.decision = Decision()
        else:
            config = self._model.config
            actions = config.denormalise(self._decide(observations)).cpu().numpy().astype(np.float32)
            self._waiting = np.split(actions, config.frame_skip, axis=1)
        return self._waiting.pop(0)

    def cost(self, observations: Observations) -> CostFn:
        """What `act` would minimise if it planned for these observations, which it does not take note of.

        The candidates [B,K,H,A] are in the model's units; any K and H will do. Differentiable in them. Raises
        WorldModelError before a reset.
        """
        return self._cost(self._look(observations))

    def _decide(self, observations: Observations) -> Tensor:
        """Look, plan, and choose the model's action [B,A] for now."""
        view = self._look(observations)
        self._belief, self._alike, self._goal = view.belief, view.alike, view.goal
        cost, candidates = self._cost(view), self._candidates(view.z, view.goal.z)
        plan = self._planner(cost, self._proposal(len(view.z)), self._box, self._generator, candidates=candidates)
        plan = replace(plan, actions=self._lawful(plan.actions[:, None])[:, 0])
        still = self._still.expand_as(plan.actions)
        held = plan.cost > (1.0 - self._hold_margin) * cost(still[:, None])[:, 0]
        blocked = torch.zeros_like(held)
        if self._guardrails is not None and self._guardrails.hard:
            _, poses = self._model.rollout(view.places, view.proprio, plan.actions[:, None])
            blocked = self._breach(view, poses, plan.actions[:, None])[:, 0] > 0.0
        actions = torch.where((held | blocked)[:, None, None], still, plan.actions)
        path, poses = self._model.rollout(view.places, view.proprio, actions[:, None])
        self._belief.predict(path[:, :, 0, 0])
        self._previous, self._last = plan, actions[:, 0]
        energy = self._energy.step(view.places, view.proprio, view.goal)
        self.decision = Decision(energy=energy, path=poses[:, 0], held=held | blocked, blocked=blocked, plan=plan)
        return actions[:, 0]

    @torch.no_grad()
    def _look(self, observations: Observations) -> _View:
        """Encode, and compare with what is believed and wanted; changes nothing."""
        if self._goal is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        model, belief = self._model, copy.copy(self._belief)
        z = model.encode(self._frames(observations["pixels"]))[:, 0]
        seen = {
            name: torch.as_tensor(observations[name], dtype=torch.float32, device=z.device)
            for name in ("proprio", "keep_out")
            if name in observations
        }
        places = belief.update(model.place(z), model.doubt(z))
        alike = self._alike
        if alike is None:
            gap = latent_distance(self._distance, model.scene(z), model.scene(self._goal.z))
            alike = gap < self._settled[0]
        reach = self._settled[1] * torch.where(self._goal.arrived, LEAVE, 1.0)
        arrived = (model.locate(places) - self._goal.place).norm(dim=-1) < reach
        goal = replace(self._goal, settled=alike, arrived=arrived)
        return _View(z, seen["proprio"], places, belief, alike, goal, seen.get("keep_out"))

    def _cost(self, view: _View) -> CostFn:
        """The energy of candidates, and what breaking the guardrails costs them."""

        def cost(actions: Tensor) -> Tensor:
            actions = self._lawful(actions)
            with self._precision():
                path, poses = self._model.rollout(view.places, view.proprio, actions)
            energy = self._energy(path.float(), poses.float(), view.goal)
            if self._guardrails is None:
                return energy
            return self._guardrails.cost(energy, self._breach(view, poses.float(), actions))

        return cost

    def _lawful(self, actions: Tensor) -> Tensor:
        """Candidates [B,K,H,A] within the limits of speed and rate, if there are any."""
        if self._guardrails is None:
            return actions
        return self._guardrails.slowed(actions, self._last, self._model.predictor.kinematics.gain)

    def _breach(self, view: _View, poses: Tensor, actions: Tensor) -> Tensor:
        """How far candidates [B,K,H,A] and their poses [B,K,H,P] break the guardrails and the observed boxes: [B,K]."""
        assert self._guardrails is not None
        return self._guardrails.breach(view.proprio, poses, actions, self._last, view.keep_out)

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
        found = [self._still.expand(shape)]
        if self._previous is not None and self._warm_start:
            found.append(shift_actions(self._previous.actions, 1))
        if self._policy_candidates:
            action = self._model.inverse(self._model.appearance(z), self._model.appearance(z_goal)).clamp(-1.0, 1.0)
            found.append(action[:, None].expand(shape))
        return torch.stack(found, dim=1)


def stream(*seeds: int) -> int:
    """The seed of a planner's generator for these seeds, its own and the episodes': far apart for neighbours."""
    entropy = np.random.SeedSequence([int(seed) for seed in seeds])
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def require_known(planner: str, settings: Iterable[str]) -> None:
    """Raise ConfigError for a setting that the planner does not have, or that is not for the user to give."""
    parameters = inspect.signature(PLANNERS[planner]).parameters.values()
    known = sorted({item.name for item in parameters if item.kind is item.KEYWORD_ONLY} - {"candidates"})
    for name in settings:
        if name not in known:
            raise ConfigError(f"expected a setting of PlanningAgent or of {planner} ({', '.join(known)}), got {name!r}")
