"""The planner's search in pixel space: draw every candidate's pictures, compare the last with the goal picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.agents.searching import Search
from planners import Plan
from worldmodel.baselines.pixels import PixelPredictor
from worldmodel.errors import WorldModelError
from worldmodel.precision import mixed_precision
from worldmodel.search import stream
from worldmodel.types import Decision, Observations


class PixelPredictionAgent:
    """Plans in the pictures that the generator draws.

    The settings are those of Search. The cost is the mean squared difference of the pixels to the goal picture, summed
    over the horizon, the last step with weight 1 and the others with `running_weight`.
    """

    def __init__(self, model: PixelPredictor, planner: Callable[..., Plan], **settings: Any) -> None:
        self._model, self._search = model, Search(model.config.action_dim, planner, **settings)
        self._goals: Tensor | None = None
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        self._goals, self.decision = self._model.encode(torch.from_numpy(goals)), Decision()
        self._search.begin(stream(self._search.seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A] within the range of the logs. Raises PlanningError where no cost is finite."""
        if self._goals is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        frames = self._model.encode(torch.from_numpy(observations["pixels"]))
        proprio, goals = torch.from_numpy(observations["proprio"]).float(), self._goals

        def cost(actions: Tensor) -> Tensor:
            """[B,K,H,A] -> [B,K], one episode at a time: the pictures of all of them would not fit the caches."""
            rows = zip(frames, proprio, goals, actions, strict=True)
            return torch.stack([self._cost(*row) for row in rows])

        plan = self._search(cost, len(frames))
        energy = (frames - goals).square().mean(dim=(1, 2, 3))
        self.decision = Decision(energy=energy, path=self._path(proprio, plan.actions), plan=plan)
        return self._model.config.denormalise(plan.actions[:, 0]).numpy()

    def _cost(self, frame: Tensor, proprio: Tensor, goal: Tensor, actions: Tensor) -> Tensor:
        """Of one episode: [3,s,s], [P], [3,s,s], [K,H,A] -> [K]."""
        candidates = len(actions)
        start = frame.expand(candidates, *frame.shape), proprio.expand(candidates, *proprio.shape)
        with mixed_precision(actions.device):
            drawn = self._model.rollout(*start, actions)
            errors = [(each.float() - goal).square().mean(dim=(1, 2, 3)) for each in drawn]
        return torch.stack([weight * error for weight, error in zip(self._search.weights, errors, strict=True)]).sum(
            dim=0
        )

    def _path(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """Where the plan [B,H,A] takes the hand: [B,H,P]."""
        path = []
        for action in actions.unbind(dim=1):
            proprio = self._model.kinematics(proprio, action)
            path.append(proprio)
        return torch.stack(path, dim=1)
