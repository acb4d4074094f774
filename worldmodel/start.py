"""Where a search begins: at what the logs would do, at the last plan, or around no action.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planners import Plan, Proposal, shift
from planners.receding import shift_actions
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel


class Start:
    """What the search for a plan of `horizon` decisions begins with, for B episodes.

    previous: the last plan, None before the first. std: of a search that does not begin with a proposal; proposal_std,
    warm, policy_candidates: `proposal_std`, `warm_start` and `policy_candidates` of PlanningAgent. Raises ConfigError
    for a proposal_std above 0 where the model proposes nothing.
    """

    def __init__(
        self,
        model: WorldModel,
        horizon: int,
        std: float,
        proposal_std: float,
        warm: bool,
        policy_candidates: bool,
    ) -> None:
        if proposal_std > 0.0 and model.proposer is None:
            got = f"{proposal_std:g}: leave it out, or train with predictor.proposal_steps above 0"
            raise ConfigError(f"expected proposal_std=0 for a model that proposes nothing, got {got}")
        self._model, self._horizon = model, horizon
        self._std, self._proposal_std = std, proposal_std
        self._warm, self._policy_candidates = warm, policy_candidates
        self._proposer = model.proposer if proposal_std > 0.0 else None
        self._still = model.config.normalise(torch.zeros(model.config.action_dim, device=model.device())).clamp(-1, 1)
        self._wanted = torch.zeros(0)  # [B,W] what the proposer sees in the goal image
        self.previous: Plan | None = None

    def reset(self, features: Tensor) -> None:
        """Begin B episodes, from the features [B,1,M,F] of their goal images. Forgets the last plan."""
        self.previous = None
        if self._proposer is not None:
            self._wanted = self._proposer.see(features)[:, 0]

    def proposed(self, features: Tensor, proprio: Tensor) -> Tensor | None:
        """What the logs would do [B,H,A] and then stand still, from features [B,1,M,F]; None: that is not asked."""
        if self._proposer is None:
            return None
        found = self._proposer(self._proposer.see(features)[:, 0], self._wanted, proprio)[:, : self._horizon]
        still = self._still.expand(len(found), self._horizon - found.shape[1], -1)
        return torch.cat([found.clamp(-1.0, 1.0), still], dim=1)

    def proposal(self, batch: int, proposed: Tensor | None) -> Proposal:
        """Mean and std [B,H,A] of the first samples."""
        if proposed is not None:
            return Proposal(proposed, torch.full_like(proposed, self._proposal_std))
        if self.previous is None or not self._warm:
            mean = torch.zeros(batch, self._horizon, len(self._still), device=self._still.device)
            return Proposal(mean, torch.full_like(mean, self._std))
        return shift(self.previous.proposal, 1, self._std)

    def candidates(self, z: Tensor, z_goal: Tensor) -> Tensor:
        """[B,C,H,A]: standing still, the rest of the last plan, and what inverse dynamics would do all along."""
        shape = (len(z), self._horizon, len(self._still))
        found = [self._still.expand(shape)]
        if self.previous is not None and self._warm:
            found.append(shift_actions(self.previous.actions, 1))
        if self._policy_candidates:
            action = self._model.inverse(self._model.appearance(z), self._model.appearance(z_goal)).clamp(-1.0, 1.0)
            found.append(action[:, None].expand(shape))
        return torch.stack(found, dim=1)
