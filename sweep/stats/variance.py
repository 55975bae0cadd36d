"""Sources of the spread between seeds: training, this test set, or the implementation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval, Method, spread_interval, t_quantile
from sweep.stats.sample import LARGEST, Floats, check_level, sample, variance


@dataclass(frozen=True)
class TrainingVariance:
    """Variance between seeds on this test set, and the part of it that would remain on infinite test data.

    distribution: Jordan's estimate, not clipped: negative if the seeds differ less than by chance alone.
    mostly_chance: it is less than half of `observed`, so picking the best seed gains little.
    """

    observed: float
    distribution: float
    runs: int
    examples: int

    @property
    def mostly_chance(self) -> bool:
        return self.distribution < self.observed / 2


@dataclass(frozen=True)
class TwoWay:
    """A mean over seeds and examples, for the population of both."""

    mean: float
    interval: Interval
    error: float
    df: float
    runs: int
    examples: int


def scores(values: npt.ArrayLike, *, name: str = "scores") -> Floats:
    """Return per-example scores (correct or not, a loss) as float64 of shape (runs, examples), at least two of each.

    Raises StatisticsError for fewer, for NaN or infinities (a failed run has no row), and for a number beyond ±1e150.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or min(array.shape) < 2:
        raise StatisticsError(f"{name} has shape {array.shape}; (runs, examples) with at least two of each are needed")
    if not np.isfinite(array).all():
        raise StatisticsError(f"{name} holds NaN or infinities", hint="leave out failed runs, and report their number")
    if float(np.max(np.abs(array))) > LARGEST:
        raise StatisticsError(f"{name} holds numbers beyond ±{LARGEST:g}: their variance overflows")
    return array


def training_variance(values: npt.ArrayLike) -> TrainingVariance:
    """Estimate the variance between runs that is not chance on a finite test set (Jordan 2023, "Calibrated chaos").

    values: shape (runs, examples n). n/(n-1) · [s² - n⁻² Σ_i Var_r(e_i)], s² the variance of the runs' means,
    both variances with divisor runs - 1. Unbiased, and therefore sometimes negative.
    Raises StatisticsError for NaN, infinities, or fewer than two runs or examples.
    """
    table = scores(values)
    runs, n = table.shape
    observed = variance(table.mean(axis=1))
    chance = float(table.var(axis=0, ddof=1).sum()) / n**2
    return TrainingVariance(observed, n / (n - 1) * (observed - chance), runs, n)


def two_way_interval(values: npt.ArrayLike, level: float = 0.95) -> TwoWay:
    """Return the interval for the mean over seeds AND examples: two-way random effects.

    values: shape (runs R, examples n). Var = s²/R + S²(p_i)/n - mean_i Var_r(e_i)/(nR), s² between the runs'
    means, S² between the examples' means p_i; not less than the larger of the first two terms. Degrees of
    freedom by Satterthwaite 1946 from these two. Also valid for per-example differences of two configurations
    that share seeds and test set (see `two_way_difference` if they share only the test set).
    Raises StatisticsError for NaN, infinities, or fewer than two runs or examples, and for a level outside (0, 1).
    """
    table = scores(values)
    runs, n = table.shape
    over_seeds = variance(table.mean(axis=1)) / runs
    over_examples = float(table.mean(axis=0).var(ddof=1)) / n
    twice = float(table.var(axis=0, ddof=1).mean()) / (n * runs)
    terms = [(over_seeds, runs - 1), (over_examples, n - 1)]
    return _two_way(float(table.mean()), terms, twice, runs, n, level)


def two_way_difference(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95) -> TwoWay:
    """Return the mean of A minus that of B over seeds and examples: one shared test set, independent seeds.

    a: shape (runs, examples), b: (runs', examples), column j the same example in both. Examples enter by
    their differences, so that their difficulty cancels; seeds enter by the variances of the means of each arm.
    Raises StatisticsError if the numbers of examples differ. For shared seeds: `two_way_interval(a - b)`.
    """
    first, second = scores(a, name="A"), scores(b, name="B")
    n = first.shape[1]
    if second.shape[1] != n:
        raise StatisticsError(f"A has {n} examples and B has {second.shape[1]}: match them by id first")
    gaps = first.mean(axis=0) - second.mean(axis=0)
    terms = [(variance(arm.mean(axis=1)) / len(arm), len(arm) - 1) for arm in (first, second)]
    terms.append((float(gaps.var(ddof=1)) / n, n - 1))
    twice = sum(float(arm.var(axis=0, ddof=1).mean()) / (n * len(arm)) for arm in (first, second))
    return _two_way(float(gaps.mean()), terms, twice, min(len(first), len(second)), n, level)


def _two_way(centre: float, terms: list[tuple[float, int]], twice: float, runs: int, n: int, level: float) -> TwoWay:
    alpha = check_level(level)
    *seeds, (examples, _) = terms
    together = sum(part for part, _ in terms)
    total = max(together - twice, sum(part for part, _ in seeds), examples)
    error = math.sqrt(total)
    scatter = sum((part / together) ** 2 / df for part, df in terms) if together else 0.0
    df = (total / together) ** 2 / scatter if scatter else float(sum(df for _, df in terms))
    half = t_quantile(df, 1 - alpha / 2) * error
    interval = Interval(centre - half, centre + half, level, Method.TWO_WAY)
    return TwoWay(centre, interval, error, df, runs, n)


def implementation_noise(values: npt.ArrayLike, seeds: npt.ArrayLike, level: float = 0.95) -> tuple[float, Interval]:
    """Estimate the sd of repeats within a seed (the noise of fast mode) with its chi-square interval.

    values, seeds: shape (runs,). The sd is pooled within seeds, with Σ(k_s - 1) degrees of freedom.
    Raises StatisticsError if no seed was run twice.
    """
    numbers, labels = sample(values), np.asarray(seeds, dtype=np.int64)
    groups = [numbers[labels == seed] for seed in np.unique(labels)]
    df = numbers.size - len(groups)
    if df < 1:
        raise StatisticsError("no seed was run twice", hint="set repeats: 5 to run each seed five times")
    pooled = math.sqrt(math.fsum(variance(group) * (group.size - 1) for group in groups if group.size > 1) / df)
    return pooled, spread_interval(pooled, df, level, Method.REPEATS)
