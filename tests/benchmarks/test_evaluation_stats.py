"""Statistics against scipy and numpy, which were written by others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import mcnemar, paired_bootstrap, percentile, wilson_interval

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_wilson_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    successes, trials = counts
    expected = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, trials, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / trials <= high <= 1


def test_wilson_at_the_ends_is_exact() -> None:
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {trials}"):
        wilson_interval(successes, trials)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0, 100))
def test_percentile_is_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-9, abs=1e-6)


def test_an_infinite_value_counts_as_the_largest() -> None:
    assert percentile([math.inf, 1.0, 2.0], 50) == 2.0
    assert percentile([math.inf, 1.0], 50) is None
    assert percentile([math.inf, math.inf], 50) is None
    assert percentile([], 50) is None
    with pytest.raises(ValueError, match="NaN"):
        percentile([1.0, math.nan], 50)


@given(PAIRS)
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(pairs: list[tuple[bool, bool]]) -> None:
    result = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
    assert result.only_first == pairs.count((True, False))
    assert result.only_second == pairs.count((False, True))
    discordant = result.only_first + result.only_second
    expected = scipy.stats.binomtest(result.only_first, discordant).pvalue if discordant else 1.0
    assert result.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_wants_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mcnemar([True, False], [True])


def test_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(1.0, 0.5, 80), rng.normal(0.8, 0.5, 80)
    ours = paired_bootstrap(first.tolist(), second.tolist(), resamples=20_000, seed=1)
    theirs = scipy.stats.bootstrap(
        (first - second,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.mean == pytest.approx((first - second).mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_bootstrap_of_a_constant_difference_has_no_width() -> None:
    result = paired_bootstrap([2.0, 5.0, 3.0], [1.0, 4.0, 2.0], resamples=50)
    assert (result.mean, result.low, result.high) == (1.0, 1.0, 1.0)


def test_bootstrap_is_repeatable_and_refuses_what_is_not_finite() -> None:
    assert paired_bootstrap([1.0, 2.0], [0.0, 0.5], seed=4) == paired_bootstrap([1.0, 2.0], [0.0, 0.5], seed=4)
    for first, second in (([], []), ([math.nan], [1.0]), ([math.inf], [1.0])):
        with pytest.raises(ValueError, match="finite"):
            paired_bootstrap(first, second)
