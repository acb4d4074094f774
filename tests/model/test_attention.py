from __future__ import annotations

import math

import pytest
import torch

from worldmodel.attention import MAX_SCORES, attend, frame_causal_mask, rotary_tables, rotate


def angle(position: float, entry: int, third: int) -> float:
    """The angle by which the public code turns an entry of a third: frequencies are tiled, not repeated in pairs."""
    return position / 10000 ** ((entry % (third // 2)) / (third / 2))


@pytest.mark.parametrize("head", [64, 16, 6])
def test_every_entry_turns_by_the_angle_of_its_third(head: int) -> None:
    grid, times = 3, [0, 1, 5]
    third = 2 * ((head // 3) // 2)
    x = torch.randn(len(times) * (grid * grid + 2), head, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotary_tables(torch.tensor(times), grid, 2, head)).reshape(len(times), grid * grid + 2, head)
    x = x.reshape_as(turned)
    for frame, token, entry in [(f, n, e) for f in range(3) for n in range(11) for e in range(head)]:
        on_image = token < grid * grid
        positions = [times[frame], token // grid if on_image else 0, token % grid if on_image else 0]
        theta = angle(positions[entry // third], entry % third, third) if entry < 3 * third else 0.0
        partner = -x[frame, token, entry + 1] if entry % 2 == 0 else x[frame, token, entry - 1]
        wanted = float(x[frame, token, entry]) * math.cos(theta) + float(partner) * math.sin(theta)
        assert float(turned[frame, token, entry]) == pytest.approx(wanted, abs=1e-5)


def test_angles_are_exact_whatever_the_precision_of_the_tokens() -> None:
    rotation = rotary_tables(torch.tensor([7]), 4, 2, 16)
    assert all(table.dtype == torch.float32 for table in rotation)
    x = torch.randn(18, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    turned = rotate(x, rotation)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate(x.float(), rotation).bfloat16())


def test_the_mask_lets_a_frame_see_itself_and_the_past() -> None:
    mask = frame_causal_mask(3, 2, torch.device("cpu"))
    assert mask is not None
    wanted = [[column // 2 <= row // 2 for column in range(6)] for row in range(6)]
    assert mask.tolist() == wanted
    assert frame_causal_mask(1, 2, torch.device("cpu")) is None


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("tokens", [[5, 2, 4], [150, 90, 140]], ids=["scores held", "scores not held"])
def test_attention_over_shared_and_own_segments_is_one_softmax(candidates: int, tokens: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    batch, heads, head = 2, 2, 8
    shares = [1, candidates, candidates]
    segments = tuple(
        (
            torch.randn(batch, heads, k, n, head, generator=generator),
            torch.randn(batch, heads, k, n, head, generator=generator),
        )
        for k, n in zip(shares, tokens, strict=True)
    )
    queries = torch.randn(batch, heads, candidates, tokens[-1], head, generator=generator)
    keys, values = (
        torch.cat([part.expand(-1, -1, candidates, -1, -1) for part in parts], dim=-2).double()
        for parts in zip(*segments, strict=True)
    )
    weights = (queries.double() @ keys.transpose(-1, -2) / math.sqrt(head)).softmax(dim=-1)
    torch.testing.assert_close(attend(queries, segments, None).double(), weights @ values, atol=1e-5, rtol=0)
    # The two cases lie on the two sides of the threshold.
    assert (tokens[-1] * sum(tokens) <= MAX_SCORES) == (tokens[0] == 5)
