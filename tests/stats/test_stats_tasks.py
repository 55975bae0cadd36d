"""Scores over several tasks: normalised, pooled, with a bootstrap stratified by task."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as oracle

from sweep import stats
from sweep.errors import StatisticsError
from sweep.stats.tasks import average


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
    assert found.method is stats.Method.BOOTSTRAP
    assert found == stats.stratified_interval(scores, np.random.default_rng(0), resamples=2000)
    with pytest.raises(StatisticsError, match="no spread"):
        stats.stratified_interval([[0.1]] * 10, np.random.default_rng(0))


def test_stratified_interval_of_a_mean_has_the_width_that_theory_gives() -> None:
    scores = np.random.default_rng(0).normal(size=(12, 4))
    error = math.sqrt(float(np.sum(scores.var(axis=1, ddof=1))) / 4) / 12
    found = stats.stratified_interval(list(scores), np.random.default_rng(0), statistic=average, resamples=20_000)
    # Monte-Carlo error of a 2.5 % quantile from 20,000 draws is about 1.3 % of the half-width.
    assert found.half_width == pytest.approx(1.96 * error, rel=0.04)


def test_normalised_scores_run_from_one_reference_to_the_other() -> None:
    assert stats.normalise([0.1, 0.5, 0.9], 0.1, 0.9).tolist() == pytest.approx([0, 0.5, 1])
    assert stats.normalise([2.0, 1.0], 2.0, 1.0).tolist() == [0, 1]
    with pytest.raises(StatisticsError, match="span"):
        stats.normalise([0.5], 1.0, 1.0)
