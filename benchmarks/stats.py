"""The statistics of the reports: intervals for rates, percentiles, and paired comparisons of two agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927, JASA 22: 209-212). Raises ValueError without trials."""
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"expected 0 <= successes <= trials and trials > 0, got {successes} of {trials}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, spread = successes / trials, z * z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials)) / (1 + spread)
    # At 0 and at n successes the bound is exactly 0 or 1; rounding must not move it.
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == trials else centre + half)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Percentile with linear interpolation; values may be infinite. None for no values or an infinite answer."""
    ordered = sorted(values)
    if not ordered:
        return None
    if any(math.isnan(value) for value in ordered):
        raise ValueError("expected numbers, got NaN: count it as a failure before taking percentiles")
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    answer = low if low == high else low + (high - low) * (place - math.floor(place))
    return answer if math.isfinite(answer) else None


@dataclass(frozen=True)
class McNemar:
    """Pairs that only the first or only the second agent solved, and the exact two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Exact McNemar test of paired successes: a two-sided binomial test of the discordant pairs at 1/2."""
    pairs = list(zip(first, second, strict=True))
    only_first = sum(bool(a) and not b for a, b in pairs)
    only_second = sum(bool(b) and not a for a, b in pairs)
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return McNemar(only_first, only_second, min(1.0, 2 * tail / 2**discordant))


@dataclass(frozen=True)
class PairedDifference:
    """Mean of first - second and its percentile bootstrap interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Percentile bootstrap of the mean paired difference (Efron & Tibshirani 1993, ch. 13), resampling pairs.

    Raises ValueError for no pairs, unequal lengths or numbers that are not finite.
    """
    difference = np.asarray([a - b for a, b in zip(first, second, strict=True)], dtype=np.float64)
    if difference.size == 0 or not np.isfinite(difference).all():
        raise ValueError(f"expected at least one pair of finite numbers, got {difference.size} pairs, some not finite")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for index in range(resamples):
        means[index] = difference[rng.integers(difference.size, size=difference.size)].mean()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedDifference(float(difference.mean()), float(low), float(high))
