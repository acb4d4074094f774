"""The multi-token predictor: its losses are what they say, resuming is exact, and it plans as it was trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_training_resume import StopError, nothing, stop_at, table
from tiny_model import ARCHITECTURE
from torch import Tensor

from worldmodel.actions import integrate_pose
from worldmodel.bundle import load, save
from worldmodel.encoders import VJEPAEncoder
from worldmodel.energy import Distance, latent_distance
from worldmodel.errors import BundleError, ConfigError, WorldModelError
from worldmodel.guardrails import Guardrails
from worldmodel.pretrain.vjepa import build_model
from worldmodel.tokens import TokenConfig, TokenModel
from worldmodel.training.fit import TrainSettings
from worldmodel.training.tokens import TokenLoss, fit_state, fit_tokens, token_losses
from worldmodel.transformer import Layout

CPU = torch.device("cpu")
LAYOUTS: tuple[Layout, ...] = ("action_after", "vjepa2_ac")
TOY: dict[str, Any] = {
    "pool": 2, "width": 24, "depth": 2, "heads": 2, "context": 6, "reader_width": 4, "reader_hidden": 8,
}  # fmt: skip
RANGE = [[-0.2, -0.2, 0.1], [0.2, 0.2, 0.5]]
SEARCH = {"num_samples": 12, "num_elites": 4, "num_iterations": 2}


def token_model(layout: Layout = "action_after", seed: int = 0, **settings: Any) -> TokenModel:
    """Whose every input matters: at their initialisation the weights are so small that little does."""
    torch.manual_seed(seed)
    config = TokenConfig(**{"action_dim": 3, "proprio_dim": 3, "layout": layout, **TOY, **settings})
    model = TokenModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config, name="toy")
    with torch.no_grad():
        for name, weight in model.predictor.named_parameters():
            if "norm" not in name:
                weight.copy_(torch.randn(weight.shape) * 0.6 / weight.shape[-1] ** 0.5)
    if model.kinematics is not None:
        fit_state(model, table(), table().split()[0])
    return model.eval()


def window(batch: int = 3, frames: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """z [B,T,N,D], actions and proprio of one episode each."""
    generator = torch.Generator().manual_seed(1)
    z = F.layer_norm(torch.randn(batch, frames, 4, 24, generator=generator), (24,))
    data, rows = table(), 12 * np.arange(batch)[:, None] + np.arange(frames)
    return z, torch.from_numpy(data.actions[rows]), torch.from_numpy(data.proprio[rows])


def pictures(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (batch, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_losses_are_what_a_few_lines_say(layout: Layout, loss: Any) -> None:
    model, (z, actions, proprio) = token_model(layout), window()
    gain, low, high = (getattr(model.kinematics, name) for name in ("gain", "low", "high"))
    rows = table().window_starts(2, table().split()[0])
    mean, std = (getattr(torch.from_numpy(table().proprio[rows]), name)(dim=0) for name in ("mean", "std"))
    error = {"l1": F.l1_loss, "l2": F.mse_loss}[loss]
    forced = [
        model.predictor(z[:, : t + 1], actions[:, : t + 1], (proprio[:, : t + 1] - mean) / std)[:, -1] for t in range(4)
    ]
    teacher = error(F.layer_norm(torch.stack(forced, dim=1), (24,)), z[:, 1:])
    frames, poses = z[:, :1], proprio[:, :1]
    for step in range(3):
        following = model.predictor(frames, actions[:, : step + 1], (poses - mean) / std)[:, -1:]
        frames = torch.cat([frames, F.layer_norm(following, (24,))], dim=1)
        moved = poses[:, -1:] + actions[:, step : step + 1] @ gain.T
        poses = torch.cat([poses, moved.clamp(low, high)], dim=1)
    found = token_losses(model, z, actions, proprio, TokenLoss(loss, rollout_steps=3))
    torch.testing.assert_close(found["teacher"], teacher, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found["rollout"], error(frames[:, 2:], z[:, 2:4]), atol=1e-6, rtol=1e-5)
    assert set(token_losses(model, z, actions, proprio, TokenLoss(loss, rollout_steps=1))) == {"teacher"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cached_rollout_is_the_forward_pass_of_training_on_the_same_frames(layout: Layout) -> None:
    model, (z, actions, proprio) = token_model(layout), window(frames=1)
    actions = torch.rand(3, 2, 4, 3, generator=torch.Generator().manual_seed(2)) - 0.5
    with torch.no_grad():
        path, poses = model.rollout(z[:, 0], proprio[:, 0], actions)
        for candidate in range(2):
            frames = torch.cat([z, path[:, candidate]], dim=1)
            states = model.state(torch.cat([proprio, poses[:, candidate]], dim=1))
            forced = model.predictor(frames[:, :-1], actions[:, candidate], states[:, :-1])
            torch.testing.assert_close(path[:, candidate], F.layer_norm(forced, (24,)), atol=1e-5, rtol=0)
    torch.testing.assert_close(poses, model.poses(proprio[:, 0], actions), atol=1e-5, rtol=0)


def test_detach_keeps_gradients_from_the_frame_that_is_fed_back() -> None:
    model, (z, actions, proprio) = token_model(), window()
    weights = list(model.predictor.parameters())
    found = {}
    for detach in (False, True):
        loss = token_losses(model, z, actions, proprio, TokenLoss(rollout_steps=2, detach=detach))["rollout"]
        found[detach] = loss, torch.autograd.grad(loss, weights)
    assert torch.equal(found[False][0], found[True][0])
    # The same by hand: the second of two steps, once with the first one's result as a constant.
    with torch.no_grad():
        first = model.rollout(z[:, 0], proprio[:, 0], actions[:, None, :1])[0][:, 0]
    state = model.state(torch.stack([proprio[:, 0], model.move(proprio[:, 0], actions[:, 0])], dim=1))
    fed = torch.cat([z[:, :1], first], dim=1)
    second = F.layer_norm(model.predictor(fed, actions[:, :2], state)[:, -1], (24,))
    wanted = torch.autograd.grad((second - z[:, 2]).abs().mean(), weights)
    for by_hand, detached in zip(wanted, found[True][1], strict=True):
        torch.testing.assert_close(by_hand, detached, atol=1e-6, rtol=1e-4)
    assert max(float((a - b).abs().max()) for a, b in zip(found[False][1], found[True][1], strict=True)) > 1e-4


def test_it_learns_and_resumes_exactly(tmp_path: Path) -> None:
    data, ema = table(), 0.9
    z = np.random.default_rng(1).normal(size=(1, 4, 24)) + 20.0 * data.proprio[:, :1, None] * np.linspace(-1, 1, 24)
    features = F.layer_norm(torch.from_numpy(z), (24,)).numpy().astype(np.float16)
    settings = TrainSettings(steps=55, batch_size=4, learning_rate=3e-3, seed=0, window=3, checkpoint_every=25)
    weights, lines = [], list[dict[str, float]]()
    for name in ("a", "b"):
        model = token_model(seed=len(weights))  # other weights the second time: all must come from the checkpoint
        if name == "b":
            first = token_model()
            with pytest.raises(StopError):
                fit_tokens(first, data, features, settings, TokenLoss(), tmp_path / name, CPU, stop_at(50), ema)
        report = lines.append if name == "a" else nothing
        fit_tokens(model, data, features, settings, TokenLoss(), tmp_path / name, CPU, report, ema)
        weights.append(model.predictor.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert lines[-1]["teacher"] < 0.7 * lines[0]["teacher"]
    assert set(lines[0]) == {"step", "loss", "teacher", "rollout"}
    assert lines[0]["loss"] == pytest.approx(lines[0]["teacher"] + lines[0]["rollout"], rel=1e-3)


def test_the_same_model_comes_back_and_plans_alike_in_the_units_of_the_data(tmp_path: Path) -> None:
    model = token_model(action_range=RANGE, planning={"horizon": 3, **SEARCH})
    save(model, tmp_path / "toy", "# card")
    again = load(tmp_path / "toy")
    assert isinstance(again, TokenModel)
    assert again.config == dataclasses.replace(model.config, action_range=again.config.action_range)
    config = json.loads((tmp_path / "toy" / "config.json").read_text())
    assert config["format"] == "worldmodel/tokens/1"
    acted = []
    for each in (model, again):
        agent = each.agent(proprio_weight=0.5)
        agent.reset(pictures(2, seed=1), [1, 2])
        acted.append(agent.act({"pixels": pictures(2), "proprio": np.zeros((2, 3), np.float32)}))
        assert agent.decision.path is not None
        assert agent.decision.path.shape == (2, 3, 3)
    assert np.array_equal(acted[0], acted[1])
    assert (acted[0] >= np.float32(RANGE[0])).all()
    assert (acted[0] <= np.float32(RANGE[1])).all()
    raw = (tmp_path / "toy" / "dynamics.safetensors").read_bytes()
    (tmp_path / "toy" / "dynamics.safetensors").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(BundleError, match="expected sha256"):
        load(tmp_path / "toy")


@torch.no_grad()
@pytest.mark.parametrize("distance", ["l1", "cosine"])
@pytest.mark.parametrize(("running_weight", "discount"), [(0.0, 1.0), (0.5, 0.8)])
def test_the_energy_has_a_term_for_the_pose(distance: Distance, running_weight: float, discount: float) -> None:
    model = token_model()
    assert model.reader is not None
    chosen = {"distance": distance, "running_weight": running_weight, "discount": discount, "bf16": False}
    agent = model.agent(horizon=2, proprio_weight=0.7, chunk=5, **chosen, **SEARCH)
    proprio = 0.1 * torch.randn(2, 3, generator=torch.Generator().manual_seed(3))
    agent.reset(pictures(2, seed=1), [1, 2])
    agent.act({"pixels": pictures(2), "proprio": proprio.numpy()})
    plan = agent.decision.plan
    assert plan is not None
    z, goal = (model.encode(torch.from_numpy(pictures(2, seed=seed))[:, None])[:, 0] for seed in (0, 1))
    path, poses = model.rollout(z, proprio, plan.actions[:, None])
    step = latent_distance(distance, path[:, 0], goal[:, None])
    step = step + 0.7 * (poses[:, 0] - model.reader(goal[:, None])[:, :, 0]).norm(dim=-1)
    torch.testing.assert_close(plan.cost, running_weight * step[:, 0] + discount * step[:, 1], atol=1e-5, rtol=0)


def test_guardrails_hold_and_what_breaks_them_is_not_done() -> None:
    model = token_model(planning={"horizon": 3, **SEARCH})
    observation = {"pixels": pictures(1), "proprio": np.zeros((1, 3), np.float32)}
    assert model.kinematics is not None
    slow = model.agent(guardrails=Guardrails(speed=0.01))
    slow.reset(pictures(1, seed=1), [1])
    action = torch.from_numpy(slow.act(observation))
    assert 0.0 < float((action @ model.kinematics.gain.T).norm()) < 0.0101
    boxed = model.agent(guardrails=Guardrails(boxes=[[-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]]))
    boxed.reset(pictures(1, seed=1), [1])
    assert not boxed.act(observation).any()
    assert boxed.decision.blocked is not None
    assert bool(boxed.decision.blocked.all())


def test_poses_of_seven_numbers_may_be_integrated() -> None:
    span = [[-0.1] * 6 + [-1.0], [0.1] * 6 + [1.0]]
    model = token_model(action_dim=7, proprio_dim=7, kinematics="pose", action_range=span)
    pose, action = torch.tensor([[0.4, 0.1, 0.3, 3.0, 0.2, -0.5, 0.5]]), torch.full((1, 7), 0.5)
    wanted = integrate_pose(pose, torch.tensor([0.05] * 6 + [0.5]))
    torch.testing.assert_close(model.poses(pose, action[:, None, None])[:, 0, 0], wanted)
    with pytest.raises(ConfigError, match="expected actions and proprioception of 7 numbers"):
        token_model(kinematics="pose")


def test_misuse_says_what_was_expected() -> None:
    model = token_model(reader_hidden=0)
    for settings in ({"horizon": 7}, {"proprio_weight": 1.0}, {"place_weight": 1.0}, {"chunk": 0}, {"planner": "ceem"}):
        with pytest.raises(ConfigError, match="expected"):
            model.agent(**settings)
    agent = model.agent(**SEARCH)
    with pytest.raises(WorldModelError, match="expected reset before act"):
        agent.act({"pixels": pictures(1), "proprio": np.zeros((1, 3), np.float32)})
    agent.reset(pictures(1), [1])
    with pytest.raises(WorldModelError, match=r"expected proprio as floats \[B,P=3\]"):
        agent.act({"pixels": pictures(1), "proprio": np.zeros((1, 2), np.float32)})
