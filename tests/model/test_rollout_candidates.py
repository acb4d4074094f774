"""Candidates of the transformer: cached or run again they are the same, and none is lost for want of memory."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from lively import A, D, N, P, inputs, lively
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from worldmodel.candidates import CandidateRollout, Chunked, Context, candidates_within, goal_cost, is_out_of_memory
from worldmodel.errors import WorldModelError
from worldmodel.transformer import Layout, TransformerPredictor

LAYOUTS: tuple[Layout, ...] = ("action_after", "vjepa2_ac")


def advance(proprio: Tensor, action: Tensor) -> Tensor:
    return torch.tanh(proprio + 0.3 * action[..., :P])


def observed(batch: int, frames: int) -> Context:
    z, actions, proprio = inputs(batch, frames)
    return Context(z, actions[:, :-1], proprio)


def candidates(batch: int, count: int, horizon: int) -> Tensor:
    return torch.randn(batch, count, horizon, A, generator=torch.Generator().manual_seed(2))


def first_entries(actions: Tensor) -> Tensor:
    return actions[:, :, 0, 0]


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("sizes", [(1, 1, 7, 5), (2, 3, 4, 3), (1, 2, 1, 1)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cached_and_run_again_agree(layout: Layout, sizes: tuple[int, int, int, int], normalise: bool) -> None:
    batch, frames, count, horizon = sizes
    predictor, context, actions = lively(layout), observed(batch, frames), candidates(batch, count, horizon)
    with torch.inference_mode():
        cached, again = (
            CandidateRollout(predictor, context, advance, cached=cached, normalise=normalise)(actions)
            for cached in (True, False)
        )
    assert cached[0].shape == (batch, count, horizon, N, D)
    assert cached[1].shape == (batch, count, horizon, P)
    for one, other in zip(cached, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cached", [True, False])
def test_bfloat16_by_autocast_leaves_the_weights_and_stays_near(cached: bool) -> None:
    predictor, context, actions = lively("action_after"), observed(1, 2), candidates(1, 6, 4)
    with torch.inference_mode():
        exact, _ = CandidateRollout(predictor, context, advance, cached=cached)(actions)
        near, _ = CandidateRollout(predictor, context, advance, cached=cached, dtype=torch.bfloat16)(actions)
    assert next(predictor.parameters()).dtype == torch.float32
    assert 0.0 < float((near.float() - exact).norm() / exact.norm()) < 0.1


def test_the_cost_is_least_where_the_goal_is_what_a_candidate_leads_to() -> None:
    predictor, context, actions = lively("action_after"), observed(2, 1), candidates(2, 6, 3)
    with torch.inference_mode():
        rollout = CandidateRollout(predictor, context, advance)
        reached = rollout(actions)[0][:, :, -1]
        cost = goal_cost(rollout, torch.stack([reached[0, 4], reached[1, 2]]))(actions)
    assert cost.shape == (2, 6)
    assert cost.argmin(dim=1).tolist() == [4, 2]
    assert float(cost.amin(dim=1).max()) < 1e-6


@pytest.mark.parametrize(("size", "calls"), [(100, 1), (14, 1), (6, 3), (2, 7), (1, 7)])
def test_chunks_hold_every_candidate_in_order(size: int, calls: int) -> None:
    rollout = CandidateRollout(lively("action_after"), observed(2, 1), advance)
    cost, actions = goal_cost(rollout, inputs(2, 1)[0][:, 0]), candidates(2, 7, 2)
    with torch.inference_mode():
        chunked = Chunked(cost, size)
        torch.testing.assert_close(chunked(actions), cost(actions), atol=1e-5, rtol=0)
    assert (chunked.calls, chunked.halvings, chunked.size) == (calls, 0, size)


def test_chunks_are_halved_where_the_allocator_gives_up_and_stay_so() -> None:
    def hungry(actions: Tensor) -> Tensor:
        torch.empty(8 ** min(actions.shape[1], 18), dtype=torch.uint8)  # 9 take 128 MiB; 18 all a machine can address
        return first_entries(actions)

    chunked, actions = Chunked(hungry, 1000), candidates(1, 37, 1)
    assert torch.equal(chunked(actions), first_entries(actions))
    assert (chunked.size, chunked.halvings, chunked.calls) == (9, 2, 5)
    assert torch.equal(chunked(actions), first_entries(actions))
    assert (chunked.size, chunked.halvings) == (9, 2)


def test_where_not_even_one_fits_or_something_else_is_wrong_it_is_said() -> None:
    def impossible(actions: Tensor) -> Tensor:
        return torch.empty(2**50 * actions.shape[1], dtype=torch.uint8)

    with pytest.raises(WorldModelError, match="expected memory for one candidate of 2 episodes"):
        Chunked(impossible, 64)(candidates(2, 5, 1))
    with pytest.raises(RuntimeError, match="shape"):
        Chunked(lambda actions: actions.view(-1, 1000), 64)(candidates(2, 5, 1))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_way_to_run_out_of_memory_halves_the_chunks(error: Exception) -> None:
    def hungry(actions: Tensor) -> Tensor:
        if actions.shape[1] > 9:
            raise error
        return first_entries(actions)

    chunked, actions = Chunked(hungry, 37), candidates(1, 37, 1)
    assert torch.equal(chunked(actions), first_entries(actions))
    assert (chunked.size, chunked.halvings, chunked.calls) == (9, 2, 5)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        ValueError("a message of an error of another kind: out of memory"),
    ],
)
def test_no_other_error_is_taken_for_a_lack_of_memory(error: Exception) -> None:
    calls = []

    def broken(actions: Tensor) -> Tensor:
        calls.append(actions.shape[1])
        raise error

    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught:
        Chunked(broken, 64)(candidates(1, 37, 1))
    assert caught.value is error
    assert calls == [37]


class Peak(TorchDispatchMode):
    """The most bytes that were alive at once among all that was allocated inside."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata)
        self.most = max(self.most, sum(self.alive.values()))
        return out


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "width", "count"), [(16, 96, 40), (4, 32, 50), (144, 48, 6)])
def test_the_memory_estimate_holds_and_is_not_wasteful(
    tokens: int, width: int, count: int, dtype: torch.dtype | None
) -> None:
    predictor = TransformerPredictor(
        latent_tokens=tokens, latent_dim=width, action_dim=A, proprio_dim=P, width=width, depth=3, heads=2
    ).requires_grad_(False)
    context = Context(torch.randn(1, 2, tokens, width), torch.zeros(1, 1, A), torch.zeros(1, 2, P))
    rollout = CandidateRollout(predictor, context, advance, dtype=dtype)
    with torch.inference_mode(), Peak() as peak:
        rollout(candidates(1, count, 4))
    assert count / 3 <= candidates_within(peak.most, predictor, 2, 4, dtype) <= count
