"""Receding horizon: encode, plan in latent space, do the first action, plan again. Legend: worldmodel/types.py."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planners import ActionBox, CostFn, Plan
from planners.sampling import take
from worldmodel.belief import Belief
from worldmodel.energy import Distance, Goal, GoalEnergy, Way
from worldmodel.errors import WorldModelError
from worldmodel.guardrails import Guardrails
from worldmodel.model import WorldModel
from worldmodel.patience import Patience
from worldmodel.precision import multiplies_bf16
from worldmodel.search import CPU_SIZE, Search, stream
from worldmodel.settled import settled
from worldmodel.start import Start
from worldmodel.types import Decision, Observations

LEAVE = 2.0  # how much further than it came the object has to go before it is touched again


@dataclass(frozen=True)
class _View:
    """What the agent makes of B observations.

    z [B,N,D]: latents. places [B,N,Q]: where it believes the object to be, which `belief` would then know. keep_out:
    boxes [B,n,2,3], if any were observed. proposed: what the logs would do [B,H,A], if the search begins there.
    """

    z: Tensor
    proprio: Tensor
    places: Tensor
    belief: Belief
    goal: Goal
    keep_out: Tensor | None
    proposed: Tensor | None


class PlanningAgent:
    """Drives B episodes at once towards their goal images with one of the planners.

    settled_below: the scene counts as settled throughout if its first picture is below this `distance` from the goal's
    and shows no object elsewhere, or all where an arrived one may be; then the arm goes to its own pose. 0: no scene
    does. settled_within: an object has arrived when it is nearer to its place than this [m], until it is LEAVE times as
    far; then the arm goes to its own pose if that does not move the object, or, with rest, stands still.
    belief: where an object is, is remembered while it is hidden; False: what each picture shows is taken at its word.
    way: how far the end effector or the robot is from its own place, the straight way or the shortest along the logs;
    time_share: how much of that way, or of the objects', is measured by the decisions it takes, where the model knows.
    horizon: decisions looked ahead. initial_std: of the search, in units of the model's action, as are the limits of
    guardrails: the range of the logged actions is [-1, 1]. hold_margin: the arm stands still unless a plan lowers the
    energy of standing still by more than this share; hold_noise: and by more than so many standard deviations of what
    the members of the ensemble say it does. patience: after so many decisions that gained nothing, do what the logs
    would do for as many as are looked ahead; None: never, and never where nothing is proposed. proposal_std: begin each
    search with what the logs would do and this std, in units of the action; 0: do not. warm_start: begin it where the
    last one ended. compile_mode: of torch.compile for the cost of candidates, as "reduce-overhead", which makes CUDA
    graphs of it; None: not compiled. guardrails: limits on the planned path; an environment that observes "keep_out"
    boxes [B,n,2,3] [m] adds to them. seed: of the planner, not of the episode. Further settings go to the planner,
    but a deadline is the whole decision's, the looking included. Raises ConfigError for a planner or a setting that
    does not exist.
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
        time_share: float = 0.0,
        running_weight: float = 0.3,
        discount: float = 1.0,
        place_weight: float = 1.0,
        approach_weight: float = 0.2,
        proprio_weight: float = 0.0,
        arrived_weight: float = 0.1,
        pessimism: float = 2.0,
        settled_below: float = 1.5,
        settled_within: float = 0.02,
        belief: bool = True,
        hold_margin: float = 0.0,
        hold_noise: float = 0.0,
        rest: bool = False,
        patience: int | None = None,
        proposal_std: float = 0.0,
        policy_candidates: bool = True,
        warm_start: bool = True,
        compile_mode: str | None = None,
        guardrails: Guardrails | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self._model, self._horizon, self._seed, self._compile_mode = model, horizon, seed, compile_mode
        self._guardrails, self._patience = guardrails, Patience(patience, horizon)
        self._start = Start(model, horizon, initial_std, proposal_std, warm_start, policy_candidates)
        self._search = Search(planner, settings, CPU_SIZE if model.device().type == "cpu" else sys.maxsize)
        self._energy = GoalEnergy(
            model.locate,
            model.position,
            running_weight=running_weight,
            discount=discount,
            place_weight=place_weight,
            approach_weight=approach_weight,
            proprio_weight=proprio_weight,
            arrived_weight=arrived_weight,
            pessimism=pessimism,
            ways=model.ways(way, time_share),
        )
        self._distance, self._settled_limits = distance, (settled_below, settled_within)
        self._hold_margin, self._hold_noise, self._rest = hold_margin, hold_noise, rest
        bound = torch.ones(model.config.action_dim, device=model.device())
        self._box = ActionBox(-bound, bound)
        self._still = model.config.normalise(torch.zeros_like(bound)).clamp(-1.0, 1.0)  # [A] do not move
        self._kind, self._bf16 = model.device().type, multiplies_bf16(model.device())  # asked once: no graph can ask it
        self._generator = torch.Generator(model.device())
        self._goal: Goal | None = None
        self._belief, self._memory = Belief(belief), belief
        self._settled: Tensor | None = None  # bool [B], since the first picture
        self._waiting: list[np.ndarray] = []  # what is left of the last decision, in the units of the data
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        features = self._model.features(self._frames(goals))
        z = self._model.project(features)[:, 0]
        self._start.reset(features)
        nothing = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        place = self._model.locate(self._model.place(z))
        waiting = torch.zeros(place.shape[:-1], dtype=torch.bool, device=z.device)
        self._goal = Goal(z, self._model.decode_proprio(z), place, nothing, waiting)
        self._belief, self._settled, self.decision = Belief(self._memory), None, Decision()
        self._last, self._waiting = self._still.expand(len(z), -1), []  # [B,A] the executed action
        self._patience.reset(len(z), z.device)
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
        self._search.begin()
        view = self._look(observations)
        self._belief, self._settled, self._goal = view.belief, view.goal.settled, view.goal
        cost, candidates = self._cost(view), self._start.candidates(view.z, view.goal.z)
        start = self._start.proposal(len(view.z), view.proposed)
        plan = self._search(cost, start, self._box, self._generator, candidates)
        plan, tired = self._followed(view, cost, plan)
        plan, blocked = self._permitted(view, cost, plan)
        still = self._still.expand_as(plan.actions)
        held = plan.cost >= (1.0 - self._hold_margin) * cost(still[:, None])[:, 0]
        if self._hold_noise > 0.0:
            held = held | ~self._sure(view, plan.actions, still)
        resting = view.goal.arrived.all(dim=-1) & ~view.goal.settled
        held = (held & ~tired) | (resting & self._rest)
        # To stand still by choice keeps the limits of speed and rate; a blocked arm makes an emergency stop.
        calm = self._lawful(still[:, None])[:, 0]
        actions = torch.where(held[:, None, None], calm, plan.actions)
        actions = torch.where(blocked[:, None, None], still, actions)
        path, poses = self._model.rollout(view.places, view.proprio, actions[:, None])
        self._belief.predict(path[:, :, 0, 0])
        self._start.previous, self._last = plan, actions[:, 0]
        energy = self._energy.step(view.places, view.proprio, view.goal)
        self._patience.count(energy, resting)
        self.decision = Decision(energy, poses[:, 0], held | blocked, blocked, plan, self._guardrails)
        return actions[:, 0]

    @torch.no_grad()
    def _look(self, observations: Observations) -> _View:
        """Encode, and compare with what is believed and wanted; changes nothing."""
        if self._goal is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        model, belief = self._model, copy.copy(self._belief)
        features = model.features(self._frames(observations["pixels"]))
        z = model.project(features)[:, 0]
        seen = {
            name: torch.as_tensor(observations[name], dtype=torch.float32, device=z.device)
            for name in ("proprio", "keep_out")
            if name in observations
        }
        places = belief.update(model.place(z), model.doubt(z))
        below, within = self._settled_limits
        alike = self._settled
        if alike is None:
            alike = settled(model, z, self._goal, self._distance, below, LEAVE * within)
        reach = within * torch.where(self._goal.arrived, LEAVE, 1.0)
        arrived = (model.locate(places) - self._goal.place).norm(dim=-1) < reach
        goal = replace(self._goal, settled=alike, arrived=arrived)
        proposed = self._start.proposed(features, seen["proprio"])
        return _View(z, seen["proprio"], places, belief, goal, seen.get("keep_out"), proposed)

    def _cost(self, view: _View) -> CostFn:
        """The energy of candidates, and what breaking the guardrails costs them."""
        with self._precision():
            ensemble = self._model.ensemble(view.places.device.type)
        places, proprio = view.places[:, None], view.proprio[:, None]
        usual = self._energy.towards(view.goal, self._horizon)

        def cost(actions: Tensor) -> Tensor:
            actions = self._lawful(actions)
            with self._precision():
                path, poses = ensemble.rollout(places, proprio, actions)
            steps = actions.shape[2]
            members = usual if steps == self._horizon else self._energy.towards(view.goal, steps)
            energy = self._energy.pessimistic(members(path.float(), poses.float()))
            if self._guardrails is None:
                return energy
            return self._guardrails.cost(energy, self._breach(view, poses.float(), actions))

        if self._compile_mode is None:
            return cost
        # Every decision has a cost of its own, but all have one code, which is compiled once.
        compiled: CostFn = torch.compile(cost, mode=self._compile_mode, fullgraph=True, dynamic=False)
        return compiled

    def _followed(self, view: _View, cost: CostFn, plan: Plan) -> tuple[Plan, Tensor]:
        """The plan, or what the logs would do where the search has gained nothing for long; bool [B], it has not."""
        if view.proposed is None or not self._patience.limited:
            return plan, torch.zeros_like(plan.cost, dtype=torch.bool)
        tired = self._patience.over
        actions = torch.where(tired[:, None, None], view.proposed, plan.actions)
        return replace(plan, actions=actions, cost=torch.where(tired, cost(actions[:, None])[:, 0], plan.cost)), tired

    def _sure(self, view: _View, actions: Tensor, still: Tensor) -> Tensor:
        """bool [B]: the members agree that these actions [B,H,A] lower the energy of standing still, by their noise."""
        with self._precision():
            path, poses = self._model.rollout(view.places, view.proprio, torch.stack([actions, still], dim=1))
        members = self._energy.towards(view.goal, self._horizon)
        moved, stood = members(path.float(), poses.float()).unbind(dim=-1)
        gain = stood - moved
        sure: Tensor = gain.mean(dim=0) > self._hold_noise * gain.std(dim=0, correction=0)
        return sure

    def _lawful(self, actions: Tensor) -> Tensor:
        """Candidates [B,K,H,A] within the limits of speed and rate, if there are any."""
        if self._guardrails is None:
            return actions
        gain = self._model.position(self._model.predictor.kinematics.gain.T).T
        return self._guardrails.slowed(actions, self._last, gain)

    def _breach(self, view: _View, poses: Tensor, actions: Tensor) -> Tensor:
        """How far candidates [B,K,H,A] and their poses [B,K,H,P] break the guardrails and the observed boxes: [B,K]."""
        assert self._guardrails is not None
        start, poses = self._model.position(view.proprio), self._model.position(poses)
        return self._guardrails.breach(start, poses, actions, self._last, view.keep_out)

    def _permitted(self, view: _View, cost: CostFn, plan: Plan) -> tuple[Plan, Tensor]:
        """The plan, or the best of its elites that keeps the limits if it breaks a hard one; bool [B], none does."""
        tried = self._lawful(plan.actions[:, None])
        plan = replace(plan, actions=tried[:, 0])
        if self._guardrails is None or not self._guardrails.hard:
            return plan, torch.zeros_like(plan.cost, dtype=torch.bool)
        if plan.elites is not None:
            tried = torch.cat([tried, self._lawful(plan.elites)], dim=1)
        _, poses = self._model.rollout(view.places, view.proprio, tried)
        lawful = self._breach(view, poses, tried) == 0.0
        first = lawful.int().argmax(dim=1, keepdim=True)  # the plan itself where none is lawful
        actions = take(tried, first)
        value = torch.where(first[:, 0] > 0, cost(actions)[:, 0], plan.cost)
        return replace(plan, actions=actions[:, 0], cost=value), ~lawful.any(dim=1)

    def _precision(self) -> torch.autocast:
        """bf16 where the hardware multiplies it faster."""
        return torch.autocast(self._kind, dtype=torch.bfloat16, enabled=self._bf16)

    def _frames(self, frames: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(frames), device=self._model.device())[:, None]
