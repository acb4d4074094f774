"""DreamerV3 through sheeprl: what our adapter hands over, that it learns, that a stop changes nothing, what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE
from torch import Tensor

from tests.training.test_training_resume import CPU, StopError, equal, nothing, table, weights_of
from worldmodel.baselines.bundle import load_baseline, save_baseline
from worldmodel.baselines.dreamer import Dreamer
from worldmodel.baselines.dreamer_fit import fit_dreamer
from worldmodel.baselines.dreamer_online import OnlineSettings, Seen, World, learn_online
from worldmodel.baselines.dreamer_policy import DreamerBaseline, DreamerConfig
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import BundleError, TrainingError
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training.learner import FitSettings

# The extra `baselines` is large, and `make setup` does without it; tests/training/test_dreamer_data.py holds what our
# side of the adapter does without it.
pytest.importorskip("sheeprl", reason="needs the extra: see docs/dreamerv3.md")

ON_FEATURES = DreamerConfig(3, 3, "success", "features", length=6)
ON_PIXELS = DreamerConfig(3, 3, "distance", "pixels", length=4, side=16)
TO_PLAN = DreamerConfig(3, 3, "none", "features", length=6)
CONFIGS = {"features": ON_FEATURES, "pixels": ON_PIXELS, "planning": TO_PLAN}


def baseline(config: DreamerConfig, seed: int = 0) -> DreamerBaseline:
    torch.manual_seed(seed)
    return DreamerBaseline(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config)


def batch_of(model: DreamerBaseline, folder: Path, count: int = 5) -> dict[str, Tensor]:
    data = table()
    features = model.features(data, folder, "0" * 64, CPU)
    model.fit_statistics(data, data.split()[0])
    starts = data.window_starts(model.config.length, data.split()[0])
    return model.draw(data, features, starts, np.random.default_rng(0), count)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_holds_what_the_agent_would_see(name: str, tmp_path: Path) -> None:
    config, data = CONFIGS[name], table()
    model = baseline(config)
    batch = batch_of(model, tmp_path)
    now = {"features": (6, 5, 96), "pixels": (4, 5, 3, 16, 16), "planning": (6, 5, 96)}[name]
    shapes = {"now": now, "goal": now, "proprio": (*now[:2], 3)}
    seen = {key: tuple(batch[key].shape) for key in shapes if key in batch}
    assert seen == ({"now": now} if config.plans else shapes)
    flags = {key: tuple(batch[key].shape) for key in ("rewards", "terminated", "truncated", "is_first")}
    assert set(flags.values()) == {(*now[:2], 1)}
    # Which rows were drawn shows in the actions; the live agent sees the same in their pictures.
    rows = [np.flatnonzero((data.actions == action).all(axis=1))[0] for action in batch["actions"].numpy()[:, 0]]
    live = model.see(torch.from_numpy(data.frames[rows]))
    torch.testing.assert_close(live.float(), batch["now"][:, 0].float(), atol=0.01, rtol=0.01)
    if not config.plans:
        told = model.observation(live, live, torch.from_numpy(data.proprio[rows]))
        torch.testing.assert_close(told["proprio"], batch["proprio"][:, 0])
        arrived = (batch["now"] == batch["goal"]).flatten(2).all(dim=2)
        rewarded = batch["rewards"][..., 0] == (1.0 if name == "features" else 0.0)
        assert torch.equal(arrived, rewarded)
        assert arrived.any()
        assert not arrived.all()


def test_the_official_network_has_the_official_size() -> None:
    dreamer = Dreamer({"rgb": 64}, {}, 2)
    parts = [part for name, part in dreamer.parts().items() if name != "slow_critic"]
    assert sum(weight.numel() for part in parts for weight in part.parameters()) == 686_070  # as the official log says


def test_it_learns_the_log(tmp_path: Path) -> None:
    model = baseline(ON_FEATURES)
    batch = batch_of(model, tmp_path, 8)
    optimizer = model.dreamer.optimizer(1e-2)
    optimizer.param_groups[0]["warmup"] = 0
    torch.manual_seed(0)
    before = model.dreamer.validate(batch)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert model.dreamer.validate(batch) == before, "the same losses, whatever was drawn before"
    assert torch.equal(torch.get_rng_state(), state)
    for _ in range(30):
        model.dreamer.update(batch, optimizer)
    after = model.dreamer.validate(batch)
    assert after["observation_loss"] < 0.8 * before["observation_loss"]
    assert after["reward_loss"] < 0.3 * before["reward_loss"]


def test_the_actor_learns_what_is_rewarded() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    dreamer = Dreamer({}, {"state": 1}, 1)
    optimizer = dreamer.optimizer(3e-3)
    optimizer.param_groups[0]["warmup"] = 0
    first = torch.zeros(4, 8, 1)
    first[0] = 1.0
    still = torch.zeros(4, 8, 1)
    for _ in range(60):
        actions = torch.from_numpy(rng.uniform(-1, 1, (4, 8, 1)).astype(np.float32))
        before = torch.cat([torch.zeros(1, 8, 1), actions[:-1]])  # whose action led here
        batch = {"state": before, "actions": actions, "rewards": before, "is_first": first}
        dreamer.update({**batch, "terminated": still, "truncated": still}, optimizer)
    dreamer.begin(16)
    assert dreamer.act({"state": torch.zeros(16, 1)}, greedy=True).mean() > 0.3


def test_what_is_imagined_begins_as_what_is_played(tmp_path: Path) -> None:
    model = baseline(TO_PLAN)
    seen = batch_of(model, tmp_path)["now"]
    dreamer = model.dreamer
    dreamer.begin(5)
    dreamer.act({"now": seen[0]}, greedy=True)
    start, actions = dreamer.state(), torch.rand(5, 2, 3) - 0.5
    path, expected = dreamer.imagine(start, actions)
    assert (path.shape[:2], expected.shape[:2]) == ((5, 2), (5, 2))
    assert expected.reshape(5, 2, 32, -1).sum(dim=-1).allclose(torch.ones(()), atol=1e-4)
    other, _ = dreamer.imagine(start, -actions)
    dreamer.instead(actions[:, 0])
    dreamer.act({"now": seen[1]}, greedy=True)
    torch.testing.assert_close(dreamer.state()[0], path[:, 0])
    assert not torch.allclose(dreamer.state()[0], other[:, 0])


def test_a_posterior_is_that_of_a_first_look(tmp_path: Path) -> None:
    model = baseline(TO_PLAN)
    seen = batch_of(model, tmp_path)["now"][0]
    found = model.dreamer.posterior({"now": seen})
    counted = torch.zeros_like(found)
    torch.manual_seed(0)
    for _ in range(400):
        model.dreamer.begin(5)
        model.dreamer.act({"now": seen}, greedy=True)
        counted += model.dreamer.state()[1] / 400
    assert (counted - found).abs().max() < 0.15


def trained(folder: Path, stop: bool) -> list[Tensor]:
    """Weights after 5 steps, with or without a stop after 3 of them and other weights to begin again with."""
    folder.mkdir()
    data, model = table(), baseline(ON_FEATURES)
    features = model.features(data, folder, "0" * 64, CPU)
    settings = FitSettings(5, 4, 1e-3, 0, 6, checkpoint_every=2)
    if stop:
        model.fit_statistics(data, data.split()[0])
        original, count = model.draw, iter(range(3))

        def interrupted(*given: Any) -> Any:
            if next(count, None) is None:
                raise StopError
            return original(*given)

        model.draw = interrupted  # type: ignore[method-assign]
        with pytest.raises(StopError):
            fit_dreamer(model, data, features, settings, folder, nothing)
        model = baseline(ON_FEATURES, seed=7)
        model.features(data, folder, "0" * 64, CPU)
    model.fit_statistics(data, data.split()[0])
    before = weights_of(model)
    fit_dreamer(model, data, features, settings, folder, nothing)
    assert not equal(before, weights_of(model))
    return [value for part in model.trainable().values() for value in weights_of(part)]


def test_training_resumes_exactly(tmp_path: Path) -> None:
    assert equal(trained(tmp_path / "whole", stop=False), trained(tmp_path / "resumed", stop=True))


@pytest.mark.parametrize("warmup", [0, 1000])
def test_the_learning_rate_rises_from_nothing_over_the_warm_up(warmup: int, tmp_path: Path) -> None:
    data, model = table(), baseline(ON_FEATURES)
    features = model.features(data, tmp_path, "0" * 64, CPU)
    model.fit_statistics(data, data.split()[0])
    actor = model.dreamer.parts()["actor"]
    before = weights_of(actor)
    fit_dreamer(model, data, features, FitSettings(1, 2, 1e-3, 0, 6, warmup=warmup), tmp_path, nothing)
    assert equal(before, weights_of(actor)) is (warmup > 0)


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    data, model = table(), baseline(replace(ON_FEATURES, reward="distance"))
    features = np.full((120, 16, 24), np.nan, np.float16)
    with pytest.raises(TrainingError, match="expected finite actions, got an error"):
        fit_dreamer(model, data, features, FitSettings(2, 2, 1e-3, 0, 6), tmp_path, nothing)


@pytest.mark.parametrize("name", ["features", "pixels", "planning"])
def test_what_is_saved_is_what_is_loaded_and_damage_is_noticed(name: str, tmp_path: Path) -> None:
    kind = "dreamerv3_planning" if name == "planning" else "dreamerv3"
    model = baseline(CONFIGS[name])
    sha256 = save_baseline(model, kind, {"parameters": 1}, tmp_path / "model", "# card")
    assert {path.suffix for path in (tmp_path / "model").rglob("*.*")} == {".json", ".md", ".safetensors"}
    found, card = load_baseline(tmp_path / "model", kind)
    assert isinstance(found, DreamerBaseline)
    config, encoder = CONFIGS[name], model.encoder
    assert encoder is not None, "pixels with the reward of features need it, too"
    told = {"sees": config.sees, "reward": config.reward, "size": "1M", "encoder_sha256": encoder.sha256()}
    told |= {"name": kind, "sha256": sha256, "pixels": 16 if config.sees == "pixels" else encoder.image_size}
    assert card == {**told, "parameters": 1}
    for part, module in model.trainable().items():
        assert equal(weights_of(module), weights_of(found.trainable()[part])), part
    frames = torch.from_numpy(table().frames[:2])
    assert torch.equal(found.see(frames), model.see(frames))
    with pytest.raises(BundleError, match="expected a baseline of kind 'inverse_dynamics'"):
        load_baseline(tmp_path / "model", "inverse_dynamics")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="expected sha256"):
        load_baseline(tmp_path / "model", kind)


class Counting(World):
    """Episodes of three steps whose state and reward say where one is: 10 times the episode's number and the step."""

    def __init__(self) -> None:
        self._episode, self._step = 0, 0

    def reset(self, seed: int) -> Seen:
        self._episode, self._step = self._episode + 1, 0
        return self._seen()

    def step(self, action: Any) -> tuple[Seen, float, bool, bool]:
        assert action.shape == (1,)
        self._step += 1
        return self._seen(), float(10 * self._episode + self._step), self._step == 3, False

    def _seen(self) -> Seen:
        return {"state": np.array([10 * self._episode + self._step], np.float32)}


class Watched(Dreamer):
    """Keeps the batches that it is trained on."""

    def update(self, batch: Mapping[str, Tensor], *rest: Any) -> Any:
        self.__dict__.setdefault("batches", []).append(batch)
        return super().update(batch, *rest)


def test_what_is_played_is_what_is_trained_on() -> None:
    torch.manual_seed(0)
    dreamer = Watched({}, {"state": 1}, 1, replay_context=1)
    ended: list[tuple[int, float]] = []
    settings = OnlineSettings(40, 0.25, 12, 2, 5, 1e-4, seed=0)
    learn_online(dreamer, [Counting(), Counting()], settings, lambda *point: ended.append(point))
    assert ended[:4] == [(6, 36.0), (6, 36.0), (12, 66.0), (12, 66.0)]
    batches = dreamer.__dict__["batches"]
    assert len(batches) == 7, "a quarter of the decisions from the 14th on, when both have played a sequence"
    for batch in batches:
        state, reward = batch["state"][..., 0], batch["rewards"][..., 0]
        step = state % 10
        assert state.shape == (6, 2), "one step of context"
        assert torch.equal(batch["is_first"][..., 0] == 1, step == 0)
        assert torch.equal(reward, torch.where(step == 0, 0.0, state)), "a reward comes with the state it led to"
        assert torch.equal(batch["terminated"][..., 0] == 1, step == 3)
        assert not batch["actions"][step == 3].any()
        assert batch["actions"][step != 3].all()
        # A row is followed by the next of its environment, the last of an episode by the first of another.
        follows = torch.where(step == 3, 10 * (state // 10) + 10, state + 1)
        assert torch.equal(state[1:], follows[:-1])
