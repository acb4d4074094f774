"""Attention over frames of tokens: 3-D rotary positions, the frame-block-causal mask, keys and values kept for later.

Besides the legend of worldmodel/types.py: W width = heads x head, L tokens of several frames, n tokens at hand.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeyValue = tuple[Tensor, Tensor]
"""Keys and values [B,heads,K,n,head] of some tokens; K = 1 where all candidates share them."""

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, float32 [n,head]; the sines for the first of a pair are negated."""

# Up to this many scores per head and candidate the score matrix is held in memory, which spares copying the shared keys
# once per candidate; beyond it the fused kernel, which holds no scores, is worth that copy.
MAX_SCORES = 2**15


def rotary_tables(times: Tensor, grid: int, extra: int, head: int) -> Rotation:
    """Cosines and sines [len(times) * (grid * grid + extra), head] in float32 for frames at the given time indices.

    The tokens of a frame are grid x grid patches, row by row, then `extra` tokens without a place in the image. A third
    of the head (rounded down to an even size) turns with time, a third with the row, a third with the column; what is
    left over does not turn, nor do rows and columns of the extra tokens. As in the public V-JEPA 2 code (Assran et al.
    2025, arXiv 2506.09985), the angles are tiled over a third (w0, w1, ..., w0, w1, ...) although neighbouring pairs
    are rotated: the two halves of a pair turn by different angles. The public weights were trained so; it must stay.
    """
    device = times.device
    third = 2 * ((head // 3) // 2)
    place = torch.arange(grid, device=device, dtype=torch.float32)
    off_image = torch.zeros(extra, device=device)
    rows = torch.cat([place.repeat_interleave(grid), off_image]).repeat(len(times))
    columns = torch.cat([place.repeat(grid), off_image]).repeat(len(times))
    frames = times.to(torch.float32).repeat_interleave(grid * grid + extra)
    exponents = torch.arange(third // 2, device=device, dtype=torch.float32) / (third / 2)
    frequencies = (1.0 / 10000**exponents).repeat(2)
    turning = torch.stack([frames, rows, columns], dim=1).unsqueeze(2) * frequencies
    angles = F.pad(turning.flatten(1), (0, head - 3 * third))
    # -1, 1, -1, 1, ...; a list would be copied from the host, which waits for the device and which no graph can record.
    sign = torch.arange(head, device=device, dtype=torch.float32).remainder(2.0) * 2.0 - 1.0
    return angles.cos(), angles.sin() * sign


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn neighbouring pairs (x0, x1) -> (x0 cos - x1 sin, x1 cos + x0 sin) of x [...,n,head], in float32."""
    cosines, sines = rotation
    swapped = x.view(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return torch.addcmul(x * cosines, swapped, sines).to(x.dtype)


def frame_causal_mask(frames: int, tokens: int, device: torch.device) -> Tensor | None:
    """bool [L,L], True where a token may look: its own frame and those before. None for one frame: all may."""
    if frames == 1:
        return None
    index = torch.arange(frames, device=device).repeat_interleave(tokens)
    return index.unsqueeze(1) >= index.unsqueeze(0)


def attend(queries: Tensor, segments: tuple[KeyValue, ...], mask: Tensor | None) -> Tensor:
    """Softmax attention of queries [B,heads,K,n,head] over the tokens of all segments together, to the same shape.

    The mask [n,n], if any, stands for a single segment: that of the queries themselves.
    """
    batch, heads, candidates, n, head = queries.shape
    keys_seen = sum(keys.shape[-2] for keys, _ in segments)
    if mask is None and len(segments) > 1 and n * keys_seen <= MAX_SCORES:
        return _attend_in_parts(queries, segments)
    joined = [
        torch.cat([part.expand(batch, heads, candidates, -1, head) for part in parts], dim=-2)
        if len(parts) > 1
        else parts[0].expand(batch, heads, candidates, -1, head)
        for parts in zip(*segments, strict=True)
    ]
    # Candidates are so many more heads: the fused kernels take four dimensions.
    q, k, v = (part.reshape(batch, heads * candidates, -1, head) for part in (queries, *joined))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).view(batch, heads, candidates, n, head)


def _attend_in_parts(queries: Tensor, segments: tuple[KeyValue, ...]) -> Tensor:
    """The same softmax with the score matrix held: shared keys meet the queries of all candidates in one product."""
    batch, heads, candidates, n, head = queries.shape
    queries = queries * head**-0.5
    folded = queries.reshape(batch, heads, 1, candidates * n, head)
    scores = [(folded if keys.shape[2] == 1 else queries) @ keys.transpose(-1, -2) for keys, _ in segments]
    sizes = [keys.shape[-2] for keys, _ in segments]
    together = torch.cat([part.view(batch, heads, candidates, n, -1) for part in scores], dim=-1)
    weights = torch.split(together.softmax(dim=-1), sizes, dim=-1)
    parts: list[Tensor] = []
    for weight, (_, values) in zip(weights, segments, strict=True):
        rows = weight.reshape(batch, heads, values.shape[2], -1, weight.shape[-1])
        parts.append((rows @ values).view_as(queries))
    mixed = parts[0]
    for part in parts[1:]:
        mixed = mixed + part
    return mixed


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, past: tuple[KeyValue, ...]
    ) -> tuple[Tensor, KeyValue]:
        """x [B,K,n,W] looks at itself and at `past`; returns the result and its own keys and values, to be kept."""
        split = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)
        # Laid out once for all the products that the keys and values will be part of.
        queries, keys = rotate(split[:2], rotation).contiguous().unbind(0)
        own = (keys, split[2].contiguous())
        mixed = attend(queries, (*past, own), mask)
        return self.proj(mixed.permute(0, 2, 3, 1, 4).flatten(-2)), own


class MLP(nn.Module):
    """Two layers around an exact GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[...,W] -> [...,W]."""
        result: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return result


class Block(nn.Module):
    """A transformer block that normalises before attention and before the MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, hidden)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None = None, past: tuple[KeyValue, ...] = ()
    ) -> tuple[Tensor, KeyValue]:
        """x [B,K,n,W] -> the same shape, and the keys and values of these tokens."""
        mixed, own = self.attn(self.norm1(x), rotation, mask, past)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), own
