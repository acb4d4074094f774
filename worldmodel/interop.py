"""The two ways into stable-worldmodel, which is duck-typed and not imported: its solvers plan with a model of ours,
and an agent of ours acts in its World. See docs/interop.md. Legend: worldmodel/types.py.

Written against stable-worldmodel 0.1.1: an `info` has a dimension of time, of length 1, behind those of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planners import CostFn
from worldmodel.errors import WorldModelError
from worldmodel.model import WorldModel
from worldmodel.types import Agent

Info = Mapping[str, Any]


class CostModel:
    """What its solvers call a model: the energy that PlanningAgent minimises, for `CEMSolver(CostModel(model))`.

    settings: those of PlanningAgent that shape the energy, over the model's own. Every solve is like the agent's first
    decision: there is no belief about what is hidden, and no guardrails, which the solvers could not honour.
    """

    def __init__(self, model: WorldModel, **settings: Any) -> None:
        self._model, self._agent = model, model.agent(**{**settings, "guardrails": None})
        self._seen: tuple[Tensor, ...] = ()
        self._cost: CostFn | None = None

    def get_cost(self, info: Info, candidates: Tensor) -> Tensor:
        """Cost [B,K] of candidates [B,K,H,A]; with action blocks, A is the block's actions side by side.

        info: "pixels", "goal" uint8 [B,K,1,S,S,3] and "proprio" [B,K,1,P], alike for all K. Differentiable in the
        candidates. They are in the units of the data and count as clipped to its range, [-1, 1] for the shipped model,
        which is what the environments do and most of its solvers do not. Raises WorldModelError for an info or
        candidates of another form.
        """
        cost = self._begin(info)
        config = self._model.config
        if candidates.dim() != 4 or candidates.shape[-1] % config.action_dim:
            raise WorldModelError(
                f"expected candidates [B,K,H,A], A a multiple of {config.action_dim}, got {list(candidates.shape)}: "
                "plan in the action space the model was trained on"
            )
        actions = candidates.to(self._model.device(), torch.float32)
        actions = actions.reshape(*candidates.shape[:2], -1, config.action_dim)
        return cost(config.normalise(actions).clamp(-1.0, 1.0)).to(candidates)

    def _begin(self, info: Info) -> CostFn:
        """What these pictures make of candidates; encoded anew only when they changed."""
        seen = _look(info)
        same = len(self._seen) == len(seen) and all(map(torch.equal, self._seen, seen))
        if self._cost is None or not same:
            # Its solvers plan in inference mode, or with gradients: what is kept must serve both.
            with torch.inference_mode(False), torch.no_grad():
                self._seen = tuple(part.clone() for part in seen)
                pixels, goals, proprio = (part.cpu().numpy() for part in self._seen)
                self._agent.reset(goals, range(len(goals)))
                self._cost = self._agent.cost({"pixels": pixels, "proprio": proprio})
        return self._cost


def _look(info: Info) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels and goal uint8 [B,S,S,3], proprio [B,P]. Raises WorldModelError."""
    missing = [key for key in ("pixels", "goal", "proprio") if key not in info]
    if missing:
        raise WorldModelError(
            f"expected pixels, goal and proprio in info, got no {', '.join(missing)} among {', '.join(info)}: make the "
            "World with add_pixels=False from an environment that observes them"
        )
    pixels, goals, proprio = (torch.as_tensor(info[key]) for key in ("pixels", "goal", "proprio"))
    for name, images in (("pixels", pixels), ("goal", goals)):
        if images.dtype != torch.uint8 or images.dim() != 6 or images.shape[-1] != 3:
            raise WorldModelError(
                f"expected {name} as uint8 [B,K,1,S,S,3], got {str(images.dtype)[6:]} {list(images.shape)}: leave out "
                "the policy's transform, the model normalises pictures itself"
            )
    return pixels[:, 0, -1], goals[:, 0, -1], proprio[:, 0, -1]


class AgentPolicy:
    """A policy for `World.set_policy`: one agent per environment, since their episodes end at different times.

    make_agent: builds an agent, e.g. `lambda: model.agent(planner="cem")`; `agents` holds those in use.
    """

    def __init__(self, make_agent: Callable[[], Agent]) -> None:
        self._make_agent = make_agent
        self.agents: list[Agent] = []

    def set_env(self, env: Any) -> None:
        """env: its EnvPool; of it are used num_envs, action_space, single_observation_space and seeds."""
        self._env = env
        self.agents = [self._make_agent() for _ in range(env.num_envs)]

    def get_action(self, infos: Info) -> NDArray[np.float32]:
        """One decision for every environment: float32 [B,A]; 0 where the episode is over. Raises WorldModelError."""
        observed = {"pixels", "proprio", *getattr(self._env.single_observation_space, "spaces", ())}
        missing = {"goal", "step_idx", *observed} - set(infos)
        if missing:
            raise WorldModelError(
                f"expected the goal and all observations in infos, got no {', '.join(sorted(missing))}: make the World "
                "with add_pixels=False from an environment that shows its goal"
            )
        actions = np.zeros(self._env.action_space.shape, np.float32)
        for row, agent in enumerate(self.agents):
            if infos["terminated"][row].any() or infos["truncated"][row].any():
                continue
            # Not infos["_needs_flush"]: World sets it at the first decision of an episode and leaves it set.
            if infos["step_idx"][row, -1] == 0:
                agent.reset(np.array(infos["goal"][row]), [int(self._env.seeds[row])])
            actions[row] = agent.act({key: np.array(infos[key][row]) for key in observed})[0]
        return actions


class TerminateOnSuccess(gymnasium.Wrapper[Any, Any, Any, Any]):
    """For `World(..., pre_wrappers=[TerminateOnSuccess])`: there an episode counts as solved if it terminates.

    Ours terminate when the physics diverge; such an episode is truncated here.
    """

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One decision; terminated at the first success."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = bool(info["success"])
        return observation, reward, success, truncated or (terminated and not success), info
