"""The planner's search in DreamerV3's world model, towards the posterior of the goal picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.agents.dreamer import draw_seed
from benchmarks.agents.searching import Search
from planners import Plan
from worldmodel.baselines.dreamer_policy import DreamerBaseline
from worldmodel.errors import WorldModelError
from worldmodel.search import stream
from worldmodel.types import Decision, Observations


class DreamerPlanningAgent:
    """Plans in what the world model imagines; it is told no pose, neither its own nor the goal's.

    The settings are those of Search. The cost is the mean squared difference of what the model's `compare` names,
    summed over the horizon: the class probabilities of the stochastic state, or what is decoded of it.
    """

    def __init__(self, model: DreamerBaseline, planner: Callable[..., Plan], **settings: Any) -> None:
        self._model, self._search = model, Search(model.config.action_dim, planner, **settings)
        self._goals: Tensor | None = None
        self.decision = Decision()

    @torch.no_grad()
    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Begin B episodes: goals uint8 [B,S,S,3]. Forgets the last plan."""
        seen = self._model.see(torch.from_numpy(goals))
        if self._model.config.compare == "decoded":
            self._goals = seen.float() / 255.0 if self._model.dreamer.images else symlog(seen)
        else:
            self._goals = self._model.dreamer.posterior({"now": seen}).cpu()
        self._model.dreamer.begin(len(goals))
        self.decision = Decision()
        self._search.begin(stream(self._search.seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A] within the range of the logs. Raises PlanningError where no cost is finite."""
        if self._goals is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        dreamer, goals = self._model.dreamer, self._goals
        with torch.random.fork_rng(devices=[]):  # sheeprl draws from the global generator
            torch.manual_seed(draw_seed(self._search.generator))
            dreamer.act({"now": self._model.see(torch.from_numpy(observations["pixels"]))}, greedy=True)
            deter, stoch = dreamer.state()

            def cost(actions: Tensor) -> Tensor:
                """[B,K,H,A] -> [B,K]."""
                rows = zip(deter, stoch, goals, actions, strict=True)
                return torch.stack([self._errors(*row) @ self._search.weights for row in rows])

            plan = self._search(cost, len(goals))
        dreamer.instead(plan.actions[:, 0])
        self.decision = Decision(plan=plan)
        return self._model.config.denormalise(plan.actions[:, 0]).numpy()

    def _errors(self, deter: Tensor, stoch: Tensor, goal: Tensor, actions: Tensor) -> Tensor:
        """Of one episode: its state [R], [G], the goal, [K,H,A] -> [K,H]."""
        start = deter.expand(len(actions), -1), stoch.expand(len(actions), -1)
        path, expected = self._model.dreamer.imagine(start, actions)
        if self._model.config.compare == "decoded":
            expected = self._model.dreamer.decode(path, expected)["now"]
        return (expected.cpu() - goal).square().flatten(2).mean(dim=2)


def symlog(values: Tensor) -> Tensor:
    """sign(x) log(1 + |x|), in which DreamerV3 predicts vectors."""
    return values.sign() * values.abs().log1p()
