"""Learning-rate schedules and random numbers that are pure functions of the step."""

from __future__ import annotations

import math

import numpy as np
import torch


def warmup_cosine(step: int, total: int, peak: float, *, warmup: float = 0.05, floor: float = 0.02) -> float:
    """Learning rate at `step`: linear warm-up over a share of the steps, then a cosine down to a share of the peak."""
    ramp = max(1, round(warmup * total))
    if step < ramp:
        return peak * (step + 1) / ramp
    phase = (step - ramp) / max(1, total - ramp)
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, phase))))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Random numbers of one training step: nothing has to be stored to resume exactly."""
    return np.random.default_rng([seed, step])


def step_generator(seed: int, step: int) -> torch.Generator:
    """The same for torch."""
    generator = torch.Generator()
    generator.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1))
    return generator
