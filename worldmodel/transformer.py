"""Action-conditioned dynamics on many latent tokens per frame: a frame-block-causal transformer, and its exact cache.

Legend: worldmodel/types.py. W is the transformer's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.attention import Block, KeyValue, Rotation, frame_causal_mask, rotary_tables
from worldmodel.errors import ConfigError, WorldModelError

Layout = Literal["action_after", "vjepa2_ac"]
Advance = Callable[[Tensor, Tensor], Tensor]
"""(proprio [...,P], action [...,A]) -> the next proprio [...,P]."""


@dataclass(frozen=True)
class Cache:
    """What the transformer has seen, worked through as far as it goes without knowing the next action.

    A cache is never changed: every step returns a new one, so one context serves any number of candidate sequences.

    past: for each block, the keys and values of the tokens it has seen, those of the shared context once per episode.
    frame: [B,K,N+1,W] the newest frame's tokens awaiting its action, K = 1 while shared; None after an action.
    proprio: [B,K,P] of the newest frame.
    frames: frames begun so far.
    """

    past: tuple[tuple[KeyValue, ...], ...]
    frame: Tensor | None
    proprio: Tensor
    frames: int


def _require(name: str, tensor: Tensor, hint: str, **sizes: int) -> None:
    """Raise unless `tensor` is floating point and has these sizes (-1: any), which are named after the legend."""
    wanted = tuple(sizes.values())
    fits = tensor.dim() == len(wanted) and all(w in (-1, s) for w, s in zip(wanted, tensor.shape, strict=True))
    if not fits or not tensor.is_floating_point():
        legend = ",".join(name if size < 0 else f"{name}={size}" for name, size in sizes.items())
        got = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        raise WorldModelError(f"expected {name} as floats [{legend}], got {got}: {hint}")


class TransformerPredictor(nn.Module):
    """The V-JEPA 2-AC predictor (Assran et al. 2025, arXiv 2506.09985, section 3.1), and a form that plans cheaper.

    The tokens of a frame are its N patches, the state and the action that leaves it; all attend to their own frame and
    to those before, and slot t's patches are read out as frame t+1. Both layouts have the same weights. They differ in
    how early the action is seen:

    vjepa2_ac: at once, as in the public model. What a candidate shares with the others is the frames before the current
        one, for the current frame's tokens depend on the candidate's action from the first block on.
    action_after: after the frame has been worked through. The first `perception` blocks see patches and state only;
        the action joins behind them, and the remaining blocks are conditioned on it. So the current frame, too, is
        worked through once for all candidates up to the action's entry, while an imagined step still costs the
        tokens of one frame (separate query tokens behind the action would cost two: the queries, and the frame they
        predict, which has to be read back in). In a rollout of H steps, (H - perception / depth) frames are computed
        per candidate, where the V-JEPA 2-AC layout computes H.

    latent_tokens: N, a square number: the patches' grid. mlp_ratio: hidden width of the MLPs over W. context: the most
    frames, seen and imagined together, in one sequence. perception: by default half the depth; 0 for vjepa2_ac.
    Raises ConfigError for sizes that do not fit together.
    """

    def __init__(
        self,
        *,
        latent_tokens: int,
        latent_dim: int,
        action_dim: int,
        proprio_dim: int,
        width: int = 192,
        depth: int = 4,
        heads: int = 3,
        mlp_ratio: float = 4.0,
        context: int = 8,
        layout: Layout = "action_after",
        perception: int | None = None,
    ) -> None:
        super().__init__()
        self.latent_tokens, self.latent_dim = latent_tokens, latent_dim
        self.action_dim, self.proprio_dim = action_dim, proprio_dim
        self.context, self.layout, self.heads = context, layout, heads
        default = 0 if layout == "vjepa2_ac" else depth // 2
        self.perception = default if perception is None else perception
        self.grid = math.isqrt(max(latent_tokens, 0))
        self._check_sizes(width, depth, mlp_ratio)
        self.head = width // heads
        self.predictor_embed = nn.Linear(latent_dim, width)
        self.action_encoder = nn.Linear(action_dim, width)
        self.state_encoder = nn.Linear(proprio_dim, width)
        hidden = round(width * mlp_ratio)
        self.predictor_blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.predictor_norm = nn.LayerNorm(width, eps=1e-6)
        self.predictor_proj = nn.Linear(width, latent_dim)
        self._initialise()

    def _check_sizes(self, width: int, depth: int, mlp_ratio: float) -> None:
        sizes = {
            "latent_dim": self.latent_dim, "action_dim": self.action_dim, "proprio_dim": self.proprio_dim,
            "width": width, "depth": depth, "heads": self.heads, "context": self.context,
        }  # fmt: skip
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"expected a positive {name}, got {size}: correct the predictor's settings")
        if self.layout not in ("action_after", "vjepa2_ac"):
            raise ConfigError(f"expected layout action_after or vjepa2_ac, got {self.layout!r}: name one of the two")
        if self.grid < 1 or self.grid**2 != self.latent_tokens:
            raise ConfigError(
                f"expected a square number of latent_tokens, got {self.latent_tokens}: use 1, 4, 9, 16, ..."
            )
        if width % self.heads or width // self.heads < 6 or width // self.heads % 2:
            raise ConfigError(
                f"expected a width that is an even multiple (at least 6) of heads={self.heads}, got {width}: "
                f"the rotary positions need it; try {self.heads * 64}"
            )
        if round(width * mlp_ratio) < 1:
            raise ConfigError(f"expected a positive mlp_ratio, got {mlp_ratio}: use 4")
        if not 0 <= self.perception < depth or (self.layout == "vjepa2_ac" and self.perception != 0):
            raise ConfigError(
                f"expected 0 <= perception < depth={depth}, and 0 for vjepa2_ac, got {self.perception}: "
                "leave blocks behind the action"
            )

    def _initialise(self) -> None:
        """Truncated normal weights; what is added to the residual stream shrinks with the depth, as in V-JEPA."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            for index, block in enumerate(self._blocks()):
                block.attn.proj.weight.div_(math.sqrt(2.0 * (index + 1)))
                block.mlp.fc2.weight.div_(math.sqrt(2.0 * (index + 1)))

    def _blocks(self) -> list[Block]:
        return [block for block in self.predictor_blocks if isinstance(block, Block)]

    def forward(self, z: Tensor, actions: Tensor, proprio: Tensor) -> Tensor:
        """[B,T,N,D], [B,T,A], [B,T,P] -> [B,T,N,D]; slot t predicts t+1 from frames and actions up to t.

        The result is not layer-normalised. Raises WorldModelError for wrong shapes and for T beyond `context`.
        """
        self._observed(z, actions, proprio, last_action=True)
        x = self._whole(0, self.perception, self._embed(z, proprio))
        x = torch.cat([x, self._enter(self.action_encoder, actions).unsqueeze(2)], dim=2)
        return self._read(self._whole(self.perception, len(self.predictor_blocks), x))

    def encode_context(self, z: Tensor, actions: Tensor, proprio: Tensor) -> Cache:
        """The cache of T observed frames [B,T,N,D], [B,T,P] and the T-1 actions [B,T-1,A] between them.

        It is computed once per decision and serves every candidate of every planner iteration. Raises WorldModelError.
        """
        frames = self._observed(z, actions, proprio, last_action=False)
        empty: tuple[tuple[KeyValue, ...], ...] = tuple(() for _ in self.predictor_blocks)
        cache = self.append(Cache(empty, None, proprio[:, :1], 0), z[:, :1], proprio[:, :1])
        for index in range(1, frames):
            now = slice(index, index + 1)
            cache = self.append(self.step(cache, actions[:, index - 1 : index])[1], z[:, now], proprio[:, now])
        return cache

    def step(self, cache: Cache, actions: Tensor) -> tuple[Tensor, Cache]:
        """The next frame [B,K,N,D] (not layer-normalised) after actions [B,K,A], and the cache awaiting that frame.

        K may grow from 1 to the number of candidates here. Raises WorldModelError.
        """
        if cache.frame is None:
            raise WorldModelError(
                "expected a cache with a frame that awaits its action, got one without: call append first"
            )
        batch, candidates = cache.frame.shape[:2]
        hint = "give every candidate of the cache one action"
        _require("actions", actions, hint, B=batch, K=candidates if candidates > 1 else -1, A=self.action_dim)
        candidates = actions.shape[1]
        action = self._enter(self.action_encoder, actions).unsqueeze(2)
        x = torch.cat([cache.frame.expand(-1, candidates, -1, -1), action], dim=2)
        x, past = self._onward(self.perception, len(self.predictor_blocks), x, cache)
        proprio = cache.proprio.expand(-1, candidates, -1)
        return self._read(x), Cache(past, None, proprio, cache.frames)

    def append(self, cache: Cache, z: Tensor, proprio: Tensor) -> Cache:
        """The cache with the next frame [B,K,N,D], [B,K,P], as it was observed or imagined. Raises WorldModelError."""
        if cache.frame is not None:
            raise WorldModelError("expected a cache whose last frame has its action, got one without: call step first")
        if cache.frames >= self.context:
            raise WorldModelError(
                f"expected at most {self.context} frames, seen and imagined, got more: "
                "plan a shorter horizon or use a predictor with a larger context"
            )
        batch, candidates = cache.proprio.shape[:2]
        hint = "give every candidate of the cache one frame"
        _require("z", z, hint, B=batch, K=candidates, N=self.latent_tokens, D=self.latent_dim)
        _require("proprio", proprio, hint, B=batch, K=candidates, P=self.proprio_dim)
        begun = Cache(cache.past, None, proprio, cache.frames + 1)
        x, past = self._onward(0, self.perception, self._embed(z, proprio), begun)
        return Cache(past, x, proprio, begun.frames)

    def rollout(
        self, cache: Cache, actions: Tensor, advance: Advance, normalise: bool = False, detach: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Latents [B,K,H,N,D] and proprioception [B,K,H,P] after each of the actions [B,K,H,A].

        advance: how proprioception follows from an action. normalise: layer-normalise every predicted frame before it
        is used, as V-JEPA 2-AC does. detach: no gradients flow back through a frame that is fed back. Raises
        WorldModelError, also where context + H - 1 frames are more than `context`.
        """
        latents: list[Tensor] = []
        poses: list[Tensor] = []
        for index, action in enumerate(actions.unbind(dim=2)):
            if index > 0:
                cache = self.append(cache, latents[-1].detach() if detach else latents[-1], poses[-1])
            z, cache = self.step(cache, action)
            latents.append(F.layer_norm(z, z.shape[-1:]) if normalise else z)
            poses.append(advance(cache.proprio, action))
        return torch.stack(latents, dim=2), torch.stack(poses, dim=2)

    def _observed(self, z: Tensor, actions: Tensor, proprio: Tensor, last_action: bool) -> int:
        """Check the three inputs against each other; return T."""
        _require("z", z, "project the features first", B=-1, T=-1, N=self.latent_tokens, D=self.latent_dim)
        batch, frames = z.shape[:2]
        if not 1 <= frames <= self.context:
            raise WorldModelError(
                f"expected 1 to {self.context} frames in z [B,T,N,D], got T={frames}: pass the last ones"
            )
        between = (
            "give one action per frame" if last_action else "give the actions between the frames, one fewer than T"
        )
        _require("actions", actions, between, B=batch, T=frames if last_action else frames - 1, A=self.action_dim)
        _require("proprio", proprio, "give one proprioception per frame", B=batch, T=frames, P=self.proprio_dim)
        return frames

    def _enter(self, layer: nn.Linear, values: Tensor) -> Tensor:
        """Embed values in the precision of the weights."""
        tokens: Tensor = layer(values.to(layer.weight.dtype))
        return tokens

    def _embed(self, z: Tensor, proprio: Tensor) -> Tensor:
        """[B,T,N,D], [B,T,P] -> [B,T,N+1,W]: the patches and the state."""
        state = self._enter(self.state_encoder, proprio).unsqueeze(2)
        return torch.cat([self._enter(self.predictor_embed, z), state], dim=2)

    def _read(self, x: Tensor) -> Tensor:
        """[B,T,n,W] -> [B,T,N,D]."""
        z: Tensor = self.predictor_proj(self.predictor_norm(x[:, :, : self.latent_tokens]))
        return z

    def _rotation(self, first: int, frames: int, tokens: int, device: torch.device) -> Rotation:
        times = torch.arange(first, first + frames, device=device)
        return rotary_tables(times, self.grid, tokens - self.latent_tokens, self.head)

    def _whole(self, start: int, stop: int, x: Tensor) -> Tensor:
        """All frames at once, [B,T,n,W] -> the same, through blocks start to stop."""
        frames, tokens = x.shape[1:3]
        rotation = self._rotation(0, frames, tokens, x.device)
        mask = frame_causal_mask(frames, tokens, x.device)
        flat = x.flatten(1, 2).unsqueeze(1)
        for block in self._blocks()[start:stop]:
            flat, _ = block(flat, rotation, mask)
        return flat.view_as(x)

    def _onward(
        self, start: int, stop: int, x: Tensor, cache: Cache
    ) -> tuple[Tensor, tuple[tuple[KeyValue, ...], ...]]:
        """The newest frame, [B,K,n,W] -> the same, through blocks start to stop, and what those have seen since."""
        rotation = self._rotation(cache.frames - 1, 1, x.shape[2], x.device)
        past = list(cache.past)
        for index, block in enumerate(self._blocks()[start:stop], start):
            x, own = block(x, rotation, None, past[index])
            past[index] = (*past[index], own)
        return x, tuple(past)
