"""Intervals, summaries and worst ranks of one configuration against scipy and against stated results."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats as oracle

from sweep import stats
from sweep.errors import StatisticsError
from sweep.stats.interval import OrderInterval, median_interval

CLOSE = {"rel": 1e-9, "abs": 1e-12}
VALUES = [0.912, 0.934, 0.921, 0.905, 0.928, 0.919, 0.931]


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_t_interval_agrees_with_scipy(n: int, level: float) -> None:
    values = VALUES[:n]
    found = stats.t_interval(values, level)
    assert found is not None
    low, high = oracle.t.interval(level, n - 1, np.mean(values), oracle.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), **CLOSE)


def test_sd_interval_agrees_with_chi_square() -> None:
    found = stats.sd_interval(VALUES)
    assert found is not None
    scatter = np.var(VALUES, ddof=1) * 6
    limits = [math.sqrt(scatter / oracle.chi2.ppf(p, 6)) for p in (0.975, 0.025)]
    assert [found.low, found.high] == pytest.approx(limits, **CLOSE)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (0, 10), (1, 10), (7, 10), (10, 10), (0, 1), (3, 1000)])
def test_clopper_pearson_agrees_with_scipy(k: int, n: int) -> None:
    found = stats.clopper_pearson(k, n)
    reference = oracle.binomtest(k, n).proportion_ci(0.95, "exact")
    # scipy solves by iteration to 1e-9 of the whole scale; its closed form is the beta quantile.
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-8)
    assert k == 0 or found.low == pytest.approx(oracle.beta.ppf(0.025, k, n - k + 1), **CLOSE)
    assert k == n or found.high == pytest.approx(oracle.beta.ppf(0.975, k + 1, n - k), **CLOSE)


def test_no_failure_among_few_seeds_promises_little() -> None:
    assert stats.clopper_pearson(0, 5).high == pytest.approx(0.52, abs=0.005)
    assert stats.clopper_pearson(0, 10).high == pytest.approx(0.31, abs=0.005)
    nothing = stats.clopper_pearson(0, 0)
    assert (nothing.low, nothing.high) == (0, 1)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_counts_that_are_none_are_refused(k: int, n: int) -> None:
    with pytest.raises(StatisticsError, match="not a count"):
        stats.clopper_pearson(k, n)


@pytest.mark.parametrize(("n", "exists"), [(1, False), (5, False), (6, True), (7, True)])
def test_a_median_interval_needs_six_seeds(n: int, exists: bool) -> None:
    assert (median_interval(np.arange(float(n)), 0.95) is not None) == exists


@pytest.mark.parametrize("n", [*range(1, 12), 20, 57])
def test_the_ranks_of_a_median_interval_are_the_tightest_equal_tails(n: int) -> None:
    found = median_interval(np.arange(float(n)), 0.95)
    below = oracle.binom(n, 0.5).cdf
    if found is None:
        assert below(0) > 0.025
        return
    j, k = found.lower, found.upper
    assert below(j - 1) <= 0.025 < below(j)
    assert below(k - 1) >= 0.975 > below(k - 2)
    assert (found.low, found.high) == (j - 1, k - 1)
    assert found.coverage == pytest.approx(below(k - 1) - below(j - 1), rel=1e-12)


def test_quantile_interval_names_its_ranks_and_its_exact_coverage() -> None:
    found = stats.worst_rank_median([5.0, 1.0, 4.0, 2.0, 6.0, 3.0], higher_is_better=True).interval
    assert found == OrderInterval(1, 6, 0.95, stats.Method.ORDER, lower=1, upper=6, coverage=1 - 2 / 2**6)


def test_one_seed_has_no_interval_and_the_summary_says_so() -> None:
    assert stats.t_interval([0.9]) is None
    assert stats.sd_interval([0.9]) is None
    alone = stats.summarise([0.9])
    assert (alone.n, alone.mean, alone.sd, alone.low, alone.high) == (1, 0.9, None, None, None)
    assert alone.method == "no interval: one seed has no spread"


def test_equal_values_have_exactly_no_spread() -> None:
    # The plain mean of seven 0.1 is not 0.1: a naive sd would be 1e-17 and pass for a measurement.
    assert np.mean([0.1] * 6) != 0.1
    found = stats.summarise([0.1] * 6)
    assert (found.mean, found.sd, found.low, found.high) == (0.1, 0.0, 0.1, 0.1)


def test_limits_are_not_clipped() -> None:
    found = stats.t_interval([0.99, 1.0, 1.0])
    assert found is not None
    assert found.high > 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("function", [stats.t_interval, stats.sd_interval, stats.summarise])
def test_what_is_not_finite_is_refused_not_dropped(function: object, bad: float) -> None:
    with pytest.raises(StatisticsError, match="1 of 3 are NaN or infinite") as caught:
        function([0.9, bad, 0.8])  # type: ignore[operator]
    assert "clopper_pearson" in str(caught.value)


def test_empty_misshapen_and_overflowing_values_are_refused() -> None:
    with pytest.raises(StatisticsError, match="empty"):
        stats.t_interval([])
    with pytest.raises(StatisticsError, match="shape"):
        stats.t_interval([[0.1, 0.2]])
    with pytest.raises(StatisticsError, match="overflows"):
        stats.t_interval([1e300, -1e300])
    with pytest.raises(StatisticsError, match="level"):
        stats.t_interval([0.1, 0.2], level=95)


def test_repeats_are_averaged_within_their_seed() -> None:
    seeds, means = stats.per_seed([1.0, 5.0, 2.0, 6.0, 3.0], [42, 7, 42, 7, 42])
    assert seeds.tolist() == [7, 42]
    assert means.tolist() == [5.5, 2.0]
    with pytest.raises(StatisticsError, match="one seed per value"):
        stats.per_seed([1.0, 2.0], [1])
    with pytest.raises(StatisticsError, match="NaN"):
        stats.per_seed([1.0, math.nan], [1, 1])


def test_worst_rank_median_counts_diverged_seeds_on_the_bad_side() -> None:
    accuracies = [0.9, math.nan, 0.8, 0.7, 0.95, 0.85, math.inf]
    found = stats.worst_rank_median(accuracies, higher_is_better=True)
    assert (found.estimate, found.n, found.failed) == (0.8, 7, 2)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (-math.inf, 0.95)
    # Dropping the failures, as a nanmedian does, would flatter.
    assert found.estimate < np.median([0.9, 0.8, 0.7, 0.95, 0.85])
    losses = stats.worst_rank_median([0.1, math.nan, 0.3], higher_is_better=False)
    assert (losses.estimate, losses.interval) == (0.3, None)


def test_worst_rank_median_is_defined_when_half_or_all_failed() -> None:
    assert stats.worst_rank_median([math.nan] * 3, higher_is_better=True).estimate == -math.inf
    assert stats.worst_rank_median([math.nan] * 3, higher_is_better=False).estimate == math.inf
    assert stats.worst_rank_median([1.0, math.nan], higher_is_better=True).estimate == -math.inf
    assert stats.worst_rank_median([1.0, math.nan], higher_is_better=False).estimate == math.inf
    with pytest.raises(StatisticsError, match="shape"):
        stats.worst_rank_median([], higher_is_better=True)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_the_worst_rank_median_is_the_plain_one_when_nothing_failed(n: int) -> None:
    found = stats.worst_rank_median(VALUES[:n], higher_is_better=True)
    assert found.estimate == pytest.approx(np.median(VALUES[:n]), **CLOSE)


def test_statistics_load_neither_scipy_stats_nor_anything_heavier() -> None:
    code = "import sys, sweep.stats; print(*{'scipy.stats', 'pandas', 'torch', 'ray'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
