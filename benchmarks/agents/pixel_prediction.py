"""The planner's search in pixel space: draw every candidate's pictures, compare the last with the goal picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from planners import ActionBox, Plan, Proposal, shift, shift_actions
from worldmodel.agent import stream
from worldmodel.baselines.pixels import PixelPredictor
from worldmodel.errors import WorldModelError
from worldmodel.types import Decision, Observations


class PixelPredictionAgent:
    """Plans in the pictures that the generator draws.

    planner: one of `planners`, its settings bound (functools.partial); called with `candidates` [B,C,H,A].
    horizon, initial_std, warm_start, seed: as for PlanningAgent. The cost is the mean squared difference of the pixels
    to the goal picture, summed over the horizon, the last step with weight 1 and the others with `running_weight`.
    """

    def __init__(
        self,
        model: PixelPredictor,
        planner: Callable[..., Plan],
        *,
        horizon: int = 8,
        initial_std: float = 0.6,
        running_weight: float = 0.3,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        self._model, self._planner, self._seed = model, planner, seed
        self._horizon, self._std, self._warm_start = horizon, initial_std, warm_start
        self._weights = [*[running_weight] * (horizon - 1), 1.0]
        bound = torch.ones(model.config.action_dim)
        self._box = ActionBox(-bound, bound)
        self._generator = torch.Generator()
        self._goals: Tensor | None = None
        self._previous: Plan | None = None
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        self._goals, self._previous, self.decision = self._model.encode(torch.from_numpy(goals)), None, Decision()
        self._generator.manual_seed(stream(self._seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A] in [-1, 1]. Raises PlanningError where no cost is finite."""
        if self._goals is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        frames = self._model.encode(torch.from_numpy(observations["pixels"]))
        proprio, goals = torch.from_numpy(observations["proprio"]).float(), self._goals

        def cost(actions: Tensor) -> Tensor:
            """[B,K,H,A] -> [B,K], one episode at a time: the pictures of all of them would not fit the caches."""
            rows = zip(frames, proprio, goals, actions, strict=True)
            return torch.stack([self._cost(*row) for row in rows])

        init, offers = self._proposal(len(frames)), self._offers(len(frames))
        plan = self._planner(cost, init, self._box, self._generator, candidates=offers)
        energy = (frames - goals).square().mean(dim=(1, 2, 3))
        path = self._path(proprio, plan.actions)
        self._previous, self.decision = plan, Decision(energy=energy, path=path, plan=plan)
        return plan.actions[:, 0].numpy()

    def _cost(self, frame: Tensor, proprio: Tensor, goal: Tensor, actions: Tensor) -> Tensor:
        """Of one episode: [3,s,s], [P], [3,s,s], [K,H,A] -> [K]."""
        candidates = len(actions)
        start = frame.expand(candidates, *frame.shape), proprio.expand(candidates, *proprio.shape)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
            drawn = self._model.rollout(*start, actions)
            errors = [(each.float() - goal).square().mean(dim=(1, 2, 3)) for each in drawn]
        return torch.stack([weight * error for weight, error in zip(self._weights, errors, strict=True)]).sum(dim=0)

    def _proposal(self, batch: int) -> Proposal:
        if self._previous is None or not self._warm_start:
            mean = torch.zeros(batch, self._horizon, self._model.config.action_dim)
            return Proposal(mean, torch.full_like(mean, self._std))
        return shift(self._previous.proposal, 1, self._std)

    def _offers(self, batch: int) -> Tensor:
        """[B,C,H,A]: standing still, and the rest of the last plan."""
        still = torch.zeros(batch, 1, self._horizon, self._model.config.action_dim)
        if self._previous is None or not self._warm_start:
            return still
        return torch.cat([still, shift_actions(self._previous.actions, 1)[:, None]], dim=1)

    def _path(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """Where the plan [B,H,A] takes the hand: [B,H,P]."""
        path = []
        for step in range(self._horizon):
            proprio = self._model.kinematics(proprio, actions[:, step])
            path.append(proprio)
        return torch.stack(path, dim=1)
