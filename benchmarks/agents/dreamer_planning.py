"""The planner's search in DreamerV3's world model, towards the posterior of the goal picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.agents.dreamer import draw_seed
from planners import ActionBox, Plan, Proposal, shift, shift_actions
from worldmodel.agent import stream
from worldmodel.baselines.dreamer_policy import DreamerBaseline
from worldmodel.errors import WorldModelError
from worldmodel.types import Decision, Observations


class DreamerPlanningAgent:
    """Plans in what the world model imagines; it is told no pose, neither its own nor the goal's.

    planner: one of `planners`, its settings bound (functools.partial); called with `candidates` [B,C,H,A].
    horizon, initial_std, running_weight, warm_start, seed: as for PixelPredictionAgent. The cost is the mean squared
    difference of what the model's `compare` names, summed over the horizon: the class probabilities of the stochastic
    state, or what is decoded of it.
    """

    def __init__(
        self,
        model: DreamerBaseline,
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
        self._weights = torch.tensor([*[running_weight] * (horizon - 1), 1.0])
        bound = torch.ones(model.config.action_dim)
        self._box = ActionBox(-bound, bound)
        self._generator = torch.Generator()
        self._goals: Tensor | None = None
        self._previous: Plan | None = None
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
        self._previous, self.decision = None, Decision()
        self._generator.manual_seed(stream(self._seed, *seeds))

    @torch.no_grad()
    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A] in [-1, 1]. Raises PlanningError where no cost is finite."""
        if self._goals is None:
            raise WorldModelError("expected reset before act, got no goal: call agent.reset(goals, seeds) first")
        dreamer, goals = self._model.dreamer, self._goals
        with torch.random.fork_rng(devices=[]):  # sheeprl draws from the global generator
            torch.manual_seed(draw_seed(self._generator))
            dreamer.act({"now": self._model.see(torch.from_numpy(observations["pixels"]))}, greedy=True)
            deter, stoch = dreamer.state()

            def cost(actions: Tensor) -> Tensor:
                """[B,K,H,A] -> [B,K]."""
                rows = zip(deter, stoch, goals, actions, strict=True)
                return torch.stack([self._errors(*row) @ self._weights for row in rows])

            init, offers = self._proposal(len(goals)), self._offers(len(goals))
            plan = self._planner(cost, init, self._box, self._generator, candidates=offers)
        dreamer.instead(plan.actions[:, 0])
        self._previous, self.decision = plan, Decision(plan=plan)
        return plan.actions[:, 0].numpy()

    def _errors(self, deter: Tensor, stoch: Tensor, goal: Tensor, actions: Tensor) -> Tensor:
        """Of one episode: its state [R], [G], the goal, [K,H,A] -> [K,H]."""
        start = deter.expand(len(actions), -1), stoch.expand(len(actions), -1)
        path, expected = self._model.dreamer.imagine(start, actions)
        if self._model.config.compare == "decoded":
            expected = self._model.dreamer.decode(path, expected)["now"]
        return (expected.cpu() - goal).square().flatten(2).mean(dim=2)

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


def symlog(values: Tensor) -> Tensor:
    """sign(x) log(1 + |x|), in which DreamerV3 predicts vectors."""
    return values.sign() * values.abs().log1p()
