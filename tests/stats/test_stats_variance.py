"""Where the spread comes from: Jordan's estimator, seeds and examples together, noise within a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as oracle

from sweep import stats
from sweep.errors import StatisticsError


def scored(runs: int, examples: int, seed: int, spread: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chance = 0.8 + spread * rng.normal(size=(runs, 1)) + 0.1 * rng.uniform(-1, 1, size=examples)
    return (rng.random((runs, examples)) < chance).astype(float)


def test_jordan_by_hand() -> None:
    table = np.array([[1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 1, 1.0]])
    n = 4
    observed = np.var([0.75, 0.75, 0.5], ddof=1)
    chance = (np.var([1, 1, 0], ddof=1) + np.var([0, 1, 0], ddof=1) + np.var([1, 0, 1], ddof=1)) / n**2
    found = stats.training_variance(table)
    assert found.observed == pytest.approx(observed, rel=1e-12)
    assert found.distribution == pytest.approx(n / (n - 1) * (observed - chance), rel=1e-12)
    assert found.distribution < 0  # raw, even so
    assert found.mostly_chance


def test_jordan_is_unbiased_where_the_observed_variance_is_not() -> None:
    repetitions = 1500
    found = [stats.training_variance(scored(5, 100, seed, 0.02)) for seed in range(repetitions)]
    estimates = np.array([one.distribution for one in found])
    error = estimates.std() / math.sqrt(repetitions)
    assert abs(estimates.mean() - 0.02**2) < 4 * error
    # Negative control: the raw variance between runs is ten standard errors away.
    assert np.mean([one.observed for one in found]) - 0.02**2 > 10 * error


def test_the_sentence_is_for_spread_that_the_test_set_explains() -> None:
    assert stats.training_variance(scored(50, 100, 0)).mostly_chance
    assert not stats.training_variance(scored(50, 400, 0, 0.1)).mostly_chance


def test_two_way_by_hand() -> None:
    table = scored(6, 50, 1, 0.05)
    found = stats.two_way_interval(table)
    seeds = np.var(table.mean(axis=1), ddof=1) / 6
    examples = np.var(table.mean(axis=0), ddof=1) / 50
    raw = seeds + examples - np.mean(np.var(table, axis=0, ddof=1)) / 300
    assert found.error**2 == pytest.approx(max(raw, seeds, examples), rel=1e-12)
    assert found.df == pytest.approx(found.error**4 / (seeds**2 / 5 + examples**2 / 49), rel=1e-12)
    half = oracle.t.ppf(0.975, found.df) * found.error
    assert found.interval.high - found.mean == pytest.approx(half, rel=1e-9)


def test_two_way_is_floored_at_its_larger_term() -> None:
    # Runs that agree on the mean and disagree on every example: the plain estimate would be negative.
    table = np.tile([[1.0, 0.0], [0.0, 1.0]], (2, 10))
    found = stats.two_way_interval(table)
    assert found.error == 0
    assert found.interval.low == found.interval.high == 0.5
    uneven = np.vstack([table, np.tile([1.0, 0.0], 10)])
    assert stats.two_way_interval(uneven).error == pytest.approx(
        math.sqrt(np.var(uneven.mean(axis=0), ddof=1) / 20), rel=1e-12
    )


def test_comparisons_on_one_test_set_cancel_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 1, size=400)
    a, b = (rng.normal(hard + shift, 0.05, size=(5, 400)) for shift in (0.02, 0.0))
    found = stats.two_way_difference(a, b)
    paired = stats.two_way_interval(a - b)
    assert found.mean == pytest.approx(paired.mean, rel=1e-9)
    assert 0.02 in found.interval
    assert found.interval.low > 0
    # Without the pairing by example, the difficulty of the examples drowns the difference.
    apart = math.hypot(stats.two_way_interval(a).error, stats.two_way_interval(b).error)
    assert found.error < apart / 5
    swapped = stats.two_way_difference(b, a)
    assert (swapped.mean, swapped.error) == pytest.approx((-found.mean, found.error), rel=1e-12)
    with pytest.raises(StatisticsError, match="match them by id"):
        stats.two_way_difference(a, b[:, :10])


@pytest.mark.parametrize("shape", [(1, 10), (5, 1), (5,), (0, 0)])
def test_scores_need_two_runs_and_two_examples(shape: tuple[int, ...]) -> None:
    with pytest.raises(StatisticsError, match="two of each"):
        stats.training_variance(np.zeros(shape))
    with pytest.raises(StatisticsError, match="NaN"):
        stats.two_way_interval([[1.0, math.nan], [0.0, 1.0]])


def test_noise_within_seeds_is_pooled_over_them() -> None:
    values, seeds = [1.0, 1.2, 2.0, 2.4, 3.0], [1, 1, 2, 2, 3]
    spread, interval = stats.implementation_noise(values, seeds)
    pooled = math.sqrt((np.var([1.0, 1.2], ddof=1) + np.var([2.0, 2.4], ddof=1)) / 2)
    assert spread == pytest.approx(pooled, rel=1e-12)
    limits = [pooled * math.sqrt(2 / oracle.chi2.ppf(p, 2)) for p in (0.975, 0.025)]
    assert [interval.low, interval.high] == pytest.approx(limits, rel=1e-9)
    with pytest.raises(StatisticsError, match="run twice"):
        stats.implementation_noise([1.0, 2.0], [1, 2])
