"""Statistics of features, per episode and aggregated, in the form LeRobot keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
IMAGE_SAMPLES = 32

FeatureStats = dict[str, list[Any]]
"""min, max, mean, std, count and quantiles as nested lists: [n] for vectors, [3,1,1] in [0,1] for images."""

Stats = dict[str, FeatureStats]
"""By feature name."""


def vector_stats(values: NDArray[Any]) -> FeatureStats:
    """Statistics over the rows of [L,n]; min and max of whole numbers stay whole."""
    exact = values.astype(np.float64)
    stats = {
        "min": values.min(axis=0).tolist() if values.dtype.kind == "i" else exact.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist() if values.dtype.kind == "i" else exact.max(axis=0).tolist(),
        "mean": exact.mean(axis=0).tolist(),
        "std": exact.std(axis=0).tolist(),
        "count": [len(values)],
    }
    quantiles = np.quantile(exact, list(QUANTILES.values()), axis=0)
    return stats | {name: quantiles[i].tolist() for i, name in enumerate(QUANTILES)}


def image_stats(frames: NDArray[np.uint8]) -> FeatureStats:
    """Per-channel statistics in [0,1] over at most IMAGE_SAMPLES evenly spaced frames of uint8 [L,h,w,3].

    From each channel's histogram, so they are exact for the sampled frames; `count` is the number of those frames.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(IMAGE_SAMPLES, len(frames))).round().astype(int))
    levels = np.arange(256) / 255.0
    columns: dict[str, list[float]] = {name: [] for name in NAMES if name != "count"}
    for channel in range(3):
        histogram = np.bincount(frames[chosen, ..., channel].reshape(-1), minlength=256)
        share = histogram / histogram.sum()
        cumulated = np.cumsum(histogram)
        mean = float(share @ levels)
        columns["min"].append(float(levels[histogram > 0][0]))
        columns["max"].append(float(levels[histogram > 0][-1]))
        columns["mean"].append(mean)
        columns["std"].append(float(np.sqrt(share @ (levels - mean) ** 2)))
        for name, quantile in QUANTILES.items():
            columns[name].append(float(levels[np.searchsorted(cumulated, quantile * cumulated[-1])]))
    stats: FeatureStats = {name: [[[value]] for value in values] for name, values in columns.items()}
    return {name: [len(chosen)] if name == "count" else stats[name] for name in NAMES}


def aggregate(parts: Sequence[FeatureStats]) -> FeatureStats:
    """Statistics of all episodes together: exact for min, max, mean, std and count.

    Quantiles are the episodes' quantiles averaged by their count, which is how LeRobot aggregates them.
    """
    arrays = {name: np.array([part[name] for part in parts]) for name in NAMES}
    count = arrays["count"].astype(np.float64).reshape(len(parts), *[1] * (arrays["mean"].ndim - 1))
    weight = count / count.sum()
    mean = (weight * arrays["mean"]).sum(axis=0)
    variance = (weight * (arrays["std"] ** 2 + (arrays["mean"] - mean) ** 2)).sum(axis=0)
    values = {
        "min": arrays["min"].min(axis=0),
        "max": arrays["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": arrays["count"].sum(axis=0),
    }
    values |= {name: (weight * arrays[name]).sum(axis=0) for name in QUANTILES}
    return {name: values[name].tolist() for name in NAMES}
