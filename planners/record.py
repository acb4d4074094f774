"""The book every planner keeps: calls of the cost, the best plan so far, the clock, and the checks at the end."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from planners.errors import kind, require
from planners.sampling import Ranked, is_finite, rank_finite, take
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
        self._cost, self._init, self._candidates = cost, init, candidates
        self._num_iterations, self._deadline, self._select = num_iterations, deadline, select
        self.box = box.like(init.mean)
        self.start = Proposal(self.box.clamp(init.mean.detach()), init.std.detach())
        self._best_actions = self.start.mean
        self._best_cost: Tensor | None = None
        self._calls = self._candidate_steps = self._iterations = 0
        self._traces: list[tuple[Tensor, Tensor, Tensor]] = []
        self._effective: list[Tensor] = []

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
        """Rank evaluated candidates and remember the best of each row."""
        ranked = rank_finite(actions, values)
        first = ranked.order[:, :1]
        cost, best = ranked.cost.gather(1, first).squeeze(1), take(actions, first).squeeze(1)
        if self._best_cost is not None:
            better = cost < self._best_cost
            cost = torch.where(better, cost, self._best_cost)
            best = torch.where(better.view(-1, 1, 1), best, self._best_actions)
        self._best_cost, self._best_actions = cost, best
        return ranked

    def close_iteration(self, ranked: Ranked, spread: Tensor, effective: Tensor | None = None) -> None:
        """Note an iteration: [B] elite spread and [B] effective sample size."""
        assert self._best_cost is not None
        # What only the diagnostics want is worked out once, at the end.
        self._traces.append((self._best_cost, spread, ranked.cost))
        if effective is not None:
            self._effective.append(effective)
        self._iterations += 1

    @property
    def best(self) -> Tensor:
        """[B,H,A], the best candidates so far."""
        return self._best_actions

    def finish(self, proposal: Proposal, elites: Tensor | None) -> Plan:
        """The plan. Raises PlanningError for a start that was not finite or a row in which no cost ever was."""
        assert self._best_cost is not None
        actions, cost = self._best_actions, self._best_cost
        if self._select == "mean":
            closing = self.evaluate(proposal.mean.unsqueeze(1)).squeeze(1)
            usable = torch.isfinite(closing)
            actions = torch.where(usable.view(-1, 1, 1), proposal.mean, actions)
            cost = torch.where(usable, closing, cost)
        self._check_finite()
        best, spread, costs = (torch.stack(trace) for trace in zip(*self._traces, strict=True))
        effective = torch.stack(self._effective) if self._effective else torch.full_like(spread, torch.nan)
        diagnostics = Diagnostics(
            cost_per_iteration=best,
            elite_spread=spread,
            finite_share=is_finite(costs).to(spread.dtype).mean(dim=2),
            effective_sample_size=effective,
            model_calls=self._calls,
            candidate_steps=self._candidate_steps,
            seconds=time.perf_counter() - self._started,
            cut=self._iterations < self._num_iterations,
        )
        return Plan(actions, cost, proposal, elites, diagnostics)

    def _check_finite(self) -> None:
        """All the checks of values, with one wait for the device."""
        assert self._best_cost is not None
        mean, std, rows = self._init.mean, self._init.std, is_finite(self._best_cost)
        given = mean if self._candidates is None else self._candidates
        legal_std = torch.isfinite(std) & (std >= 0)
        checks = [torch.isfinite(mean).all(), legal_std.all(), ~torch.isnan(given).any(), rows.all()]
        finite_mean, finite_std, finite_candidates, finite_rows = torch.stack(checks).tolist()
        where, how = self.planner, "mend what the plan starts from"
        require(finite_mean, where, "a finite mean in init", "NaN or infinity", how)
        require(finite_std, where, "a finite std >= 0 in init", "a negative number, NaN or infinity", how)
        require(finite_candidates, where, "candidates that are numbers", "NaN", how)
        if not finite_rows:
            listed = ", ".join(str(row) for row in (~rows).nonzero().flatten().tolist())
            expected = "a finite cost for at least one candidate of each row"
            how = "look for NaN or infinity in what the cost computes with"
            require(False, where, expected, f"none in row {listed} of {len(rows)}", how)


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
