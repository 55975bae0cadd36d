"""Scores over several tasks, normalised: their mean or interquartile mean, performance profile and curves.

The definitions are those of Agarwal et al. 2021; all intervals are over seeds, for these tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval, Method, score_limits
from sweep.stats.sample import Floats, check_level, sample

Statistic = Callable[[Floats], Floats]  # reduces the last axis

RESAMPLES = 10_000
BAND_RESAMPLES = 1_000  # for each step of a curve
LEAST_TASKS = 10


@dataclass(frozen=True)
class Band:
    """A curve with pointwise limits, shape (n,) each; the limits are NaN if no interval exists."""

    at: Floats
    value: Floats
    low: Floats
    high: Floats


def normalise(values: npt.ArrayLike, floor: float, ceiling: float) -> Floats:
    """Return (value - floor) / (ceiling - floor): 0 at the lower declared reference, 1 at the upper. Shape (n,).

    For a loss the floor is the worse reference, which is the larger number. Raises StatisticsError if they are equal.
    """
    if not (math.isfinite(floor) and math.isfinite(ceiling)) or floor == ceiling:
        raise StatisticsError(f"references {floor} and {ceiling} do not span a scale")
    return (sample(values) - floor) / (ceiling - floor)


def table(scores: Sequence[npt.ArrayLike]) -> Floats:
    """Return normalised scores, one sequence per task, as (tasks, seeds).

    Raises StatisticsError if tasks have unequal numbers of seeds, because tasks with more seeds would weigh more.
    """
    rows = [sample(task, name=f"task {i}") for i, task in enumerate(scores)]
    if not rows:
        raise StatisticsError("there are no tasks to pool")
    sizes = sorted({row.size for row in rows})
    if len(sizes) > 1:
        raise StatisticsError(
            f"tasks have between {sizes[0]} and {sizes[-1]} seeds: in a pool, those with more seeds would weigh more",
            hint="run the missing seeds, or pass the seeds that every task has",
        )
    return np.sort(np.stack(rows), axis=1)


def pools(tasks: int, seeds: int) -> bool:
    """Return whether this many tasks of this many seeds are enough for an interval."""
    return tasks >= LEAST_TASKS and seeds > 1


def average(values: Floats) -> Floats:
    """Return the mean over the last axis."""
    return np.asarray(values.mean(axis=-1))


def interquartile_mean(values: Floats) -> Floats:
    """Return the mean of the middle half of the last axis: floor(n/4) values are cut from each end."""
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    return np.asarray(ordered[..., n // 4 : n - n // 4].mean(axis=-1))


def iqm(scores: Sequence[npt.ArrayLike]) -> float:
    """Return the interquartile mean over the runs of all tasks (Agarwal et al. 2021).

    scores: one sequence of normalised scores per task, with equal numbers of seeds, as in `table`. It is for several
    tasks: within one task it would discard half of the seeds. Raises StatisticsError for fewer than two tasks, tasks
    with unequal numbers of seeds, NaN or infinities.
    """
    rows = table(scores)
    if len(rows) < 2:
        raise StatisticsError("an interquartile mean over one task discards half of its seeds: use the mean")
    return float(interquartile_mean(rows.reshape(-1)))


def stratified_interval(
    scores: Sequence[npt.ArrayLike],
    rng: np.random.Generator,
    *,
    statistic: Statistic = interquartile_mean,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """Return the interval of a pooled statistic over seeds, for these tasks (Agarwal et al. 2021).

    scores: as in `iqm`, at least 10 tasks of at least 2 seeds. Seeds are resampled within each task, so the
    tasks are taken as given, and other tasks are not covered. The percentile limits are widened about the
    estimate by √(n/(n-1)), n seeds per task: resampling n values shows (n-1)/n of their variance (Hesterberg
    2015), which with 3 seeds is a third too little. Raises StatisticsError otherwise.
    """
    alpha = check_level(level)
    rows = table(scores)
    tasks, n = rows.shape
    if not pools(tasks, n):
        raise StatisticsError(
            f"a stratified bootstrap over {tasks} tasks of {n} seeds resamples too few values to be trusted",
            hint=f"report each task with its t interval, or pool at least {LEAST_TASKS} tasks of 2 seeds",
        )
    chunk = max(1, 4_000_000 // rows.size)
    counts = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    drawn = [statistic(_drawn(rows, rng.integers(0, n, (count, tasks, n)))) for count in counts]
    low, high = _limits(statistic(rows.reshape(1, -1)), np.concatenate(drawn)[:, None], n, alpha)
    return Interval(float(low[0]), float(high[0]), level, Method.BOOTSTRAP)


def iqm_band(
    at: npt.ArrayLike,
    curves: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = BAND_RESAMPLES,
    level: float = 0.95,
) -> Band:
    """Return the interquartile mean over the runs of all tasks at each step, with limits as in `stratified_interval`.

    at: (steps,). curves: (steps, tasks, seeds), normalised and finite. A run is drawn with its whole curve. The limits
    are pointwise, and NaN below 10 tasks or two seeds per task. Raises StatisticsError for other shapes.
    """
    alpha = check_level(level)
    steps, values = sample(at, name="steps"), np.asarray(curves, dtype=np.float64)
    if values.ndim != 3 or len(values) != steps.size or not np.isfinite(values).all():
        raise StatisticsError(f"the curves have shape {values.shape}; finite numbers (steps, tasks, seeds) are needed")
    count, tasks, n = values.shape
    centre = interquartile_mean(values.reshape(count, -1))
    if not pools(tasks, n):
        return Band(steps, centre, *np.full((2, count), math.nan))
    runs = rng.integers(0, n, (resamples, tasks, n))
    drawn = [interquartile_mean(_drawn(each, runs)) for each in values]
    return Band(steps, centre, *_limits(centre, np.stack(drawn, axis=1), n, alpha))


def _drawn(rows: Floats, runs: npt.NDArray[np.int64]) -> Floats:
    """Return (draws, tasks x seeds): for each task of rows (tasks, seeds), the seeds in runs (draws, tasks, seeds)."""
    return rows[np.arange(len(rows))[:, None], runs].reshape(len(runs), -1)


def _limits(centre: Floats, drawn: Floats, n: int, alpha: float) -> Floats:
    """Return the percentile limits (2, ...) of draws (draws, ...), widened about the centre by √(n/(n-1))."""
    ends = np.quantile(drawn, [alpha / 2, 1 - alpha / 2], axis=0)
    widened: Floats = centre + math.sqrt(n / (n - 1)) * (ends - centre)
    return widened


def performance_profile(scores: Sequence[npt.ArrayLike], at: npt.ArrayLike, level: float = 0.95) -> Band:
    """Return the share of the runs of all tasks whose score is above each threshold.

    scores: as in `iqm`. at: thresholds, (n,). The limits come from `_score_limits`, with the variance within tasks.
    They are NaN below 10 tasks or two seeds per task. Raises StatisticsError for no tasks, tasks with unequal numbers
    of seeds, NaN or infinities (in thresholds too), and for a level outside (0, 1).
    """
    alpha = check_level(level)
    rows, thresholds = table(scores), sample(at, name="thresholds")
    tasks, n = rows.shape
    shares = (rows[:, :, None] > thresholds).mean(axis=1)
    share: Floats = shares.mean(axis=0)
    if not pools(tasks, n):
        return Band(thresholds, share, *np.full((2, share.size), math.nan))
    variance = (shares * (1 - shares)).sum(axis=0) / (n - 1) / tasks**2
    return Band(thresholds, share, *_score_limits(share, variance, tasks * n, alpha))


def probability_of_improvement(
    a: Sequence[npt.ArrayLike], b: Sequence[npt.ArrayLike], level: float = 0.95
) -> tuple[float, Interval | None]:
    """Return the probability that a run of A scores higher than a run of B on the same task, averaged over the tasks.

    a, b: scores of the same tasks, each as in `iqm`; a tie counts half. For one task it is U/(n m) of Mann and Whitney,
    with the variance of DeLong et al. 1988. The limits come from `_score_limits`; None below 10 tasks or two seeds per
    task. Raises StatisticsError if A and B have different numbers of tasks, for no tasks, tasks of one arm with unequal
    numbers of seeds, NaN or infinities, and for a level outside (0, 1).
    """
    alpha = check_level(level)
    first, second = table(a), table(b)
    if len(first) != len(second):
        raise StatisticsError(f"A has {len(first)} tasks and B has {len(second)}, but both need the same tasks")
    gaps = first[:, :, None] - second[:, None, :]
    wins = (gaps > 0) + 0.5 * (gaps == 0)
    estimate = np.array([wins.mean()])
    tasks, n, m = wins.shape
    if not pools(tasks, min(n, m)):
        return float(estimate[0]), None
    variances = wins.mean(axis=2).var(axis=1, ddof=1) / n + wins.mean(axis=1).var(axis=1, ddof=1) / m
    low, high = _score_limits(estimate, variances.sum(keepdims=True) / tasks**2, tasks * min(n, m), alpha)
    return float(estimate[0]), Interval(float(low[0]), float(high[0]), level, Method.WILSON_TASKS)


def _score_limits(share: Floats, variance: Floats, least: int, alpha: float) -> Floats:
    """Return the score limits (2, n) of shares whose variance was estimated.

    The number of draws is the one that would give this variance, but at least `least`, also if the variance is 0.
    Draws that are stratified by task never vary more than as many independent ones, and a variance of 0 within the
    tasks is no evidence.
    """
    draws = np.divide(share * (1 - share), variance, out=np.zeros_like(share), where=variance > 0)
    return score_limits(share, np.maximum(draws, least), alpha)


def area_under(steps: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return the mean height of a curve: the area under it by the trapezoidal rule, divided by its length.

    steps: (n,), increasing, not necessarily evenly; values: (n,). The height of a curve of one step is its value.
    Raises StatisticsError for NaN, infinities, other shapes or steps that do not increase.
    """
    x, y = sample(steps, name="steps"), sample(values)
    if x.shape != y.shape or (np.diff(x) <= 0).any():
        raise StatisticsError(
            f"there are {x.size} steps for {y.size} values; increasing steps with one value each are needed"
        )
    return float(y[0]) if x.size == 1 else float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / (x[-1] - x[0]))


def steps_to(band: Band, threshold: float) -> tuple[float, float, float]:
    """Return the first step at which a curve reaches a threshold, and the earliest and latest that its band allows.

    At the earliest step the upper limit reaches it, at the latest step the lower limit does. Infinity means never, NaN
    that there are no limits.
    """

    def first(values: Floats) -> float:
        reached = np.flatnonzero(values >= threshold)
        return math.nan if np.isnan(values).all() else float(band.at[reached[0]]) if reached.size else math.inf

    return first(band.value), first(band.high), first(band.low)
