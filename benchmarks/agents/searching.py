"""What the baselines that search have in common: where a search begins, what it is offered. B episodes, C offers."""

from __future__ import annotations

from collections.abc import Callable

import torch

from planners import ActionBox, CostFn, Plan, Proposal, shift, shift_actions


class Search:
    """The memory of a receding horizon over actions in [-1, 1].

    planner: one of `planners`, its settings bound (functools.partial); called with `candidates` [B,C,H,A].
    horizon, initial_std, warm_start, seed: as for PlanningAgent. running_weight: of every step but the last.
    """

    def __init__(
        self,
        action_dim: int,
        planner: Callable[..., Plan],
        *,
        horizon: int = 8,
        initial_std: float = 0.6,
        running_weight: float = 0.3,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        self._planner, self._std, self._warm_start, self.seed = planner, initial_std, warm_start, seed
        self._shape = (horizon, action_dim)
        self.weights = torch.tensor([*[running_weight] * (horizon - 1), 1.0])  # of the steps of a plan
        bound = torch.ones(action_dim)
        self._box = ActionBox(-bound, bound)
        self.generator = torch.Generator()
        self._previous: Plan | None = None

    def begin(self, stream: int) -> None:
        """Forget the last plan; stream: the seed of what is drawn from now on."""
        self._previous = None
        self.generator.manual_seed(stream)

    def __call__(self, cost: CostFn, batch: int) -> Plan:
        """The plan for now. Raises PlanningError where no cost is finite."""
        still = torch.zeros(batch, 1, *self._shape)
        init, offers = Proposal(still[:, 0], torch.full_like(still[:, 0], self._std)), still
        if self._previous is not None and self._warm_start:
            init = shift(self._previous.proposal, 1, self._std)
            offers = torch.cat([still, shift_actions(self._previous.actions, 1)[:, None]], dim=1)
        self._previous = self._planner(cost, init, self._box, self.generator, candidates=offers)
        return self._previous
