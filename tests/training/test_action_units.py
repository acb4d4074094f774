"""Actions in any unit: the model learns and plans in [-1, 1], and what the agent hands out is in the data's units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_model import ARCHITECTURE, TRAIN

import worldmodel
from worldmodel.cli import main
from worldmodel.data.layout import Layout
from worldmodel.data.table import action_range
from worldmodel.data.writer import Rollout, finalize, write_episode
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.vjepa import build_model

PLANNER = {"num_samples": 12, "num_elites": 4, "num_iterations": 2, "horizon": 3}
SIDE, STEP, EPISODES, LENGTH = 32, 0.05, 4, 24


class Dot(gymnasium.Env[Any, Any]):
    """A hand that goes where the first two numbers of the action say [m]; the third is a gripper, the last unused."""

    action_space = gymnasium.spaces.Box(
        np.array([-STEP, -STEP, 0.0, 7.0], np.float32), np.array([STEP, STEP, 1.0, 7.0], np.float32)
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place = self.np_random.uniform(-0.1, 0.1, 2)
        return self._observe(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self._place = self._place + action[:2]
        return self._observe(), 0.0, False, False, {}

    def _observe(self) -> dict[str, NDArray[Any]]:
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        column, row = np.clip((self._place + 0.5) * SIDE, 2, SIDE - 2).astype(int)
        picture[row - 2 : row + 2, column - 2 : column + 2] = 200
        return {"pixels": picture, "proprio": self._place.astype(np.float32)}


def record(root: Path, unit: NDArray[np.float32]) -> Path:
    """Episodes of a hand whose logged actions are `unit` times what fills [-1, 1] and moves it by STEP."""
    env, rng, records = Dot(), np.random.default_rng(0), []
    layout = Layout(5, 2, 4, {"front": (SIDE, SIDE)})
    for episode in range(EPISODES):
        wanted = rng.uniform(-1, 1, (LENGTH, 4)).astype(np.float32)
        wanted[:2] = [[1.0] * 4, [-1.0] * 4]
        seen = [env.reset(seed=episode)[0]]
        for action in wanted[:-1]:
            seen.append(env.step(np.array([*(STEP * action[:2]), 0.5, 7.0], np.float32))[0])
        pictures, places = (np.stack([frame[key] for frame in seen]) for key in ("pixels", "proprio"))
        rollout = Rollout({"front": pictures}, places, wanted * unit)
        records.append(write_episode(root, layout, rollout, episode=episode, start=LENGTH * episode, task="go"))
    finalize(root, layout, records, tasks=["go"], extra={})
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    build_model(ARCHITECTURE, 0).save_pretrained(folder)
    return folder


def trained(root: Path, encoder: Path, skip: int) -> WorldModel:
    out = root.parent / f"{root.name}-{skip}"
    torch.manual_seed(0)  # what only training needs begins as it does in a new process
    assert main(["train", f"data={root}", f"encoder={encoder}", f"out={out}", f"frame_skip={skip}", *TRAIN]) == 0
    model = worldmodel.load(out / "model")
    assert isinstance(model, WorldModel)
    return model


def observed(seed: int, batch: int = 2) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (batch, SIDE, SIDE, 3), dtype=np.uint8)
    return {"pixels": pixels, "proprio": rng.uniform(-0.2, 0.2, (batch, 2)).astype(np.float32)}


@pytest.mark.parametrize("skip", [1, 2])
def test_a_unit_changes_nothing_but_the_unit(skip: int, encoder: Path, tmp_path: Path) -> None:
    # Powers of two, so that not a bit is lost.
    unit = np.array([1 / 16, 1 / 16, 8.0, 1 / 2], np.float32)
    plain = trained(record(tmp_path / "plain", np.ones(4, np.float32)), encoder, skip)
    scaled = trained(record(tmp_path / "scaled", unit), encoder, skip)
    assert plain.config.action_range is None
    assert scaled.config.action_range == [[*(-unit)] * skip, [*unit] * skip]
    for (name, a), b in zip(plain.state_dict().items(), scaled.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    agents = [model.agent(**PLANNER) for model in (plain, scaled)]
    for agent in agents:
        agent.reset(observed(9)["pixels"], [0, 1])
    for step in range(3):
        first, second = (agent.act(observed(step)) for agent in agents)
        assert first.shape == (2, 4)
        assert np.abs(first).max() > 0
        assert np.array_equal(first * unit, second)


def test_it_drives_with_a_frame_skip_within_the_range_of_the_data(encoder: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    env, layout, records = Dot(), Layout(5, 2, 4, {"front": (SIDE, SIDE)}), []
    env.action_space.seed(0)
    for episode in range(EPISODES):
        seen = [env.reset(seed=episode)[0]]
        actions = np.stack([env.action_space.sample() for _ in range(LENGTH)])
        seen += [env.step(action)[0] for action in actions[:-1]]
        pictures, places = (np.stack([frame[key] for frame in seen]) for key in ("pixels", "proprio"))
        rollout = Rollout({"front": pictures}, places, actions)
        records.append(write_episode(root, layout, rollout, episode=episode, start=LENGTH * episode, task="go"))
    finalize(root, layout, records, tasks=["go"], extra={})
    agent = trained(root, encoder, 2).agent(**PLANNER)
    goal, now = env.reset(seed=50)[0], env.reset(seed=51)[0]
    agent.reset(goal["pixels"][None], [51])
    for _ in range(3):
        plans, places = [], []
        for _ in range(2):
            action = agent.act({key: value[None] for key, value in now.items()})
            assert action.shape == (1, 4)
            plans.append(agent.decision)
            now = env.step(action[0])[0]
            places.append(now["proprio"])
        assert plans[0].plan is not None
        assert plans[0].path is not None
        assert plans[1].plan is None
        # The gain of the actions is found in closed form: where the model says the hand will be, there it is.
        np.testing.assert_allclose(plans[0].path[0, 0], places[1], atol=2e-3)
        assert np.linalg.norm(places[1] - places[0]) > 1e-3


def test_what_is_seen_between_two_decisions_is_not_looked_at(encoder: Path, tmp_path: Path) -> None:
    model = trained(record(tmp_path / "data", np.full(4, 0.3, np.float32)), encoder, 2)
    agent = model.agent(**PLANNER)
    agent.reset(observed(9)["pixels"], [0, 1])
    actions = agent.act(observed(0))
    plan = agent.decision.plan
    assert plan is not None
    following = agent.act({})
    both = np.concatenate([actions, following], axis=1)
    np.testing.assert_allclose(both, model.config.denormalise(plan.actions[:, 0]).numpy())
    assert not np.array_equal(actions, following)
    agent.act(observed(1))
    agent.reset(observed(9)["pixels"], [0, 1])
    assert np.array_equal(agent.act(observed(0)), actions), "a reset forgets what was left of the last decision"


def test_the_range_of_the_data() -> None:
    still = np.zeros((1, 3), np.float32)
    full = np.array([[-1.0, 0.97, 1.0], [0.96, -0.96, -0.99]], np.float32)
    assert action_range(full) is None, "what fills [-1, 1] is left alone, to the bit"
    assert action_range(full * np.float32(1.5)) is not None
    found = action_range(np.array([[-0.02, 0.0, 5.0], [0.05, 1.0, 5.0]], np.float32))
    assert found is not None
    config = ModelConfig(3, 3, action_range=found)
    ends = torch.tensor([[-0.05, 0.0, 5.0], [0.05, 1.0, 5.0]])
    assert config.normalise(ends).tolist() == [[-1, -1, 0], [1, 1, 0]]
    assert config.denormalise(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])).tolist() == ends.tolist()
    assert config.normalise(torch.from_numpy(still))[0, 0] == 0.0, "no motion stays no motion"


def test_an_unknown_setting_is_named_at_once() -> None:
    from tiny_model import tiny_model

    for name in ("nonsense", "candidates", "cost"):
        with pytest.raises(worldmodel.WorldModelError, match=f"got '{name}'") as error:
            tiny_model().agent(**{name: 1})
        assert "\n" not in str(error.value)
    with pytest.raises(worldmodel.WorldModelError, match=r"expected a setting .* of gradient .*got 'num_elites'"):
        tiny_model().agent("gradient", num_elites=3)


def test_asking_for_the_cost_changes_nothing() -> None:
    from tiny_model import tiny_model

    model = tiny_model()
    pictures = [{**observed(seed), "proprio": np.zeros((2, 3), np.float32)} for seed in range(3)]
    asked, silent = model.agent(), model.agent()
    for agent in (asked, silent):
        agent.reset(pictures[2]["pixels"], [0, 1])
    for step in range(2):
        actions = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        before = asked.cost(pictures[step])(actions)
        assert torch.equal(asked.cost(pictures[step])(actions), before)
        assert np.array_equal(asked.act(pictures[step]), silent.act(pictures[step]))
        plan = asked.decision.plan
        assert plan is not None
    with pytest.raises(worldmodel.WorldModelError, match="expected reset before act"):
        model.agent().cost(pictures[0])
