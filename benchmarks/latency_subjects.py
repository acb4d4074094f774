"""What the latency suite measures: the shipped model and a transformer, each in every way it can be planned with."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import gymnasium
import numpy as np
import torch
from torch import Tensor

import planners
from planners import ActionBox, CostFn, Proposal
from worldmodel.candidates import (
    CandidateRollout,
    Chunked,
    Context,
    candidates_within,
    goal_cost,
)
from worldmodel.energy import Goal, GoalEnergy
from worldmodel.model import WorldModel
from worldmodel.precision import multiplies_bf16
from worldmodel.transformer import TransformerPredictor

SWM = "stable_worldmodel.solver"
ACTIONS, POSE = 3, 3  # sizes of the transformer's actions and proprioception, those of the shipped model
STEP = 0.05  # how far an action moves the transformer's pose
STD = 0.6  # of the search, in units of the action
CPU = torch.device("cpu")


Prepared = tuple[CostFn, Callable[[Tensor], object]]
"""The cost of one decision's candidates, and the bare rollout that is in it."""


@dataclass(frozen=True)
class Search:
    """How every planner searches: K candidates, E elites, I iterations, H horizon."""

    num_samples: int
    num_elites: int
    num_iterations: int
    horizon: int

    def solver(self, planner: str, action_dim: int, device: torch.device = CPU) -> Callable[[CostFn], object]:
        """One decision of one of our planners, from a cold start."""
        solve = getattr(planners, planner)
        settings = {"num_elites": self.num_elites, "num_iterations": self.num_iterations}
        mean = torch.zeros(1, self.horizon, action_dim, device=device)
        init, bound = Proposal(mean, torch.full_like(mean, STD)), torch.ones(action_dim, device=device)
        box, generator = ActionBox(-bound, bound), torch.Generator(device)
        return partial(solve, init=init, box=box, generator=generator, num_samples=self.num_samples, **settings)

    def foreign_solver(self, action_dim: int, device: torch.device = CPU) -> Callable[[CostFn], object]:
        """One decision of stable-worldmodel's CEM. Raises ImportError where that package is not installed."""
        solver_type = importlib.import_module(SWM).CEMSolver
        space = gymnasium.spaces.Box(-1.0, 1.0, (1, action_dim))
        plan = SimpleNamespace(horizon=self.horizon, action_block=1)

        def solve(cost: CostFn) -> None:
            model = SimpleNamespace(get_cost=lambda info, candidates: cost(candidates))
            sizes = {"num_samples": self.num_samples, "n_steps": self.num_iterations, "topk": self.num_elites}
            solver = solver_type(model, **sizes, var_scale=STD, device=str(device))
            solver.configure(action_space=space, n_envs=1, config=plan)
            with contextlib.redirect_stdout(io.StringIO()):  # it prints at every decision
                solver.solve({"observation": torch.zeros(1, 1, POSE)})

        return solve


@dataclass(frozen=True)
class Subject:
    """A model in one mode. prepare: what a decision does before the search."""

    model: str
    mode: str
    action_dim: int
    prepare: Callable[[], Prepared]


@dataclass(frozen=True)
class Toy:
    """Sizes of the transformer with random weights, and the bytes its candidates may take."""

    tokens: int
    width: int
    depth: int
    memory: float


def has_swm() -> bool:
    """Whether stable-worldmodel is installed, with what it needs itself."""
    try:
        importlib.import_module(SWM)
    except ImportError:
        return False
    return True


def compact_subjects(model: WorldModel, horizon: int, seed: int) -> Iterator[Subject]:
    """The shipped form: one latent, no context, so nothing to cache or to run again."""
    picture = _pictures(model, 2, seed)
    device = model.device()
    z = model.encode(torch.from_numpy(picture).to(device)[:, None])[:, 0]
    places, proprio = model.place(z[:1]), model.decode_proprio(z[:1])
    nothing = torch.zeros(1, dtype=torch.bool, device=device)
    place = model.locate(model.place(z[1:]))
    waiting = torch.zeros(place.shape[:-1], dtype=torch.bool, device=device)
    goal = Goal(z[1:], model.decode_proprio(z[1:]), place, nothing, waiting)
    energy = GoalEnergy(model.locate, model.position)

    def prepare(fast: bool) -> Prepared:
        members = energy.towards(goal, horizon)

        def bare(actions: Tensor) -> tuple[Tensor, Tensor]:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast):
                return model.rollout(places, proprio, actions)

        def cost(actions: Tensor) -> Tensor:
            path, poses = bare(actions)
            return energy.pessimistic(members(path.float(), poses.float()))

        return cost, bare

    for mode, fast in (("compact", False), ("compact bf16", True)):
        if not fast or multiplies_bf16(device):
            yield Subject(model.name, mode, model.config.action_dim, partial(prepare, fast))


def transformer_subjects(toy: Toy, search: Search, seed: int, device: torch.device = CPU) -> Iterator[Subject]:
    """Random weights, one observed frame, its candidates in chunks that fit into the memory given."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        predictor = TransformerPredictor(
            latent_tokens=toy.tokens, latent_dim=toy.width, action_dim=ACTIONS, proprio_dim=POSE,
            width=toy.width, depth=toy.depth, heads=max(1, toy.width // 64), context=search.horizon,
        )  # fmt: skip
    predictor.to(device).eval().requires_grad_(False)
    z, z_goal = torch.randn(2, 1, toy.tokens, toy.width, generator=generator).to(device).unbind(0)
    context = Context(z[:, None], z.new_zeros(1, 0, ACTIONS), z.new_zeros(1, 1, POSE))

    def prepare(cached: bool, dtype: torch.dtype | None) -> Prepared:
        rollout = CandidateRollout(predictor, context, _advance, cached=cached, dtype=dtype)
        cost = Chunked(goal_cost(rollout, z_goal), candidates_within(toy.memory, predictor, 1, search.horizon, dtype))
        return cost, lambda actions: [rollout(part) for part in actions.split(cost.size, dim=1)]

    yield Subject("transformer", "full re-run", ACTIONS, partial(prepare, False, None))
    yield Subject("transformer", "cached", ACTIONS, partial(prepare, True, None))
    if multiplies_bf16(device):
        yield Subject("transformer", "cached bf16", ACTIONS, partial(prepare, True, torch.bfloat16))


def act_solver(model: WorldModel, planner: str, search: Search, seed: int) -> Callable[[], object]:
    """A whole decision of the shipped model, from the picture to the action."""
    settings = {"num_elites": search.num_elites, "num_iterations": search.num_iterations, "horizon": search.horizon}
    agent = model.agent(planner, num_samples=search.num_samples, **settings)
    pictures = _pictures(model, 2, seed)
    agent.reset(pictures[1:], [seed])
    proprio = np.zeros((1, model.config.proprio_dim), np.float32)
    return lambda: agent.act({"pixels": pictures[:1], "proprio": proprio})


def _pictures(model: WorldModel, count: int, seed: int) -> np.ndarray:
    side = model.image_size
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def _advance(proprio: Tensor, action: Tensor) -> Tensor:
    return proprio + STEP * action
