"""Bootstrap intervals: refused for few seeds, equal to scipy's for many; pooled scores over tasks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as oracle

from sweep import stats
from sweep.errors import StatisticsError
from sweep.stats import bootstrap
from sweep.stats.tasks import interquartile_mean

SEEDS = np.sort(np.random.default_rng(3).gamma(2.0, size=25))


@pytest.mark.parametrize(("method", "name"), [("percentile", "percentile"), ("bca", "BCa")])
def test_limits_agree_with_scipy_on_the_same_draws(method: bootstrap.Method, name: str) -> None:
    found = stats.bootstrap_interval(SEEDS, np.random.default_rng(0), method=method, resamples=2000)
    reference = oracle.bootstrap(
        (SEEDS,), np.mean, n_resamples=2000, batch=2000, method=name, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-9)


def test_studentised_limits_stretch_towards_the_long_tail() -> None:
    found = stats.bootstrap_interval(SEEDS, np.random.default_rng(0), method="studentised")
    centre = float(SEEDS.mean())
    assert found.high - centre > centre - found.low > 0


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised"])
def test_equal_generators_give_equal_limits_and_order_does_not_matter(method: bootstrap.Method) -> None:
    shuffled = np.random.default_rng(1).permutation(SEEDS)
    first = stats.bootstrap_interval(SEEDS, np.random.default_rng(5), method=method, resamples=500)
    again = stats.bootstrap_interval(shuffled, np.random.default_rng(5), method=method, resamples=500)
    other = stats.bootstrap_interval(SEEDS, np.random.default_rng(6), method=method, resamples=500)
    assert first == again
    assert first != other


def test_fewer_than_twenty_seeds_are_refused_with_the_reason() -> None:
    with pytest.raises(StatisticsError, match=r"\.75 instead of \.95") as caught:
        stats.bootstrap_interval(SEEDS[:19], np.random.default_rng(0))
    assert "t_interval" in str(caught.value)
    stats.bootstrap_interval(SEEDS[:20], np.random.default_rng(0), resamples=100)


def test_degenerate_samples_have_stated_results() -> None:
    rng = np.random.default_rng(0)
    same = stats.bootstrap_interval([0.3] * 20, rng, method="bca")
    assert (same.low, same.high) == pytest.approx((0.3, 0.3), rel=1e-12)
    with pytest.raises(StatisticsError, match="no finite limits"):
        stats.bootstrap_interval([0.0] * 19 + [1.0], rng, method="studentised")
    with pytest.raises(StatisticsError, match="mean only"):
        stats.bootstrap_interval(SEEDS, rng, method="studentised", statistic=interquartile_mean)
    with pytest.raises(StatisticsError, match="NaN"):
        stats.bootstrap_interval([*SEEDS, math.nan], rng)


def test_iqm_is_the_trimmed_mean_over_the_runs_of_all_tasks() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 7))
    assert stats.iqm(list(scores)) == pytest.approx(oracle.trim_mean(scores.ravel(), 0.25), rel=1e-12)
    with pytest.raises(StatisticsError, match="one task"):
        stats.iqm([scores[0]])
    with pytest.raises(StatisticsError, match="between 3 and 7 seeds"):
        stats.iqm([scores[0], scores[1][:3]])


def test_pooling_over_tasks_needs_ten_of_them() -> None:
    scores = list(np.random.default_rng(0).normal(size=(10, 3)))
    with pytest.raises(StatisticsError, match="9 tasks"):
        stats.stratified_interval(scores[:9], np.random.default_rng(0))
    found = stats.stratified_interval(scores, np.random.default_rng(0), resamples=2000)
    assert stats.iqm(scores) in found
    assert "these 10 tasks" in found.method
    assert found == stats.stratified_interval(scores, np.random.default_rng(0), resamples=2000)
    with pytest.raises(StatisticsError, match="no spread"):
        stats.stratified_interval([[0.1]] * 10, np.random.default_rng(0))


def test_stratified_interval_of_a_mean_has_the_width_that_theory_gives() -> None:
    scores = np.random.default_rng(0).normal(size=(12, 4))
    error = math.sqrt(float(np.sum(scores.var(axis=1, ddof=1))) / 4) / 12
    found = stats.stratified_interval(
        list(scores), np.random.default_rng(0), statistic=bootstrap.average, resamples=20_000
    )
    # Monte-Carlo error of a 2.5 % quantile from 20,000 draws is about 1.3 % of the half-width.
    assert found.half_width == pytest.approx(1.96 * error, rel=0.04)


def test_normalised_scores_run_from_one_reference_to_the_other() -> None:
    assert stats.normalise([0.1, 0.5, 0.9], 0.1, 0.9).tolist() == pytest.approx([0, 0.5, 1])
    assert stats.normalise([2.0, 1.0], 2.0, 1.0).tolist() == [0, 1]
    with pytest.raises(StatisticsError, match="span"):
        stats.normalise([0.5], 1.0, 1.0)
