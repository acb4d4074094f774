"""Where products run in bf16: only on hardware that multiplies it; elsewhere they take far longer than in float32."""

from __future__ import annotations

import torch


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 faster than float32."""
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def mixed_precision(device: torch.device) -> torch.autocast:
    """Products in bf16 where that is faster; a context for forward passes."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=multiplies_bf16(device))
