"""Training runs in bf16 where the hardware multiplies it, and in float32 elsewhere, as on most laptops."""

from __future__ import annotations

import pytest
import torch

from worldmodel.precision import mixed_precision, multiplies_bf16


@pytest.mark.parametrize("hardware", [True, False])
def test_products_run_in_what_the_hardware_multiplies(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware)
    device = torch.device("cpu")
    assert multiplies_bf16(device) is hardware
    with mixed_precision(device):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if hardware else torch.float32)
