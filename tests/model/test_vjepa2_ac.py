"""V-JEPA 2-AC as a model that plans: what it imagines is the predictor's own arithmetic, its actions fit the box."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from public_checkpoint import ENCODER_HEADS, SIZES, predictor_weights, write_checkpoint
from torch import Tensor

from planners import Plan
from worldmodel.actions import integrate_pose
from worldmodel.bundle import load
from worldmodel.convert import convert_vjepa2_ac, load_vjepa2_ac_predictor
from worldmodel.energy import Distance, latent_distance
from worldmodel.errors import BundleError, ConfigError, WorldModelError
from worldmodel.vjepa2_ac import VJEPA2AC

SEARCH = {"num_samples": 12, "num_iterations": 2}
POSES = np.tile(np.array([0.4, 0.1, 0.3, 3.0, 0.2, -0.5, 0.5], np.float32), (2, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vjepa2_ac")
    digest = write_checkpoint(path / "public.pt")
    settings: dict[str, Any] = {**SIZES, "encoder_heads": ENCODER_HEADS}
    convert_vjepa2_ac(checkpoint=path / "public.pt", sha256=digest, out=path / "model", **settings)
    return path / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> VJEPA2AC:
    found = load(folder)
    assert isinstance(found, VJEPA2AC)
    return found


def pictures(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (batch, 64, 64, 3), dtype=np.uint8)


def imagined(z: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """The whole sequence again for every step, with the predictor alone: z [B,N,D], actions [B,H,7]."""
    predictor = load_vjepa2_ac_predictor(predictor_weights(), **SIZES)
    latents, poses = z[:, None], proprio[:, None]
    for step in range(actions.shape[1]):
        following = predictor(latents, actions[:, : step + 1], poses)[:, -1:]
        latents = torch.cat([latents, F.layer_norm(following, (96,))], dim=1)
        poses = torch.cat([poses, integrate_pose(poses[:, -1:], actions[:, step : step + 1])], dim=1)
    return latents[:, 1:], poses[:, 1:]


@torch.no_grad()
def test_a_rollout_is_the_predictor_step_by_step(model: VJEPA2AC) -> None:
    z = model.encode(torch.from_numpy(pictures(2))[:, None])[:, 0]
    actions = 0.3 * torch.randn(2, 3, 2, 7, generator=torch.Generator().manual_seed(1))
    path, poses = model.rollout(z, torch.from_numpy(POSES), actions)
    for candidate in range(3):
        latents, pose = imagined(z, torch.from_numpy(POSES), actions[:, candidate])
        torch.testing.assert_close(path[:, candidate], latents, atol=2e-5, rtol=0)
        torch.testing.assert_close(poses[:, candidate], pose, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_plan_ends_nearer_to_the_goal_and_stays_in_the_box(model: VJEPA2AC) -> None:
    frames, goals = pictures(2), pictures(2, seed=1)
    acted = []
    for chunk in (5, 100):
        agent = model.agent("cem", horizon=2, max_step=0.075, chunk=chunk, num_elites=4, bf16=False, **SEARCH)
        agent.reset(goals, [1, 2])
        acted.append(agent.act({"pixels": frames, "proprio": POSES}))
    np.testing.assert_allclose(acted[0], acted[1], atol=1e-5)
    action, plan, path = acted[0], agent.decision.plan, agent.decision.path
    assert plan is not None
    assert path is not None
    z, goal = (model.encode(torch.from_numpy(part)[:, None])[:, 0] for part in (frames, goals))
    ends, poses = imagined(z, torch.from_numpy(POSES), plan.actions)
    torch.testing.assert_close(plan.cost, (ends[:, -1] - goal).abs().mean(dim=(1, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(path, poses[..., :3])
    still, _ = imagined(z, torch.from_numpy(POSES), torch.zeros(2, 2, 7))
    assert bool((plan.cost < (still[:, -1] - goal).abs().mean(dim=(1, 2))).all())
    assert action.dtype == np.float32
    assert np.abs(action[:, :3]).max() <= 0.075
    assert not action[:, 3:6].any()
    gripper, meant = np.abs(action[:, 6]), plan.actions[:, 0, 6].abs().numpy()
    assert np.array_equal(gripper, np.where(meant < 0.25, 0.0, meant))


@torch.no_grad()
@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
@pytest.mark.parametrize(("running_weight", "discount"), [(0.0, 1.0), (0.5, 0.8)])
def test_the_energy_is_what_was_chosen(
    model: VJEPA2AC, distance: Distance, running_weight: float, discount: float
) -> None:
    chosen = {"distance": distance, "running_weight": running_weight, "discount": discount, "bf16": False}
    agent = model.agent("cem", horizon=2, num_elites=4, **chosen, **SEARCH)
    agent.reset(pictures(2, seed=1), [1, 2])
    agent.act({"pixels": pictures(2), "proprio": POSES})
    plan = agent.decision.plan
    assert plan is not None
    z, goal = (model.encode(torch.from_numpy(pictures(2, seed=seed))[:, None])[:, 0] for seed in (0, 1))
    path, _ = imagined(z, torch.from_numpy(POSES), plan.actions)
    first, last = latent_distance(distance, path, goal[:, None]).unbind(dim=1)
    torch.testing.assert_close(plan.cost, running_weight * first + discount * last, atol=1e-5, rtol=0)


@torch.no_grad()
def test_bf16_and_a_warm_start_are_choices(model: VJEPA2AC) -> None:
    observation = {"pixels": pictures(2), "proprio": POSES}
    plans: dict[tuple[bool, bool], list[Plan]] = {}
    for bf16, warm in itertools.product((False, True), repeat=2):
        agent = model.agent("cem", horizon=2, num_elites=4, bf16=bf16, warm_start=warm, **SEARCH)
        agent.reset(pictures(2, seed=1), [1, 2])
        for _ in range(2):
            agent.act(observation)
            assert agent.decision.plan is not None
            plans.setdefault((bf16, warm), []).append(agent.decision.plan)
    exact, rounded, warm_started = plans[False, False], plans[True, False], plans[False, True]
    assert not torch.equal(exact[0].cost, rounded[0].cost)
    torch.testing.assert_close(exact[0].cost, rounded[0].cost, atol=2e-2, rtol=0)
    assert torch.equal(exact[0].actions, warm_started[0].actions)
    assert not torch.equal(exact[1].actions, warm_started[1].actions)


@pytest.mark.parametrize("planner", ["icem", "mppi", "random_shooting", "gradient"])
def test_every_planner_drives_it(model: VJEPA2AC, planner: str) -> None:
    settings = {} if planner == "random_shooting" else {"num_iterations": 2}
    agent = model.agent(planner, horizon=1, num_samples=4, **settings)
    agent.reset(pictures(1), [3])
    action = agent.act({"pixels": pictures(1, seed=1), "proprio": POSES[:1]})
    assert np.isfinite(action).all()
    assert not action[:, 3:6].any()


def test_misuse_says_what_was_expected(model: VJEPA2AC) -> None:
    for settings in ({"planner": "ceem"}, {"horizon": 0}, {"max_step": 2.0}, {"num_sampels": 3}):
        with pytest.raises(ConfigError, match="expected"):
            model.agent(**settings)
    agent = model.agent(**SEARCH)
    with pytest.raises(WorldModelError, match="expected reset before act"):
        agent.act({"pixels": pictures(1), "proprio": POSES[:1]})
    agent.reset(pictures(1), [1])
    with pytest.raises(WorldModelError, match="expected proprio as floats") as caught:
        agent.act({"pixels": pictures(1), "proprio": POSES[:1, :3]})
    assert "\n" not in str(caught.value)


def test_a_damaged_bundle_is_refused(folder: Path) -> None:
    manifest = folder / "MANIFEST.json"
    kept = manifest.read_text()
    listed = {name: digest for name, digest in json.loads(kept).items() if name != "predictor.safetensors"}
    manifest.write_text(json.dumps(listed))
    with pytest.raises(BundleError, match="to list"):
        load(folder)
    manifest.write_text(kept)
    raw = (folder / "encoder" / "model.safetensors").read_bytes()
    (folder / "encoder" / "model.safetensors").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(BundleError, match="expected sha256"):
        load(folder)
    (folder / "encoder" / "model.safetensors").write_bytes(raw)
    assert load(folder).name == "vjepa2_ac-public"
