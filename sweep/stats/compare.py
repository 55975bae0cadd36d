"""Comparisons of configurations: differences, effect size, equivalence, failure rates, and many pairs at once.

A is always the first argument and the difference always A - B.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval, Method, fold_error, resampled, score_limits, t_quantile
from sweep.stats.sample import (
    Floats,
    bisected,
    check_count,
    check_level,
    mean,
    require_pairs,
    rounding,
    sample,
    sd,
    variance,
)

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
SERIES = 100  # the noncentrality up to which scipy's series is fast


@dataclass(frozen=True)
class Difference:
    """mean(A) - mean(B) over seeds.

    interval: None if an arm has one seed. error, df: standard error and degrees of freedom, None in the same case.
    p: also None if nothing varies, because there is no spread to test against (the interval has width 0).
    correlation: between the arms over seeds, in paired designs where both vary. folds: their number, 0 without folds.
    """

    estimate: float
    n_a: int
    n_b: int
    paired: bool
    method: Method
    interval: Interval | None = None
    p: float | None = None
    error: float | None = None
    df: float | None = None
    correlation: float | None = None
    folds: int = 0

    @property
    def constant(self) -> bool:
        """Return whether the difference is equal on every seed, so that there is no spread to test it against."""
        return self.error == 0

    @property
    def attainable(self) -> float:
        """Return the smallest two-sided p that the exact test of these seeds can give: see `attainable`.

        It is 0 for folds of several seeds, because a fold is a mean over many examples, which does not have two modes.
        """
        if self.folds and min(self.n_a, self.n_b) > 1:
            return 0.0
        return attainable(self.n_a, None if self.paired else self.n_b)


@dataclass(frozen=True)
class Equivalence:
    """Verdict on |A - B| < margin, from the interval at 1 - 2α; p of the two one-sided tests."""

    verdict: Literal["equivalent", "different", "undecided"]
    margin: float
    interval: Interval | None
    p: float | None


@dataclass(frozen=True)
class Effect:
    """Hedges' g, the difference in units of the seed sd, and its interval."""

    g: float
    interval: Interval


def attainable(n: int, other: int | None = None) -> float:
    """Return the smallest two-sided p of an exact test: 2/2^n for n sign flips, 2/C(n+m, n) for n against m seeds.

    Nothing is called significant if this exceeds 1 - level: the exact test cannot reach the level, and t reaches it
    only by assuming normal seeds. With differences in two modes, paired t at 95 % is wrong for .25, .12, .06, .03 of
    equal configurations at n = 3, 4, 5, 6.
    """
    return min(1.0, 2 / (2**n if other is None else math.comb(n + other, n)))


def paired_samples(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return both arms as samples, position i the same seed. Raise StatisticsError if the lengths differ."""
    first, second = sample(a, name="A"), sample(b, name="B")
    require_pairs(first, second)
    return first, second


def differences(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Return A - B for each shared seed, (n,), sorted so that no later sum depends on the order of the seeds.

    A shift that is constant up to the rounding of the values is returned as exactly constant, because a spread of 1e-17
    would give a p value of 0.
    """
    first, second = paired_samples(a, b)
    gaps: Floats = np.sort(first - second)
    varies = gaps[-1] - gaps[0] > rounding(first, second)
    return gaps if varies else np.full_like(gaps, np.median(gaps))


def paired_t(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95) -> Difference:
    """Return Student's paired t over shared seeds: d̄ ± t_{n-1} s_d/√n.

    a, b: shape (n,), position i the same seed. Only pairing by planned seed justifies it, and it gains
    from their correlation (about 0 between configurations that share nothing but the seed number).
    Raises StatisticsError for NaN, infinities, no values, arms of different lengths, and for a level outside (0, 1).
    """
    check_level(level)
    first, second = paired_samples(a, b)
    gaps = differences(a, b)
    n = gaps.size
    found = Difference(mean(gaps), n, n, True, Method.PAIRED_T, correlation=correlation(first, second))
    return _tested(found, math.sqrt(variance(gaps) / n), n - 1, level) if n > 1 else found


def welch(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95) -> Difference:
    """Return Welch's t for independent seeds, Satterthwaite degrees of freedom (Welch 1947).

    a: shape (m,), b: shape (n,). Interval and p are None if either has one seed.
    Raises StatisticsError for NaN, infinities or no values, and for a level outside (0, 1).
    """
    check_level(level)
    first, second = sample(a, name="A"), sample(b, name="B")
    m, n = first.size, second.size
    found = Difference(mean(first) - mean(second), m, n, False, Method.WELCH)
    if min(m, n) < 2:
        return found
    u, v = variance(first) / m, variance(second) / n
    scale = max(u, v)
    # Divided by the larger, so that squares of tiny variances do not underflow.
    df = (
        (u / scale + v / scale) ** 2 / ((u / scale) ** 2 / (m - 1) + (v / scale) ** 2 / (n - 1)) if scale else m + n - 2
    )
    return _tested(found, math.sqrt(u + v), df, level)


def difference(a: npt.ArrayLike, b: npt.ArrayLike, *, paired: bool, level: float = 0.95) -> Difference:
    """Return `paired_t` or `welch`, with their StatisticsError."""
    return paired_t(a, b, level) if paired else welch(a, b, level)


def over_splits(found: Difference, ratio: float, level: float = 0.95) -> Difference:
    """Return a difference over random splits of one data set, for new data, with the error from `resampled`.

    ratio: n_test/n_train.
    """
    if found.error is None or found.df is None:
        return found
    method = Method.PAIRED_T_SPLITS if found.paired else Method.WELCH_SPLITS
    error = found.error * resampled(min(found.n_a, found.n_b), ratio)
    return _tested(replace(found, method=method), error, found.df, level)


def fold_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, ratio: float, *, paired: bool, level: float = 0.95
) -> Difference:
    """Return mean(A) - mean(B) over seeds and the same folds of one data set, for new data, by `fold_error`.

    a: shape (seeds, folds), b: (seeds', folds), column j the same fold in both. paired: row i is also the same seed.
    Raises StatisticsError if the numbers of folds or of paired seeds differ; for one fold, NaN, infinities or another
    shape; for a ratio (n_test/n_train) that is not positive and finite, and for a level outside (0, 1).
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    tables = first.ndim == second.ndim == 2 and first.shape[1] == second.shape[1]
    if not tables or (paired and first.shape != second.shape):
        raise StatisticsError(
            f"A has shape {first.shape} and B {second.shape}; (seeds, folds) of the same folds are needed"
        )
    noise = rounding(sample(first.ravel(), name="A"), sample(second.ravel(), name="B"))
    gaps = first.mean(axis=0) - second.mean(axis=0)
    seeds = [(first - second).mean(axis=1)] if paired else [first.mean(axis=1), second.mean(axis=1)]
    steady = (np.full_like(each, np.median(each)) if np.ptp(each) <= noise else each for each in (gaps, *seeds))
    gaps, *seeds = steady
    error, df = fold_error(gaps, [each for each in seeds if each.size > 1], ratio)
    method = Method.PAIRED_T_FOLDS if paired else Method.WELCH_FOLDS
    found = Difference(mean(gaps), len(first), len(second), paired, method, folds=gaps.size)
    return _tested(found, error, df, level)


def _tested(found: Difference, error: float, df: float, level: float) -> Difference:
    """Return a difference with Student's interval and p value for this standard error."""
    half = t_quantile(df, 1 - check_level(level) / 2) * error
    interval = Interval(found.estimate - half, found.estimate + half, level, found.method)
    p = float(2 * special.stdtr(df, -abs(found.estimate) / error)) if error else None
    return replace(found, interval=interval, p=p, error=error, df=df)


def correlation(a: Floats, b: Floats) -> float | None:
    """Return Pearson's correlation over shared seeds, (n,) each; None if n < 3 or an arm does not vary."""
    if a.size < 3 or not (spread := sd(a) * sd(b)):
        return None
    shared = math.fsum((a - mean(a)) * (b - mean(b))) / (a.size - 1)
    return max(-1.0, min(1.0, shared / spread))


def equivalence(found: Difference, margin: float) -> Equivalence:
    """Return the verdict of two one-sided tests (Schuirmann 1987): is the 1 - 2α interval inside ± margin?

    found: a difference at the level 1 - 2α. "equivalent" if its interval lies inside, "different" if it lies wholly
    outside on one side, "undecided" otherwise or without an interval. The margin has no default: only the user knows
    which difference matters.
    Raises StatisticsError unless the margin is positive and finite.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise StatisticsError(f"margin {margin!r} is not a positive number", hint="for example 0.005")
    interval = found.interval
    if interval is None or found.df is None or found.error is None:
        return Equivalence("undecided", margin, None, None)
    p = None
    if found.error:
        nearest = max((abs(found.estimate) - margin) / found.error, -1e300)
        p = float(special.stdtr(found.df, nearest))
    if -margin < interval.low and interval.high < margin:
        return Equivalence("equivalent", margin, interval, p)
    outside = interval.low > margin or interval.high < -margin
    return Equivalence("different" if outside else "undecided", margin, interval, p)


def hedges_g(
    a: npt.ArrayLike, b: npt.ArrayLike, *, paired: bool, level: float = 0.95, ratio: float | None = None
) -> Effect | None:
    """Return Hedges' g with the exact correction J = Γ(ν/2) / (√(ν/2) Γ((ν-1)/2)) (Hedges 1981).

    Independent: pooled sd, ν = m + n - 2, interval from the noncentral t. Paired: the root mean of the two
    variances, ν = n - 1, interval from the noncentral t of the differences on that scale (Algina & Keselman
    2003). None with fewer than two seeds per arm (ν < 2), or if nothing varies. ratio: as in `over_splits`.
    """
    alpha = check_level(level)
    found = difference(a, b, paired=paired, level=level)
    m, n = found.n_a, found.n_b
    df = n - 1 if paired else m + n - 2
    if min(m, n) < 2 or df < 2:
        return None
    u, v = variance(sample(a)), variance(sample(b))
    unit = math.sqrt((u + v) / 2 if paired else ((m - 1) * u + (n - 1) * v) / df)
    error = found.error if paired else unit * math.sqrt(1 / m + 1 / n)
    if not unit or not error:
        return None
    error *= resampled(min(m, n), ratio)
    shrink = math.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / math.sqrt(df / 2)
    g = shrink * found.estimate / unit
    t = found.estimate / error
    low, high = noncentrality(t, df, 1 - alpha / 2), noncentrality(t, df, alpha / 2)
    scale = shrink * error / unit
    return Effect(g, Interval(scale * low, scale * high, level, Method.NONCENTRAL_T))


def noncentrality(t: float, df: float, probability: float) -> float:
    """Return the δ for which a noncentral t with df degrees of freedom lies below t with this probability."""
    # t is near δ √(df/χ²): the bracket spans all but 1e-12 of both sources of chance.
    ratios = np.sqrt(2 * special.gammaincinv(df / 2, [1e-12, 1 - 1e-12]) / df)
    low, high = float(np.min(t * ratios)) - 10, float(np.max(t * ratios)) + 10
    return bisected(lambda delta: _noncentral(t, df, delta) > probability, low, high)


def _noncentral(t: float, df: float, delta: float) -> float:
    """Return the probability that a noncentral t, (Z + δ) / √(χ²/df), lies below t."""
    if abs(delta) < SERIES or abs(t) < 10 * math.sqrt(2 * df):
        return float(special.nctdtr(df, delta, t))
    if t < 0:
        return 1 - _noncentral(-t, df, -delta)
    # scipy's series has about δ terms. For a large δ, P(χ² > df ((Z + δ)/t)²) is so smooth in Z that 40 nodes suffice.
    chances = special.gammaincc(df / 2, df / 2 * (np.maximum(NODES + delta, 0) / t) ** 2)
    return float(WEIGHTS @ chances) / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class RateDifference:
    """Failure rate of A minus that of B, with Fisher's two-sided p."""

    estimate: float
    interval: Interval
    p: float
    failed_a: int
    n_a: int
    failed_b: int
    n_b: int
    method: Method


def failure_difference(failed_a: int, n_a: int, failed_b: int, n_b: int, level: float = 0.95) -> RateDifference:
    """Compare failed_a of n_a with failed_b of n_b: Fisher's exact p and Newcombe's hybrid score interval.

    Interval: Newcombe 1998 (Statistics in Medicine 17:873), method 10. Interval and p come from different
    methods and may disagree at the edge. Raises StatisticsError for invalid counts, an arm without seeds, or a level
    outside (0, 1).
    """
    check_count(failed_a, n_a, least=1)
    check_count(failed_b, n_b, least=1)
    alpha, a, b = check_level(level), failed_a / n_a, failed_b / n_b
    (low_a, high_a), (low_b, high_b) = score_limits(a, n_a, alpha), score_limits(b, n_b, alpha)
    low, high = a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)
    interval = Interval(low, high, level, Method.NEWCOMBE)
    p = fisher(failed_a, n_a, failed_b, n_b)
    return RateDifference(a - b, interval, p, failed_a, n_a, failed_b, n_b, Method.FISHER)


def fisher(failed_a: int, n_a: int, failed_b: int, n_b: int) -> float:
    """Return Fisher's two-sided exact p: the share of tables with these margins that are no likelier than this one.

    It is computed in integers, so that equally likely tables tie exactly.
    """
    failed = failed_a + failed_b
    ways = [math.comb(n_a, k) * math.comb(n_b, failed - k) for k in range(max(0, failed - n_b), min(failed, n_a) + 1)]
    seen = math.comb(n_a, failed_a) * math.comb(n_b, failed_b)
    return sum(count for count in ways if count <= seen) / math.comb(n_a + n_b, failed)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p values in the given order (Holm 1979), each at most 1.

    None (no test exists) stays None and still counts as a comparison. Raises StatisticsError for a p value
    outside [0, 1].
    """
    for value in p:
        if value is not None and not 0 <= value <= 1:
            raise StatisticsError(f"{value!r} is not a p value")
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(p) - rank)))
        adjusted[i] = largest
    return adjusted


def bonferroni_level(level: float, comparisons: int) -> float:
    """Return the level of each of several intervals for all to hold at `level` together: 1 - (1 - level)/comparisons.

    Raises StatisticsError for fewer than one comparison, and for a level outside (0, 1).
    """
    if comparisons < 1:
        raise StatisticsError(f"{comparisons} is not a number of comparisons")
    return 1 - check_level(level) / comparisons


def not_separated(
    arms: Mapping[str, npt.ArrayLike], *, higher_is_better: bool, paired: bool, level: float = 0.95
) -> frozenset[str]:
    """Return the best mean and every configuration that Holm over all pairs does not separate from it.

    A table may set these in bold. A pair without a test (one seed, nothing varies), or with so few seeds that
    the exact test cannot reach the level (`attainable`), is not separated.
    """
    means = {name: mean(sample(values, name=name)) for name, values in arms.items()}
    if not means:
        raise StatisticsError("there are no configurations to compare")
    best = (max if higher_is_better else min)(means, key=lambda name: means[name])
    if len(arms) == 1:
        return frozenset(arms)
    alpha = check_level(level)
    pairs = [
        (pair, difference(arms[pair[0]], arms[pair[1]], paired=paired)) for pair in itertools.combinations(arms, 2)
    ]
    adjusted = holm([found.p for _, found in pairs])
    apart = {
        name
        for (pair, found), p in zip(pairs, adjusted, strict=True)
        if best in pair and p is not None and p <= alpha and found.attainable <= alpha
        for name in pair
        if name != best
    }
    return frozenset(arms) - apart
