"""Comparisons against scipy and statsmodels, and their stated results on ragged and degenerate data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special
from scipy import stats as oracle
from statsmodels.stats import multitest, proportion, weightstats

from sweep import stats
from sweep.errors import StatisticsError
from sweep.stats.compare import noncentrality
from sweep.stats.interval import score_limits
from sweep.stats.ranks import newcombe_5

CLOSE = {"rel": 1e-9, "abs": 1e-12}
A = [0.921, 0.934, 0.915, 0.929, 0.941]
B = [0.911, 0.936, 0.907, 0.918, 0.925]
C = [0.905, 0.899, 0.921, 0.915, 0.902, 0.908, 0.911]


def test_paired_t_agrees_with_scipy() -> None:
    found = stats.paired_t(A, B)
    reference = oracle.ttest_rel(A, B)
    interval = reference.confidence_interval(0.95)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), **CLOSE)
    assert (found.p, found.df) == pytest.approx((reference.pvalue, 4), **CLOSE)
    assert found.correlation == pytest.approx(np.corrcoef(A, B)[0, 1], **CLOSE)


def test_welch_agrees_with_scipy() -> None:
    found = stats.welch(A, C, level=0.9)
    reference = oracle.ttest_ind(A, C, equal_var=False)
    interval = reference.confidence_interval(0.9)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), **CLOSE)
    assert (found.p, found.df) == pytest.approx((reference.pvalue, reference.df), **CLOSE)


def test_pairs_need_equal_numbers_of_seeds() -> None:
    with pytest.raises(StatisticsError, match="A has 5 seeds and B has 7") as caught:
        stats.paired_t(A, C)
    assert "unpaired" in str(caught.value)


@pytest.mark.parametrize("paired", [True, False])
def test_one_seed_an_arm_has_a_difference_and_nothing_else(paired: bool) -> None:
    found = stats.difference([0.9], [0.8], paired=paired)
    assert found.estimate == pytest.approx(0.1)
    assert (found.interval, found.p, found.error) == (None, None, None)
    assert stats.hedges_g([0.9], [0.8], paired=paired) is None
    assert equivalence([0.9], [0.8], 0.5, paired=paired).verdict == "undecided"


@pytest.mark.parametrize("paired", [True, False])
def test_arms_without_spread_have_no_p(paired: bool) -> None:
    found = stats.difference([0.9] * 4, [0.8] * 4, paired=paired)
    assert found.p is None
    assert found.interval is not None
    assert found.interval.low == found.interval.high == pytest.approx(0.1)
    assert stats.hedges_g([0.9] * 4, [0.8] * 4, paired=paired) is None


def test_a_constant_shift_is_no_evidence_beyond_rounding() -> None:
    base = np.array([0.1, 0.2, 0.3, 0.7])
    assert np.std((base + 0.01) - base) > 0  # what would pass for a spread
    assert stats.paired_t(base + 0.01, base).p is None


def equivalence(a: object, b: object, margin: float, *, paired: bool) -> stats.Equivalence:
    return stats.equivalence(stats.difference(a, b, paired=paired, level=0.9), margin)


@pytest.mark.parametrize("paired", [True, False])
def test_equivalence_agrees_with_two_one_sided_tests(paired: bool) -> None:
    for margin in (0.005, 0.012, 0.05):
        found = equivalence(A, B, margin, paired=paired)
        if paired:
            p = weightstats.ttost_paired(np.array(A), np.array(B), -margin, margin)[0]
        else:
            p = weightstats.ttost_ind(A, B, -margin, margin, usevar="unequal")[0]
        assert found.p == pytest.approx(p, **CLOSE)
        assert (found.verdict == "equivalent") == (p < 0.05)
    # Just wide enough for the 90 % interval, too narrow for the 95 % one.
    found = equivalence(A, B, 1.0, paired=paired)
    assert found.interval is not None
    assert found.interval.level == pytest.approx(0.9)
    margin = max(-found.interval.low, found.interval.high) * 1.001
    assert equivalence(A, B, margin, paired=paired).verdict == "equivalent"
    assert equivalence(A, np.array(A) - 1, 0.05, paired=False).verdict == "different"


@pytest.mark.parametrize("margin", [0, -0.1, math.nan, math.inf])
def test_a_margin_is_the_users_and_positive(margin: float) -> None:
    with pytest.raises(StatisticsError, match="margin"):
        equivalence(A, B, margin, paired=True)


def test_hedges_g_solves_the_noncentral_t() -> None:
    found = stats.hedges_g(A, C, paired=False)
    assert found is not None
    m, n = len(A), len(C)
    df = m + n - 2
    pooled = math.sqrt(((m - 1) * np.var(A, ddof=1) + (n - 1) * np.var(C, ddof=1)) / df)
    j = special.gamma(df / 2) / (math.sqrt(df / 2) * special.gamma((df - 1) / 2))
    t = (np.mean(A) - np.mean(C)) / pooled / math.sqrt(1 / m + 1 / n)
    assert found.g == pytest.approx(j * t * math.sqrt(1 / m + 1 / n), **CLOSE)
    for limit, p in ((found.interval.low, 0.975), (found.interval.high, 0.025)):
        assert oracle.nct.cdf(t, df, limit / j / math.sqrt(1 / m + 1 / n)) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("t", [-300.0, -3.0, 0.0, 0.4, 8.0, 1000.0])
@pytest.mark.parametrize("df", [2, 4, 38])
def test_noncentrality_is_found_far_out_as_well(t: float, df: int) -> None:
    for p in (0.025, 0.5, 0.975):
        assert special.nctdtr(df, noncentrality(t, df, p), t) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("t", [-1e5, 1e5, 1e8])
@pytest.mark.parametrize("df", [2, 14])
def test_noncentrality_follows_chi_square_where_the_normal_part_no_longer_counts(t: float, df: int) -> None:
    for p in (0.025, 0.5, 0.975):
        quantile = oracle.chi2.ppf(p if t < 0 else 1 - p, df)
        assert noncentrality(t, df, p) == pytest.approx(t * math.sqrt(quantile / df), abs=3)


def test_paired_hedges_g_uses_the_spread_of_the_arms() -> None:
    found = stats.hedges_g(A, B, paired=True)
    assert found is not None
    unit = math.sqrt((np.var(A, ddof=1) + np.var(B, ddof=1)) / 2)
    j = special.gamma(2) / (math.sqrt(2) * special.gamma(1.5))
    assert found.g == pytest.approx(j * np.mean(np.subtract(A, B)) / unit, **CLOSE)
    assert found.g in found.interval


@pytest.mark.parametrize(("a", "b"), [(A, B), (A, C), ([1, 2, 2], [2, 3, 3, 1]), (C, A)])
def test_permutation_p_agrees_with_scipy(a: list[float], b: list[float]) -> None:
    def gap(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    reference = oracle.permutation_test((a, b), gap, n_resamples=np.inf, vectorized=True)
    found = stats.permutation_test(a, b)
    assert found.p == pytest.approx(reference.pvalue, **CLOSE)
    assert (found.exact, found.arrangements) == (True, math.comb(len(a) + len(b), len(a)))


def test_sign_flip_p_agrees_with_scipy() -> None:
    reference = oracle.permutation_test((np.subtract(A, B),), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip_test(A, B).p == pytest.approx(reference.pvalue, **CLOSE)


def test_the_floor_is_the_smallest_p_that_so_few_seeds_can_give() -> None:
    apart = stats.permutation_test([1, 2, 3], [4, 5, 6])
    assert (apart.p, apart.floor) == (0.1, 0.1)
    paired = stats.sign_flip_test([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    assert (paired.p, paired.floor) == (0.0625, 0.0625)
    assert stats.permutation_test([1.0], [2.0]).p == 1
    same = stats.permutation_test([0.5] * 4, [0.5] * 4)
    assert same.p == 1


def test_many_seeds_are_drawn_and_labelled_and_need_a_generator() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 30), rng.normal(0, 1, 30)
    for test, exact in (
        (stats.sign_flip_test, oracle.ttest_rel(a, b).pvalue),
        (stats.permutation_test, oracle.ttest_ind(a, b).pvalue),
    ):
        with pytest.raises(StatisticsError, match="generator"):
            test(a, b)
        found = test(a, b, np.random.default_rng(1))
        assert not found.exact
        assert found == test(a, b, np.random.default_rng(1))
        # At 30 seeds the permutation p is the t test's to a few per cent of itself; drawing adds .005.
        assert found.p == pytest.approx(exact, rel=0.1)


def test_superiority_is_the_mann_whitney_statistic() -> None:
    ties = [0.9, 0.91, 0.91, 0.93]
    for a, b in ((A, C), (ties, [0.91, 0.92])):
        u = oracle.mannwhitneyu(a, b).statistic
        found = stats.superiority(a, b, higher_is_better=True)
        assert found.probability == pytest.approx(u / (len(a) * len(b)), **CLOSE)
        lower = stats.superiority(a, b, higher_is_better=False)
        assert lower.probability == pytest.approx(1 - found.probability, **CLOSE)
        mirror = stats.mirrored(found.interval)
        assert (lower.interval.low, lower.interval.high) == pytest.approx((mirror.low, mirror.high), **CLOSE)


@pytest.mark.parametrize(("theta", "m", "n"), [(0.5, 3, 3), (0.8, 5, 7), (0.04, 10, 5), (0.99, 40, 40)])
def test_newcombe_limits_solve_his_equation(theta: float, m: int, n: int) -> None:
    def residual(x: float) -> float:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - x) / (2 - x) + x / (1 + x))
        return (theta - x) ** 2 - oracle.norm.ppf(0.975) ** 2 * x * (1 - x) / (m * n) * spread

    found = newcombe_5(theta, m, n)
    assert found.low == pytest.approx(optimize.brentq(residual, 0, theta, xtol=1e-14), abs=1e-9)
    assert found.high == pytest.approx(optimize.brentq(residual, theta, 1, xtol=1e-14), abs=1e-9)


def test_complete_separation_still_has_an_interval() -> None:
    found = stats.superiority([3, 4, 5], [0, 1, 2], higher_is_better=True)
    assert (found.probability, found.interval.high) == (1, 1)
    assert 0.3 < found.interval.low < 0.7


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.49, 0.99, "not significant"),
        (0.5, 0.99, "not significant"),
        (0.51, 0.75, "significant, not meaningful"),
        (0.51, 0.76, "significant, may be meaningful"),
        (0.75, 0.9, "significant, may be meaningful"),
        (0.76, 0.9, "significant and meaningful"),
    ],
)
def test_readings(low: float, high: float, expected: str) -> None:
    assert stats.reading(stats.Interval(low, high, 0.95, ""), high, 20, 20) == expected


def test_failed_seeds_lose_every_comparison() -> None:
    a, b = [0.95, 0.96, math.nan, 0.97], [0.90, 0.91, 0.92, math.inf]
    found = stats.superiority(a, b, higher_is_better=True)
    assert found.probability == (3 * 4 + 0 + 0.5) / 16
    assert (found.failed_a, found.failed_b) == (1, 1)
    losing = stats.superiority(a, b, higher_is_better=False)
    assert losing.probability == (0 + 3 * 1 + 0.5) / 16
    wins = stats.win_rate(a, b, higher_is_better=True)
    assert (wins.wins, wins.ties, wins.losses) == (3, 0, 1)
    assert found.method == "all pairs, failed seeds ranked worst"
    assert stats.superiority(a[:2], b[:3], higher_is_better=True).method == "all pairs, independent seeds"


def test_win_rate_shows_its_ties() -> None:
    found = stats.win_rate([1, 2, 3, 4], [0, 2, 2, 5], higher_is_better=True)
    assert (found.wins, found.ties, found.losses, found.rate) == (2, 1, 1, 2 / 3)
    assert found.interval == stats.clopper_pearson(2, 3)
    level = stats.win_rate([1, 2], [1, 2], higher_is_better=True)
    assert (level.rate, level.interval.low, level.interval.high) == (None, 0, 1)


@pytest.mark.parametrize("counts", [(0, 5, 0, 5), (2, 10, 0, 10), (5, 5, 0, 5), (3, 7, 4, 20), (9, 9, 9, 9)])
def test_failure_difference_agrees_with_scipy_and_statsmodels(counts: tuple[int, int, int, int]) -> None:
    failed_a, n_a, failed_b, n_b = counts
    found = stats.failure_difference(*counts)
    reference = oracle.fisher_exact([[failed_a, n_a - failed_a], [failed_b, n_b - failed_b]]).pvalue
    assert found.p == pytest.approx(reference, **CLOSE)
    score = proportion.proportion_confint(failed_a, n_a, method="wilson")
    assert score_limits(failed_a / n_a, n_a, 0.05) == pytest.approx(score, rel=1e-9, abs=1e-12)
    limits = proportion.confint_proportions_2indep(failed_a, n_a, failed_b, n_b, method="newcomb")
    assert (found.interval.low, found.interval.high) == pytest.approx(limits, rel=1e-9, abs=1e-9)


def test_failure_difference_needs_seeds_in_both_arms() -> None:
    with pytest.raises(StatisticsError, match="0 of 0"):
        stats.failure_difference(0, 0, 1, 5)


def test_holm_agrees_with_statsmodels_and_counts_missing_tests() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert stats.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1], rel=1e-12)
    assert stats.holm([0.02, None, 0.5]) == pytest.approx([0.06, None, 1.0])
    with pytest.raises(StatisticsError, match="not a p value"):
        stats.holm([1.2])


def test_bold_is_what_holm_does_not_separate_from_the_best() -> None:
    arms = {"best": A, "close": B, "far": [x - 0.2 for x in A], "alone": [0.5]}
    assert stats.not_separated(arms, higher_is_better=True, paired=False) == {"best", "close", "alone"}
    assert stats.not_separated(arms, higher_is_better=False, paired=False) >= {"alone"}
    assert stats.not_separated({"only": A}, higher_is_better=True, paired=False) == {"only"}


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_paired_t_alone_is_wrong_as_often_as_sign_flips_agree_by_chance(n: int) -> None:
    """Differences in two modes, as between runs that either find the good optimum or do not; no true difference."""
    rng = np.random.default_rng(n)
    found = []
    for _ in range(2000):
        gaps = rng.choice([-1.0, 1.0], n) + 0.05 * rng.normal(size=n)
        found.append(stats.paired_t(gaps, np.zeros(n)))
    wrong = sum(one.p <= 0.05 for one in found) / 2000
    assert found[0].attainable == 2 / 2**n
    assert abs(wrong - found[0].attainable) < 0.03
    assert (found[0].attainable <= 0.05) == (n == 6)  # from here on t may speak
    arms = {"a": rng.normal(size=n) * 1e-3, "b": 1 + rng.normal(size=n) * 1e-3}
    kept = stats.not_separated(arms, higher_is_better=True, paired=True)
    assert kept == ({"b"} if n == 6 else {"a", "b"})
