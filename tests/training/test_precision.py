"""Training and planning run in bf16 where that is faster, and in float32 elsewhere, as on most laptops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from worldmodel import precision
from worldmodel.precision import mixed_precision, multiplies_bf16, seconds

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    multiplies_bf16.cache_clear()
    yield
    multiplies_bf16.cache_clear()


@pytest.mark.parametrize(
    ("hardware", "half", "faster"),
    [(True, 0.4, True), (True, 0.95, False), (True, 1.8, False), (False, 0.4, False)],
)
def test_products_run_in_what_the_hardware_multiplies_faster(
    hardware: bool, half: float, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware)
    monkeypatch.setattr(precision, "seconds", {torch.float32: 1.0, torch.bfloat16: half}.__getitem__)
    assert multiplies_bf16(CPU) is faster
    with mixed_precision(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if faster else torch.float32)


def test_the_answer_stands_for_the_whole_process_and_draws_nothing() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = multiplies_bf16(CPU)
    seconds(torch.float32)
    seconds(torch.bfloat16)
    assert multiplies_bf16(CPU) is first
    assert torch.equal(torch.get_rng_state(), before)
