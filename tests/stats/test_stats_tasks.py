"""Scores over several tasks: normalised, pooled, with a bootstrap stratified by task."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as oracle

from sweep import stats
from sweep.errors import StatisticsError
from sweep.stats.tasks import Band, average


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
    with pytest.raises(StatisticsError, match="of 1 seeds"):
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


# Against rliable 1.2.0, which gave these numbers for these scores.

TAU = [0.0, 0.25, 0.5, 1.0, 2.0]
IQMS = {"A": 0.3989830508474576, "B": 0.4581355932203391, "C": 0.5286440677966102, "D": 0.47966101694915253}
PROFILES = {
    "A": [1.0, 0.6837606837606838, 0.4017094017094017, 0.17094017094017094, 0.08547008547008547],
    "C": [1.0, 0.7692307692307693, 0.49572649572649574, 0.23931623931623933, 0.10256410256410256],
}
BETTER = {"BA": 0.5726495726495727, "CA": 0.7094017094017094, "CB": 0.6182336182336182, "BD": 0.44301994301994296}


def four_methods() -> dict[str, list[np.ndarray]]:
    """39 tasks x 4 methods x 3 seeds, rounded so that some runs tie."""
    rng = np.random.default_rng(20)
    level = rng.lognormal(-0.5, 1, 39)
    runs = {
        name: np.round(level * skill + 0.3 * level * rng.normal(size=(3, 39)), 2)
        for name, skill in zip("ABCD", (0.9, 1.0, 1.1, 1.0), strict=True)
    }
    return {name: list(scores.T) for name, scores in runs.items()}


def test_what_is_said_of_tasks_is_what_rliable_says() -> None:
    scores = four_methods()
    for name, value in IQMS.items():
        assert stats.iqm(scores[name]) == pytest.approx(value, abs=1e-9)
    for name, shares in PROFILES.items():
        found = stats.performance_profile(scores[name], TAU)
        assert found.value == pytest.approx(shares, abs=1e-9)
        assert ((found.low < found.value) | (found.value == 0)).all()
        assert ((found.value < found.high) | (found.value == 1)).all()
    for (a, b), value in BETTER.items():
        probability, interval = stats.probability_of_improvement(scores[a], scores[b])
        assert probability == pytest.approx(value, abs=1e-9)
        assert interval is not None
        assert probability in interval
    curves = np.stack([np.stack(scores["A"]) * part + np.arange(39)[:, None] * 0.01 for part in (0.2, 0.6, 1.0)])
    band = stats.iqm_band([1, 2, 3], curves, np.random.default_rng(0))
    assert band.value == pytest.approx([0.29135593220338984, 0.44111864406779655, 0.5942372881355933], abs=1e-9)
    assert (band.low < band.value).all()
    assert (band.value < band.high).all()


def test_the_probability_of_improvement_is_mann_whitney_and_its_variance_delong() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.2, 1, (12, 5)), np.round(rng.normal(0, 1, (12, 4)), 1)
    a[:, :2] = b[:, :2]
    each = [oracle.mannwhitneyu(x, y).statistic / 20 for x, y in zip(a, b, strict=True)]
    probability, interval = stats.probability_of_improvement(list(a), list(b))
    assert probability == pytest.approx(np.mean(each), abs=1e-9)
    spread = 0.0
    for x, y in zip(a, b, strict=True):  # the components by hand
        wins = np.array([[float(one > other) + 0.5 * (one == other) for other in y] for one in x])
        spread += np.var([row.mean() for row in wins], ddof=1) / 5 + np.var([row.mean() for row in wins.T], ddof=1) / 4
    draws = max(probability * (1 - probability) / (spread / 144), 48)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(wilson(probability, draws), abs=1e-9)


def test_a_profile_has_the_limits_of_wilson_with_the_variance_within_tasks() -> None:
    scores = four_methods()["B"]
    found = stats.performance_profile(scores, [0.5])
    shares = [np.mean(task > 0.5) for task in scores]
    variance = sum(share * (1 - share) / 2 for share in shares) / 39**2
    share = float(np.mean(shares))
    draws = max(share * (1 - share) / variance, 117)
    assert (found.low[0], found.high[0]) == pytest.approx(wilson(share, draws), abs=1e-9)


def wilson(share: float, draws: float) -> tuple[float, float]:
    """The roots of |share - p| = z √(p (1 - p)/draws)."""
    z = oracle.norm.ppf(0.975) ** 2 / draws
    low, high = np.sort(np.roots([1 + z, -2 * share - z, share**2]))
    return float(low), float(high)


def test_what_shows_no_spread_has_limits_all_the_same() -> None:
    same = [[0.4, 0.4, 0.4]] * 12
    found = stats.performance_profile(same, [0.3, 0.5])
    assert found.value.tolist() == [1, 0]
    assert found.low[0] < 1
    assert found.high[1] > 0
    for probability, a, b in ((1.0, 0.5, 0.4), (0.5, 0.4, 0.4)):
        got, interval = stats.probability_of_improvement([[a] * 3] * 12, [[b] * 3] * 12)
        assert got == probability
        assert interval is not None
        assert interval.half_width > 0
    assert (
        stats.stratified_interval(same, np.random.default_rng(0)).half_width == 0
    )  # no information, as with a t interval of equal values


def test_too_few_tasks_or_seeds_have_values_without_limits() -> None:
    few = list(np.random.default_rng(0).normal(size=(9, 3)))
    one = list(np.random.default_rng(0).normal(size=(12, 1)))
    for scores in (few, one):
        assert np.isnan(stats.performance_profile(scores, [0.0]).low).all()
        assert stats.probability_of_improvement(scores, scores)[1] is None
        band = stats.iqm_band([1.0], np.array(scores)[None], np.random.default_rng(0))
        assert np.isnan(band.high).all()
        assert math.isnan(stats.steps_to(band, 0.0)[1])
    with pytest.raises(StatisticsError, match="9 tasks and B has 12"):
        stats.probability_of_improvement(few, one)
    with pytest.raises(StatisticsError, match="between"):
        stats.performance_profile([[0.1, 0.2], [0.3]], [0.0])
    with pytest.raises(StatisticsError):
        stats.iqm_band([1.0], [[[math.nan, 1.0]]], np.random.default_rng(0))


def test_the_area_under_a_curve_is_its_mean_height() -> None:
    steps, values = np.array([0.0, 1.0, 4.0, 9.0]), np.array([0.0, 1.0, 0.5, 2.0])
    assert stats.area_under(steps, values) == pytest.approx(np.trapezoid(values, steps) / 9, abs=1e-12)
    fine = np.linspace(0, 9, 900_001)
    assert stats.area_under(steps, values) == pytest.approx(np.interp(fine, steps, values).mean(), abs=1e-5)
    assert stats.area_under([7], [0.3]) == 0.3
    for wrong in ([1, 1], [2, 1]):
        with pytest.raises(StatisticsError, match="increasing steps"):
            stats.area_under(wrong, [0, 1])


def test_steps_to_a_threshold_are_where_the_curve_and_its_limits_first_are() -> None:
    at = np.arange(1.0, 6.0)
    band = Band(at, np.array([0.1, 0.4, 0.6, 0.55, 0.9]), np.array([0.0, 0.2, 0.4, 0.5, 0.8]), at / 4)
    assert stats.steps_to(band, 0.5) == (3, 2, 4)
    assert stats.steps_to(band, 0.85) == (5, 4, math.inf)
    assert stats.steps_to(band, 2.0) == (math.inf, math.inf, math.inf)
