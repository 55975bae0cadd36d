"""Intervals for one configuration: mean, sd, median, failure rate.

If no interval exists (one seed has no spread; a 95 % median interval needs six) the result is None. Limits of means
are not clipped: a t interval for an accuracy may reach beyond 1, because seeds near the ceiling are not normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.sample import Floats, check_count, check_level, mean, sample, sd, unit


class Method(StrEnum):
    """Statistical methods as codes; the value is the name in tables and in --json."""

    T = "Student t over seeds"
    T_SPLITS = "Student t over splits, variance by Nadeau & Bengio"
    T_FOLDS = "Student t over seeds and folds, variance by Nadeau & Bengio"
    PAIRED_T = "paired t over seeds"
    PAIRED_T_SPLITS = "paired t over splits, variance by Nadeau & Bengio"
    PAIRED_T_FOLDS = "paired t over seeds and folds, variance by Nadeau & Bengio"
    WELCH = "Welch t over seeds"
    WELCH_SPLITS = "Welch t over splits, variance by Nadeau & Bengio"
    WELCH_FOLDS = "t over seeds and paired folds, variance by Nadeau & Bengio"
    SEQUENCE = "t confidence sequence over seeds"
    FIXED_WIDTH = "fixed width, t rule and 4 more"
    SD = "chi-square over seeds"
    REPEATS = "chi-square over repeats within seeds"
    TWO_WAY = "two-way over seeds and examples"
    ORDER = "order statistics"
    BOOTSTRAP = "percentile bootstrap stratified by task"
    CLOPPER_PEARSON = "Clopper-Pearson"
    WILSON_TASKS = "Wilson score, variance within tasks"
    NEWCOMBE = "Newcombe hybrid score"
    NEWCOMBE_5 = "Newcombe method 5"
    NONCENTRAL_T = "noncentral t"
    FISHER = "Fisher exact"
    SIGN_FLIP = "sign-flip"
    PERMUTATION = "permutation"
    ALL_PAIRS = "all pairs, independent seeds"
    WORST_RANK = "all pairs, failed seeds ranked worst"
    ONE_SEED = "no interval: one seed has no spread"
    TOO_LARGE = "no interval: its limits are too large for a float"
    NO_SEED = "no interval: no seed has a value"


@dataclass(frozen=True)
class Interval:
    """Two limits, their level (.95 for 95 %) and the method."""

    low: float
    high: float
    level: float
    method: Method

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class OrderInterval(Interval):
    """Interval from the `lower` to the `upper` smallest value, counted from 1, with its exact coverage."""

    lower: int
    upper: int
    coverage: float


@dataclass(frozen=True)
class Summary:
    """One metric over seeds. sd, low and high are None at n = 1; `method` is then the reason."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    min: float
    max: float
    level: float
    method: Method


def t_quantile(df: float, probability: float) -> float:
    """Return the quantile of Student's t with df degrees of freedom."""
    return float(special.stdtrit(df, probability))


def t_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval | None:
    """Return Student's interval for the mean over seeds: mean ± t_{n-1} s/√n (Student 1908). None for n = 1.

    values: shape (n,), one number per seed. Equal values give an interval of width 0, which is no evidence (the gate
    does not decide on it).
    Raises StatisticsError for NaN, infinities, no values or another shape, and for a level outside (0, 1).
    """
    alpha = check_level(level)
    numbers = sample(values)
    n = numbers.size
    if n < 2:
        return None
    centre = mean(numbers)
    half = t_quantile(n - 1, 1 - alpha / 2) * sd(numbers) / math.sqrt(n)
    return Interval(centre - half, centre + half, level, Method.T)


def resampled(n: int, ratio: float | None) -> float:
    """Return the factor on the standard error of a mean over n random splits of one data set; 1 without a ratio.

    Nadeau & Bengio 2003: splits share data, so the variance of their mean is s² (1/n + n_test/n_train) and not s²/n.
    ratio: n_test/n_train. Raises StatisticsError unless it is positive and finite.
    """
    if ratio is None:
        return 1.0
    if not (math.isfinite(ratio) and ratio > 0):
        raise StatisticsError(f"{ratio!r} is not a ratio of test to training examples")
    return math.sqrt(1 + n * ratio)


def fold_error(gaps: Floats, seeds: Sequence[Floats], ratio: float) -> tuple[float, float]:
    """Return the standard error of a mean over folds and seeds, for new data, with its degrees of freedom.

    gaps: shape (folds,), the averaged values by fold. seeds: the same by seed, for each set of independent seeds.
    ratio: n_test/n_train. The variance is that of the folds by Nadeau and Bengio (see `resampled`) plus that of the
    seeds: s²_folds (1/K + ratio) + s²_seeds/S, with degrees of freedom by Satterthwaite 1946. Without the second part,
    the spread between seeds would not count; with one seed, it is left out.
    """
    folds = sd(gaps) / math.sqrt(gaps.size) * resampled(gaps.size, ratio)
    parts = [(folds, gaps.size - 1), *((sd(each) / math.sqrt(each.size), each.size - 1) for each in seeds)]
    error = math.hypot(*(part for part, _ in parts))
    if not error:
        return 0.0, float(sum(df for _, df in parts))
    return error, 1 / sum((part / error) ** 4 / df for part, df in parts)


def sd_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval | None:
    """Return the chi-square interval for the standard deviation: s √((n-1) / χ²_{n-1, 1-α/2}) to the same with α/2.

    values: shape (n,). None for n = 1. Exact only for normal seeds; unlike the t interval, it does not become
    exact with more seeds. Raises StatisticsError as in `t_interval`.
    """
    check_level(level)
    numbers = sample(values)
    return spread_interval(sd(numbers), numbers.size - 1, level, Method.SD) if numbers.size > 1 else None


def spread_interval(spread: float, df: int, level: float, method: Method) -> Interval:
    """Return the chi-square interval for a standard deviation that was estimated with df degrees of freedom."""
    alpha = check_level(level)
    low, high = (spread * math.sqrt(df / special.chdtri(df, above)) for above in (alpha / 2, 1 - alpha / 2))
    return Interval(low, high, level, method)


def median_interval(ordered: Floats, level: float) -> OrderInterval | None:
    """Return the exact interval of the median (David & Nagaraja 2003, section 7.1) of sorted values, or None.

    From x_(j) to x_(n+1-j), j the largest with P(B <= j-1) <= α/2 for B binomial(n, 1/2): it covers the median with a
    chance of at least `level` for every distribution. None if no j exists (a 95 % interval needs n >= 6). The values
    may end in infinities (failed seeds).
    """
    n = ordered.size
    below = special.bdtr(np.arange(n), n, 0.5)  # P(B <= 0), …, P(B <= n-1)
    j = int(np.count_nonzero(below <= check_level(level) / 2))
    if not j:
        return None
    low, high = float(ordered[j - 1]), float(ordered[n - j])
    return OrderInterval(low, high, level, Method.ORDER, j, n + 1 - j, float(1 - 2 * below[j - 1]))


def clopper_pearson(k: int, n: int, level: float = 0.95) -> Interval:
    """Return the exact interval for a rate, k of n (Clopper & Pearson 1934). 0 of 5: at most 52 %; 0 of 10: 31 %.

    For 0 of 0 it is 0 to 1. Raises StatisticsError unless k and n are whole and 0 <= k <= n, and for a level outside
    (0, 1).
    """
    alpha = check_level(level)
    check_count(k, n)
    low = float(special.betaincinv(k, n - k + 1, alpha / 2)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1 - alpha / 2)) if k < n else 1.0
    return Interval(low, high, level, Method.CLOPPER_PEARSON)


def score_limits(share: npt.ArrayLike, draws: npt.ArrayLike, alpha: float) -> Floats:
    """Return the score limits (2, ...) of shares over these numbers of draws (Wilson 1927), between 0 and 1."""
    p, n = np.asarray(share, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    z = special.ndtri(1 - alpha / 2)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return np.stack([np.clip(centre - half, 0.0, p), np.clip(centre + half, p, 1.0)])


def summarise(values: npt.ArrayLike, level: float = 0.95, *, ratio: float | None = None) -> Summary:
    """Return n, mean, sd (divisor n - 1), t interval and extremes of one metric over seeds.

    values: shape (n,), of any finite size, or (n, folds). At n = 1 sd, low and high are None; so is any of them
    that is too large for a float. ratio: n_test/n_train, if each value is from its own split of one data set or from a
    fold. The interval is then for new data (see `resampled`, `fold_error`), and with folds it exists at n = 1.
    Raises StatisticsError for NaN, infinities, no values or another shape, for a level outside (0, 1), and for a ratio
    that is not positive and finite.
    """
    scale = unit(values)
    table = np.asarray(values, dtype=np.float64) / scale
    numbers = np.array([mean(sample(row)) for row in table]) if table.ndim == 2 else sample(table)
    found, wider = t_interval(numbers, level), resampled(numbers.size, ratio)
    if table.ndim == 2 and ratio is not None:
        error, df = fold_error(table.mean(axis=0), [numbers] if numbers.size > 1 else [], ratio)
        centre, half = mean(numbers), t_quantile(df, 1 - check_level(level) / 2) * error
        found = Interval(centre - half, centre + half, level, Method.T_FOLDS)
    elif found and ratio is not None:
        centre, half = mean(numbers), found.half_width * wider
        found = Interval(centre - half, centre + half, level, Method.T_SPLITS)
    method = found.method if found else Method.ONE_SEED
    low, high = (_within(found.low, scale), _within(found.high, scale)) if found else (None, None)
    if found and (low is None or high is None):
        low, high, method = None, None, Method.TOO_LARGE
    return Summary(
        n=numbers.size,
        mean=mean(numbers) * scale,
        sd=_within(sd(numbers), scale) if numbers.size > 1 else None,
        low=low,
        high=high,
        min=float(numbers.min()) * scale,
        max=float(numbers.max()) * scale,
        level=level,
        method=method,
    )


def _within(value: float, scale: float) -> float | None:
    """Return `value` times its unit `scale`, or None if that is too large for a float."""
    return value * scale if math.isfinite(value * scale) else None
