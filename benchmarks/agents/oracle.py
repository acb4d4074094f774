"""The same planner with the true simulator as its model and the true distance as its cost: the planner's ceiling."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.episode import MakeEnv
from planners import ActionBox, Diagnostics, Plan, Proposal, shift, shift_actions
from worldmodel.search import stream
from worldmodel.types import Decision, Observations

MIRROR_TOLERANCE = 1e-5  # [m] a copy further away than this is not a copy


class _Mirror:
    """A private copy of one episode's environment, kept in step with the real one by executing the same actions."""

    def __init__(self, make_env: MakeEnv) -> None:
        self.env = make_env()
        self.lost, self.distance = False, float("nan")
        self._proprio = np.zeros(0)

    def reset(self, seed: int) -> None:
        observation, info = self.env.reset(seed=seed)
        self.lost, self.distance = False, float(info["distance"])
        self._proprio = np.array(observation["proprio"], copy=True)

    def compare(self, proprio: np.ndarray) -> None:
        """Notice when the real episode is no longer this one (it failed, or the copy did)."""
        self.lost = self.lost or not np.allclose(proprio, self._proprio, rtol=0, atol=MIRROR_TOLERANCE)

    def step(self, action: np.ndarray) -> None:
        observation, _, terminated, _, info = self.env.step(action)
        self.lost, self.distance = bool(terminated), float(info["distance"])
        self._proprio = np.array(observation["proprio"], copy=True)

    def path(self, actions: np.ndarray) -> np.ndarray:
        """Where the end effector goes under the plan [H,A]: float64 [H,3] [m]; the state is put back."""
        inner: Any = self.env.unwrapped
        state = inner.get_state()
        try:
            return np.stack([inner.step(action)[0]["proprio"][:3].astype(np.float64) for action in actions])
        finally:
            inner.set_state(state)


class OracleAgent:
    """Plans in private copies of the task.

    make_env: makes the very environment that is evaluated, with the same options.
    planner: one of `planners`, its settings bound (functools.partial); called with `candidates` [1,C,H,A].
    horizon: H. initial_std: of the proposal, in units of the action. paths: also report planned positions, for videos.
    rest: distance from the goal below which it stands still and does not search [m].

    The cost sums the true task cost over the horizon, the last step with weight 1 and the others with `running_weight`.
    Every episode has its own generator, so its plans do not depend on what runs beside it. Where the copy is no longer
    the episode, the action is NaN, which the evaluation counts as a failure.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        planner: Callable[..., Plan],
        *,
        horizon: int,
        initial_std: float = 0.6,
        running_weight: float = 0.3,
        rest: float = 0.0,
        seed: int = 0,
        paths: bool = False,
    ) -> None:
        self._make_env, self._planner = make_env, planner
        self._horizon, self._initial_std, self._paths, self._seed = horizon, initial_std, paths, seed
        self._rest = rest
        self._weights = np.full(horizon, running_weight)
        self._weights[-1] = 1.0
        self._mirrors: list[_Mirror] = []
        self._plans: list[Plan | None] = []
        self._generators: list[torch.Generator] = []
        self.decision = Decision()

    def reset(self, goals: np.ndarray, seeds: Sequence[int]) -> None:
        """Reset one private copy per episode seed; the goal images are not looked at."""
        while len(self._mirrors) < len(seeds):
            self._mirrors.append(_Mirror(self._make_env))
        for mirror, seed in zip(self._mirrors, seeds, strict=False):
            mirror.reset(seed)
        self._generators = [torch.Generator().manual_seed(stream(self._seed, seed)) for seed in seeds]
        self._plans = [None] * len(seeds)
        self.decision = Decision()

    def act(self, observations: Observations) -> np.ndarray:
        """float32 [B,A] in [-1, 1]. Raises PlanningError."""
        actions, paths, plans = [], [], []
        for index, proprio in enumerate(observations["proprio"]):
            mirror = self._mirrors[index]
            mirror.compare(proprio)
            action, path = self._decide(index, mirror)
            actions.append(action)
            paths.append(path)
            plan = self._plans[index]
            if plan is not None:
                plans.append(plan)
        self.decision = Decision(
            path=torch.from_numpy(np.stack(paths)) if self._paths else None,
            plan=_joined(plans) if len(plans) == len(actions) else None,
        )
        return np.stack(actions)

    def close(self) -> None:
        """Close the private copies."""
        for mirror in self._mirrors:
            with contextlib.suppress(Exception):
                mirror.env.close()
        self._mirrors = []

    def _decide(self, index: int, mirror: _Mirror) -> tuple[np.ndarray, np.ndarray]:
        low, high = self._bounds(mirror)
        path = np.full((self._horizon, 3), np.nan)
        if mirror.lost:
            self._plans[index] = None
            return np.full(low.shape, np.nan, np.float32), path
        if mirror.distance < self._rest:
            self._plans[index] = None
            mirror.step(np.zeros_like(low))
            return np.zeros_like(low), path
        plan = self._plan(index, mirror, ActionBox(torch.from_numpy(low), torch.from_numpy(high)))
        self._plans[index] = plan
        actions = plan.actions[0].numpy()
        if self._paths:
            path = mirror.path(actions)
        mirror.step(actions[0])
        return actions[0].astype(np.float32), path

    def _plan(self, index: int, mirror: _Mirror, box: ActionBox) -> Plan:
        zero = torch.zeros(1, self._horizon, len(box.low))
        previous = self._plans[index]
        if previous is None:
            init, candidates = Proposal(zero, torch.full_like(zero, self._initial_std)), zero[:, None]
        else:
            init = shift(previous.proposal, 1, self._initial_std)
            candidates = torch.stack([zero, shift_actions(previous.actions, 1)], dim=1)

        def cost(actions: Tensor) -> Tensor:
            """[1,K,H,A] -> [1,K]."""
            inner: Any = mirror.env.unwrapped
            steps: np.ndarray = inner.evaluate_plans(actions[0].numpy())
            return torch.from_numpy(steps @ self._weights).to(actions.dtype)[None]

        return self._planner(cost, init, box, self._generators[index], candidates=candidates)

    @staticmethod
    def _bounds(mirror: _Mirror) -> tuple[np.ndarray, np.ndarray]:
        space: Any = mirror.env.action_space
        return space.low.astype(np.float32), space.high.astype(np.float32)


def _joined(plans: Sequence[Plan]) -> Plan:
    """Plans of single episodes [1,...] as one plan of the batch [B,...]."""
    if len(plans) == 1:
        return plans[0]
    reports = [plan.diagnostics for plan in plans]
    ran = min(len(report.cost_per_iteration) for report in reports)
    diagnostics = Diagnostics(
        cost_per_iteration=torch.cat([report.cost_per_iteration[:ran] for report in reports], dim=1),
        elite_spread=torch.cat([report.elite_spread[:ran] for report in reports], dim=1),
        finite_share=torch.cat([report.finite_share[:ran] for report in reports], dim=1),
        effective_sample_size=torch.cat([report.effective_sample_size[:ran] for report in reports], dim=1),
        model_calls=sum(report.model_calls for report in reports),
        candidate_steps=sum(report.candidate_steps for report in reports),
        seconds=sum(report.seconds for report in reports),
        cut=any(report.cut for report in reports),
    )
    return Plan(
        actions=torch.cat([plan.actions for plan in plans]),
        cost=torch.cat([plan.cost for plan in plans]),
        proposal=Proposal(
            torch.cat([plan.proposal.mean for plan in plans]), torch.cat([plan.proposal.std for plan in plans])
        ),
        elites=None,
        diagnostics=diagnostics,
    )
