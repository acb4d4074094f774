"""Where products run in bf16: only where that is faster. Elsewhere they take far longer than in float32."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch.nn.functional import linear

GAIN = 0.9  # of the seconds of float32: what bf16 may take at most, so that a close race is always float32's
RUNS = 20  # the fastest of which counts, for other processes can only slow one down


@functools.cache
def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 faster than float32. Found out once a process.

    On a CPU the instructions do not tell: where they come without matrix units (Intel's avx512_bf16 without AMX, as
    virtual machines offer it), a product in bf16 takes twice as long. So one is timed.
    """
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported()) and seconds(torch.bfloat16) < GAIN * seconds(torch.float32)
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def seconds(dtype: torch.dtype) -> float:
    """What a layer of a predictor takes on the CPU, for as many candidates as a search asks about at a time."""
    x, weight = torch.ones(512, 256, dtype=dtype), torch.ones(256, 256, dtype=dtype)
    with torch.autocast("cpu", enabled=False):
        return min(_timed(lambda: linear(x, weight)) for _ in range(RUNS))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def mixed_precision(device: torch.device) -> torch.autocast:
    """Products in bf16 where that is faster; a context for forward passes."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=multiplies_bf16(device))
