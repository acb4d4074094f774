from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lively import A, D, N, P, inputs, lively
from torch import Tensor

from worldmodel.errors import WorldModelError
from worldmodel.transformer import Layout, TransformerPredictor

LAYOUTS: tuple[Layout, ...] = ("action_after", "vjepa2_ac")


def advance(proprio: Tensor, action: Tensor) -> Tensor:
    return torch.tanh(proprio + 0.3 * action[..., :P])


def candidates(batch: int, count: int, horizon: int) -> Tensor:
    return torch.randn(batch, count, horizon, A, generator=torch.Generator().manual_seed(2))


def rerun(
    predictor: TransformerPredictor, context: tuple[Tensor, Tensor, Tensor], future: Tensor, normalise: bool
) -> tuple[Tensor, Tensor]:
    """The rollout as the contract defines it: the whole sequence again for every step and candidate."""
    z, past, proprio = (t.repeat_interleave(future.shape[1], dim=0) for t in context)
    actions = past
    latents, poses = [], []
    for action in future.flatten(0, 1).unbind(dim=1):
        actions = torch.cat([actions, action.unsqueeze(1)], dim=1)
        following = predictor(z, actions, proprio)[:, -1:]
        following = F.layer_norm(following, (D,)) if normalise else following
        z = torch.cat([z, following], dim=1)
        proprio = torch.cat([proprio, advance(proprio[:, -1:], action.unsqueeze(1))], dim=1)
        latents.append(following)
        poses.append(proprio[:, -1:])
    shape = future.shape[:3]
    return torch.cat(latents, 1).reshape(*shape, *z.shape[2:]), torch.cat(poses, 1).reshape(*shape, P)


def observed(batch: int, frames: int, tokens: int = N) -> tuple[Tensor, Tensor, Tensor]:
    z, actions, proprio = inputs(batch, frames, tokens)
    return z, actions[:, :-1], proprio


@settings(max_examples=40)
@given(
    layout=st.sampled_from(LAYOUTS),
    batch=st.integers(1, 2),
    count=st.integers(1, 4),
    frames=st.integers(1, 3),
    horizon=st.integers(1, 5),
    depth=st.integers(1, 4),
    normalise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_cache_changes_nothing(
    layout: Layout, batch: int, count: int, frames: int, horizon: int, depth: int, normalise: bool, seed: int
) -> None:
    predictor = lively(layout, seed, depth=depth)
    context, future = observed(batch, frames), candidates(batch, count, horizon)
    with torch.inference_mode():
        wanted = rerun(predictor, context, future, normalise)
        got = predictor.rollout(predictor.encode_context(*context), future, advance, normalise)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_differs_is_rounding_and_nothing_else(layout: Layout) -> None:
    predictor = lively(layout).double()
    z, past, proprio, future = (tensor.double() for tensor in (*observed(2, 3), candidates(2, 3, 5)))
    context = z, past, proprio
    with torch.inference_mode():
        wanted, _ = rerun(predictor, context, future, True)
        got, _ = predictor.rollout(predictor.encode_context(*context), future, advance, True)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cache_changes_nothing_where_scores_are_too_many_to_hold(layout: Layout) -> None:
    predictor = lively(layout, latent_tokens=144, width=12)
    context, future = observed(1, 2, 144), candidates(1, 2, 2)
    with torch.inference_mode():
        wanted, _ = rerun(predictor, context, future, False)
        got, _ = predictor.rollout(predictor.encode_context(*context), future, advance)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_through_the_cache_are_those_of_the_rerun(layout: Layout) -> None:
    predictor, context = lively(layout), observed(2, 2)
    grads = []
    for roll in (
        lambda actions: predictor.rollout(predictor.encode_context(*context), actions, advance),
        lambda actions: rerun(predictor, context, actions, False),
    ):
        future = candidates(2, 3, 3).requires_grad_()
        z, poses = roll(future)
        (z[:, :, -1].square().sum() + poses.sum()).backward()
        assert future.grad is not None
        grads.append(future.grad)
    assert bool((grads[0] != 0).all())
    torch.testing.assert_close(grads[0], grads[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_context_is_held_once_and_serves_again_and_again(layout: Layout) -> None:
    predictor, context = lively(layout), observed(2, 3)
    cache = predictor.encode_context(*context)
    assert {tensor.shape[2] for segments in cache.past for pair in segments for tensor in pair} == {1}
    # The present frame has passed the blocks before the action's entry, and only those.
    assert [len(segments) for segments in cache.past] == [3] * predictor.perception + [2] * (3 - predictor.perception)
    _, grown = predictor.step(cache, candidates(2, 4, 1)[:, :, 0])
    assert {pair[0].shape[2] for segments in grown.past for pair in segments[:2]} == {1}
    first, _ = predictor.rollout(cache, candidates(2, 4, 2), advance)
    again, _ = predictor.rollout(cache, candidates(2, 4, 2), advance)
    assert torch.equal(first, again)


def test_a_bfloat16_rollout_stays_near_the_exact_one() -> None:
    predictor, context, future = lively("action_after"), observed(1, 2), candidates(1, 5, 4)
    with torch.inference_mode():
        wanted, _ = predictor.rollout(predictor.encode_context(*context), future, advance, normalise=True)
        predictor.to(torch.bfloat16)
        got, poses = predictor.rollout(predictor.encode_context(*context), future, advance, normalise=True)
    assert got.dtype == torch.bfloat16
    assert poses.dtype == torch.float32
    assert float((got.float() - wanted).norm() / wanted.norm()) < 0.1


def test_the_horizon_must_fit_the_context() -> None:
    predictor = lively("action_after", context=4)
    cache = predictor.encode_context(*observed(1, 2))
    assert predictor.rollout(cache, candidates(1, 2, 3), advance)[0].shape == (1, 2, 3, N, D)
    with pytest.raises(WorldModelError, match="expected at most 4 frames"):
        predictor.rollout(cache, candidates(1, 2, 4), advance)


def test_misuse_of_the_cache_is_named() -> None:
    predictor = lively("action_after")
    z, past, proprio = observed(2, 2)
    with pytest.raises(WorldModelError, match="one fewer than T"):
        predictor.encode_context(z, torch.zeros(2, 2, A), proprio)
    cache = predictor.encode_context(z, past, proprio)
    with pytest.raises(WorldModelError, match="call step first"):
        predictor.append(cache, z[:, :1], proprio[:, :1])
    with pytest.raises(WorldModelError, match=r"expected actions .*B=2,K,A=3"):
        predictor.step(cache, torch.zeros(2, A))
    _, stepped = predictor.step(cache, torch.zeros(2, 3, A))
    with pytest.raises(WorldModelError, match="call append first"):
        predictor.step(stepped, torch.zeros(2, 3, A))
    with pytest.raises(WorldModelError, match=r"expected z .*K=3"):
        predictor.append(stepped, torch.zeros(2, 4, N, D), torch.zeros(2, 4, P))
    cache = predictor.append(stepped, torch.zeros(2, 3, N, D), torch.zeros(2, 3, P))
    with pytest.raises(WorldModelError, match=r"expected actions .*K=3"):
        predictor.step(cache, torch.zeros(2, 1, A))
