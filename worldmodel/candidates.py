"""Candidate sequences under the transformer: one observed context for all of them, and no more memory than there is.

Legend: worldmodel/types.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.attention import MAX_SCORES, Block
from worldmodel.energy import Distance, latent_distance, step_weights
from worldmodel.errors import WorldModelError
from worldmodel.transformer import Advance, Cache, TransformerPredictor

# What errors without a type of their own say: the CPU's allocator, CUDA, and cuBLAS, cuDNN or cuSOLVER.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Context:
    """What was observed: latents z [B,T,N,D], the actions [B,T-1,A] between them and proprio [B,T,P]."""

    z: Tensor
    actions: Tensor
    proprio: Tensor


class CandidateRollout:
    """What the transformer expects after candidate sequences, decision by decision.

    cached: the context is worked through once, here, and each imagined step costs one frame. Otherwise the whole
    sequence runs again for every candidate and step, as in the public planners: the same result, for comparison.
    normalise: layer-normalise each predicted frame, as V-JEPA 2-AC does. dtype: of the products, by autocast; None
    leaves them in that of the weights. Raises WorldModelError for a context that does not fit the predictor.
    """

    def __init__(
        self,
        predictor: TransformerPredictor,
        context: Context,
        advance: Advance,
        *,
        cached: bool = True,
        normalise: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._predictor, self._context, self._advance = predictor, context, advance
        self._normalise, self._dtype = normalise, dtype
        self._cache: Cache | None = None
        if cached:
            with self._precision():
                self._cache = predictor.encode_context(context.z, context.actions, context.proprio)

    def __call__(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B,K,H,N,D] and proprioception [B,K,H,P] after each of the actions [B,K,H,A]."""
        with self._precision():
            if self._cache is not None:
                return self._predictor.rollout(self._cache, actions, self._advance, self._normalise)
            return self._again(actions)

    def _again(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        batch, count = actions.shape[:2]
        seen = (self._context.z, self._context.actions, self._context.proprio)
        z, done, proprio = (part.repeat_interleave(count, dim=0) for part in seen)
        start = z.shape[1]
        for action in actions.flatten(0, 1).unbind(dim=1):
            action = action.unsqueeze(1)
            done = torch.cat([done, action], dim=1)
            following = self._predictor(z, done, proprio)[:, -1:]
            following = F.layer_norm(following, following.shape[-1:]) if self._normalise else following
            z = torch.cat([z, following], dim=1)
            proprio = torch.cat([proprio, self._advance(proprio[:, -1:], action)], dim=1)
        found = (part[:, start:] for part in (z, proprio))
        z, proprio = (part.reshape(batch, count, *part.shape[1:]) for part in found)
        return z, proprio

    def _precision(self) -> torch.autocast:
        kind = self._context.z.device.type
        return torch.autocast(kind, dtype=self._dtype or torch.bfloat16, enabled=self._dtype is not None)


def goal_cost(
    rollout: CandidateRollout,
    z_goal: Tensor,
    distance: Distance = "l1",
    running_weight: float = 0.0,
    discount: float = 1.0,
    further: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[Tensor], Tensor]:
    """The cost [B,K] of candidates [B,K,H,A]: how far their latents are from the goal's, z_goal [B,N,D].

    running_weight: of every step but the last, whose weight is 1: 0 last step only, 1 sum. discount: by which a step
    counts less than the one before it. further: what else each step costs, [B,K,H,A] -> [B,K,H].
    """

    def cost(actions: Tensor) -> Tensor:
        path, counted = rollout(actions)[0], slice(None) if running_weight else slice(-1, None)
        path = path[:, :, counted].float()
        energy = latent_distance(distance, path, z_goal[:, None, None])
        if further is not None:
            energy = energy + further(actions)[:, :, counted]
        return energy @ step_weights(path.shape[2], running_weight, discount, path.device)

    return cost


@dataclass
class Chunked:
    """A function of candidates [B,K,H,A] -> [B,K,...], called with so many of them at once as fit into memory.

    size: B x K of one call, at most. Where memory runs out it is halved, for good, and the rest goes on with that; all
    candidates are evaluated or an error is raised. halvings: how often that was. calls: of the function that succeeded.
    """

    function: Callable[[Tensor], Tensor]
    size: int
    halvings: int = 0
    calls: int = 0

    def __call__(self, actions: Tensor) -> Tensor:
        """The results of all candidates, in order. Raises WorldModelError where even one does not fit."""
        batch, count = actions.shape[:2]
        parts: list[Tensor] = []
        start = 0
        while start < count:
            width = min(max(1, self.size // batch), count - start)
            try:
                parts.append(self.function(actions[:, start : start + width]))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if width == 1:
                    raise WorldModelError(
                        f"expected memory for one candidate of {batch} episodes, got none ({str(error)[:120]}): "
                        "plan fewer episodes side by side, or a shorter horizon"
                    ) from error
                self.size = batch * (width // 2)
                self.halvings += 1
                continue
            self.calls += 1
            start += width
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; the CPU's allocator, CUDA and its libraries also raise a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)


def candidates_within(
    memory: float, predictor: TransformerPredictor, frames: int, horizon: int, dtype: torch.dtype | None = None
) -> int:
    """How many sequences [H = horizon] behind T = frames a cached rollout may hold in `memory` bytes; at least one.

    From above, and without gradients: the keys and values of all steps, the latents twice, and the block at work.
    """
    block = cast(Block, predictor.predictor_blocks[0])
    weights = block.mlp.fc1.weight
    size, (hidden, width) = (dtype or weights.dtype).itemsize, weights.shape
    tokens = predictor.latent_tokens + 2
    seen = tokens * (frames + horizon)
    kept = 2 * len(predictor.predictor_blocks) * tokens * horizon * width * size
    latents = 2 * predictor.latent_tokens * horizon * predictor.latent_dim * weights.itemsize
    # Scores, their softmax and its parts; or the shared keys and values, copied for the fused kernel.
    held = tokens * seen <= MAX_SCORES
    looking = 4 * predictor.heads * tokens * seen * size if held else 2 * seen * width * size
    # The residual stream and its norm; queries, keys and values, turned in float32; or the hidden layer.
    mixing = 12 * tokens * width * (size + 4) + looking
    at_work = max(mixing, tokens * (3 * width + 2 * hidden) * size)
    return max(1, int(memory // (kept + latents + at_work)))
