"""The book every planner keeps: calls of the cost, the best plan so far, the clock, and the checks at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from planners.errors import kind, require
from planners.sampling import Ranked, elect, is_finite, rank_finite
from planners.types import ActionBox, CostFn, Diagnostics, Plan, Proposal, Select


class Record:
    """One plan in the making. Nothing here waits for the device, save the clock of a deadline and `finish`."""

    def __init__(
        self,
        planner: str,
        cost: CostFn,
        init: Proposal,
        box: ActionBox,
        generator: torch.Generator,
        *,
        num_samples: int,
        num_iterations: int,
        candidates: Tensor | None,
        select: Select,
        deadline: float | None,
    ) -> None:
        """Check the boundary, start the clock. Raises PlanningError."""
        self._started = self._mark = time.perf_counter()
        self.planner = planner
        _check_problem(planner, init, box, generator)
        _check_settings(planner, num_samples, num_iterations, select, deadline)
        _check_candidates(planner, candidates, init, num_samples)
        self._cost, self._init = cost, init
        self.num_samples, self.candidates = num_samples, candidates
        self._num_iterations, self._deadline, self._select = num_iterations, deadline, select
        self.box = box.like(init.mean)
        self.start = Proposal(self.box.clamp(init.mean.detach()), init.std.detach())
        self._calls = self._candidate_steps = self._iterations = 0
        self._ranked: list[Ranked] = []
        self._spread: list[Tensor] = []
        self._weights: list[Tensor] = []

    def another(self) -> bool:
        """Whether to start an iteration: the first always, then while some are left and the next fits the deadline."""
        if self._iterations == 0 or self._iterations == self._num_iterations or self._deadline is None:
            return self._iterations < self._num_iterations
        device = self.start.mean.device
        if device.type != "cpu":
            torch.accelerator.current_stream(device).synchronize()
        now = time.perf_counter()
        # One more call closes a plan that returns the mean; an iteration is an upper bound for it.
        needed = (now - self._mark) * (2 if self._select == "mean" else 1)
        self._mark = now
        return now - self._started + needed <= self._deadline

    def evaluate(self, actions: Tensor) -> Tensor:
        """Call the cost for [B,K,H,A]; [B,K] as it came. Raises PlanningError unless it is one number per candidate."""
        rows, count, horizon, _ = actions.shape
        values = self._cost(actions)
        self._calls += 1
        self._candidate_steps += rows * count * horizon
        legal = isinstance(values, Tensor) and values.shape == (rows, count) and values.is_floating_point()
        if legal and values.device == actions.device:
            return values
        expected = f"a floating point cost [B,K] = [{rows}, {count}] on {actions.device}"
        how = "return one number for each candidate"
        require(False, self.planner, expected, kind(values), how)
        return values

    def rank(self, actions: Tensor, values: Tensor) -> Ranked:
        """Rank evaluated candidates and remember them."""
        ranked = rank_finite(actions, values)
        self._ranked.append(ranked)
        return ranked

    def close_iteration(self, spread: Tensor, weights: Tensor | None = None) -> None:
        """Note an iteration: the std [B,H,A] of its elites and, where there are such, the candidates' weights [B,K]."""
        # What only the plan and its diagnostics want is worked out once, at the end.
        self._spread.append(spread)
        if weights is not None:
            self._weights.append(weights)
        self._iterations += 1

    def best(self) -> tuple[Tensor, Tensor]:
        """The best candidates so far [B,H,A] and their costs [B]; of equal ones the first."""
        lowest = torch.stack([ranked.ascending[:, 0] for ranked in self._ranked])
        first = torch.stack([ranked.order[:, 0] for ranked in self._ranked])
        turn = torch.sort(lowest, dim=0, stable=True).indices[0]
        row = torch.arange(len(turn), device=turn.device)
        actions = torch.stack([ranked.actions for ranked in self._ranked])
        return actions[turn, row, first[turn, row]], lowest[turn, row]

    def finish(self, proposal: Proposal, pools: Sequence[Ranked], num_elites: int) -> Plan:
        """The plan, and of the last of the pools in which a cost was finite the best num_elites, row by row.

        Raises PlanningError for a start that was not finite or a row in which no cost ever was.
        """
        actions, cost = self.best()
        elites, elite_cost = elect(pools[-1], num_elites)
        if not self._check_finite(is_finite(cost), is_finite(elite_cost[:, 0])):
            elites = _last_alive(pools, num_elites)
        if self._select == "mean":
            closing = self.evaluate(proposal.mean.unsqueeze(1)).squeeze(1)
            usable = torch.isfinite(closing)
            actions = torch.where(usable.view(-1, 1, 1), proposal.mean, actions)
            cost = torch.where(usable, closing, cost)
        costs = torch.stack([ranked.ascending for ranked in self._ranked])
        spread = torch.stack(self._spread).mean(dim=(2, 3))
        diagnostics = Diagnostics(
            cost_per_iteration=costs[:, :, 0].cummin(dim=0).values,
            elite_spread=spread,
            finite_share=is_finite(costs).to(spread.dtype).mean(dim=2),
            effective_sample_size=self._effective(spread),
            model_calls=self._calls,
            candidate_steps=self._candidate_steps,
            seconds=time.perf_counter() - self._started,
            cut=self._iterations < self._num_iterations,
        )
        return Plan(actions, cost, proposal, elites, diagnostics)

    def _effective(self, like: Tensor) -> Tensor:
        """Effective sample size [I,B]; 0 in a row without a finite cost, whose weights are 0; NaN without weights."""
        if not self._weights:
            return torch.full_like(like, torch.nan)
        squares = torch.stack(self._weights).square().sum(dim=2)
        return torch.where(squares > 0, squares.reciprocal(), 0.0)

    def _check_finite(self, rows: Tensor, alive: Tensor) -> bool:
        """All the checks of values, with one wait for the device, and whether all are alive.

        rows: bool [B], those with a finite cost. alive: bool [B], those with one in the end.
        """
        mean, std = self._init.mean, self._init.std
        given = mean if self.candidates is None else self.candidates
        legal_std = torch.isfinite(std) & (std >= 0)
        checks = [torch.isfinite(mean).all(), legal_std.all(), ~torch.isnan(given).any(), rows.all(), alive.all()]
        finite_mean, finite_std, finite_candidates, finite_rows, finite_end = torch.stack(checks).tolist()
        where, how = self.planner, "mend what the plan starts from"
        require(finite_mean, where, "a finite mean in init", "NaN or infinity", how)
        require(finite_std, where, "a finite std >= 0 in init", "a negative number, NaN or infinity", how)
        require(finite_candidates, where, "candidates that are numbers", "NaN", how)
        if not finite_rows:
            listed = ", ".join(str(row) for row in (~rows).nonzero().flatten().tolist())
            expected = "a finite cost for at least one candidate of each row"
            how = "look for NaN or infinity in what the cost computes with"
            require(False, where, expected, f"none in row {listed} of {len(rows)}", how)
        return bool(finite_end)


def _last_alive(pools: Sequence[Ranked], count: int) -> Tensor:
    """The best `count` [B,E,H,A] of each row's last pool in which a cost was finite."""
    elites, _ = elect(pools[0], count)
    for pool in pools[1:]:
        later, cost = elect(pool, count)
        elites = torch.where(is_finite(cost[:, 0]).view(-1, 1, 1, 1), later, elites)
    return elites


def _check_problem(where: str, init: Proposal, box: ActionBox, generator: torch.Generator) -> None:
    dims, device = init.mean.shape[-1], init.mean.device
    got = f"{len(box.low)} bounds for {dims} dims"
    require(len(box.low) == dims, where, "one pair of bounds for each action dim", got, "match box and init")
    expected, how = f"a generator on {device}", "make it with torch.Generator(device=mean.device)"
    require(generator.device.type == device.type, where, expected, f"one on {generator.device}", how)


def _check_settings(where: str, num_samples: int, num_iterations: int, select: str, deadline: float | None) -> None:
    require(num_samples >= 1, where, "num_samples >= 1", num_samples, "the mean itself is the first sample")
    require(num_iterations >= 1, where, "num_iterations >= 1", num_iterations, "one iteration is the least")
    require(select in ("best", "mean"), where, 'select "best" or "mean"', repr(select), "choose one of the two")
    legal = deadline is None or deadline >= 0
    require(legal, where, "a deadline >= 0 [s], or None", deadline, "0 runs one iteration")


def _check_candidates(where: str, candidates: Tensor | None, init: Proposal, num_samples: int) -> None:
    if candidates is None:
        return
    mean = init.mean
    shaped = candidates.dim() == 4 and (candidates.shape[0], *candidates.shape[2:]) == tuple(mean.shape)
    same = shaped and candidates.dtype == mean.dtype and candidates.device == mean.device
    rows, horizon, dims = mean.shape
    expected = f"candidates [B,C,H,A] = [{rows}, C, {horizon}, {dims}] like init"
    require(same, where, expected, kind(candidates), "one set of sequences for each row")
    room, count = num_samples - 1, candidates.shape[1]
    require(count <= room, where, f"at most num_samples - 1 = {room} candidates", count, "raise num_samples")
