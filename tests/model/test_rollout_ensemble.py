"""The members' layers in one product: the same as the members one by one, and never older than their weights."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from tiny_model import ARCHITECTURE
from torch import Tensor

from worldmodel.encoders import VJEPAEncoder
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.predictor import CompactPredictor
from worldmodel.pretrain.vjepa import build_model
from worldmodel.rollout import rollout

E, Q, A, P = 3, 2, 3, 3


@pytest.fixture
def model() -> WorldModel:
    """Members whose every weight matters: at their initialisation they predict no change."""
    config = ModelConfig(A, P, Q, 4, 2, 4, 16, members=E, predictor_hidden=24, predictor_blocks=2)
    model = WorldModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config, name="tiny").eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.members.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.7 / weight.shape[-1] ** 0.5)
        for member in model.members:
            compact = cast(CompactPredictor, member)
            compact.kinematics.gain.copy_(0.1 * torch.eye(P, A))
            compact.kinematics.low.fill_(-0.2)
            compact.kinematics.high.fill_(0.2)
            compact.fourier.fit(torch.tensor([[-0.2] * P, [0.2] * P]))
    return model.requires_grad_(False)


def start(batch: int = 2, count: int = 5, horizon: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    places = torch.randn(batch, 1, Q, generator=generator)
    proprio = 0.1 * torch.randn(batch, P, generator=generator)
    return places, proprio, torch.rand(batch, count, horizon, A, generator=generator) * 2 - 1


def one_by_one(model: WorldModel, places: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    found = [
        rollout(cast(CompactPredictor, member), places[:, None], proprio[:, None], actions) for member in model.members
    ]
    return torch.stack([path for path, _ in found]), found[0][1]


def test_several_objects_move_as_each_would_alone(model: WorldModel) -> None:
    places, proprio, actions = start()
    both = torch.cat([places, 0.5 - places], dim=1)
    path, poses = model.rollout(both, proprio, actions)
    assert path.shape == (E, 2, 5, 4, 2, Q)
    for index in range(2):
        alone, same = model.rollout(both[:, index : index + 1], proprio, actions)
        torch.testing.assert_close(path[..., index : index + 1, :], alone, atol=1e-6, rtol=0)
        assert torch.equal(poses, same)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("sizes", [(2, 5, 4), (1, 1, 1), (3, 1, 2)])
def test_together_as_one_by_one(
    model: WorldModel, sizes: tuple[int, int, int], dtype: torch.dtype, tolerance: float
) -> None:
    given = tuple(tensor.to(dtype) for tensor in start(*sizes))
    model.members.to(dtype)
    wanted, got = one_by_one(model, *given), model.rollout(*given)
    assert float((wanted[0][0] - wanted[0][1]).abs().max()) > 0.1, "members that agree would hide a mix-up"
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


def test_bfloat16_is_as_near_as_it_was(model: WorldModel) -> None:
    given = start()
    exact = one_by_one(model, *given)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before, now = one_by_one(model, *given)[0], model.rollout(*given)[0]
    error, allowed = (now - exact).norm(), (before - exact).norm()
    assert 0.0 < float(error) < 1.5 * float(allowed)


def test_gradients_reach_the_actions_and_weights_that_are_not_frozen(model: WorldModel) -> None:
    model.members.requires_grad_(True)
    places, proprio, actions = start()
    grads = []
    for roll in (model.rollout, lambda *given: one_by_one(model, *given)):
        model.zero_grad()
        actions = actions.detach().requires_grad_()
        path, poses = roll(places, proprio, actions)
        (path.square().mean() + poses.sum()).backward()
        grads.append([actions.grad, *(weight.grad for weight in model.members.parameters())])
    for one, other in zip(*grads, strict=True):
        assert one is not None
        assert bool((one != 0).any())
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_stack_follows_the_weights(model: WorldModel) -> None:
    given = start()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.members.parameters():
            weight.mul_(1.1)
    first = model.rollout(*given)[0]
    assert torch.equal(first, model.rollout(*given)[0])
    model.members.load_state_dict(other.members.state_dict())
    second = model.rollout(*given)[0]
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, one_by_one(model, *given)[0], atol=1e-5, rtol=0)
    with torch.no_grad():
        model.predictor.leave.bias.add_(1.0)
    assert float((model.rollout(*given)[0] - second)[0].abs().min()) > 0.1
    assert torch.equal((model.rollout(*given)[0])[1:], second[1:])


def test_a_first_call_without_gradients_does_not_forbid_later_ones(model: WorldModel) -> None:
    places, proprio, actions = start()
    with torch.inference_mode():
        model.rollout(places, proprio, actions)
    model.rollout(places, proprio, actions.requires_grad_())[0].sum().backward()
    assert actions.grad is not None
    assert bool((actions.grad != 0).any())
