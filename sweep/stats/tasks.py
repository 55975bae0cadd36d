"""Scores over several tasks: normalised, then the mean or interquartile mean with a stratified bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval
from sweep.stats.method import Method
from sweep.stats.sample import Floats, check_level, sample

Statistic = Callable[[Floats], Floats]  # reduces the last axis

RESAMPLES = 10_000
LEAST_TASKS = 10


def normalise(values: npt.ArrayLike, floor: float, ceiling: float) -> Floats:
    """(value - floor) / (ceiling - floor): 0 at the lower declared reference, 1 at the upper. Shape (n,).

    For a loss the floor is the worse reference and so the larger number. StatisticsError when they are equal.
    """
    if not (math.isfinite(floor) and math.isfinite(ceiling)) or floor == ceiling:
        raise StatisticsError(f"references {floor} and {ceiling} do not span a scale")
    return (sample(values) - floor) / (ceiling - floor)


def table(scores: Sequence[npt.ArrayLike]) -> Floats:
    """Normalised scores, one sequence a task, as (tasks, seeds).

    StatisticsError when tasks have unequal numbers of seeds: pooled, the longer ones would weigh more.
    """
    rows = [sample(task, name=f"task {i}") for i, task in enumerate(scores)]
    if not rows:
        raise StatisticsError("no tasks: there is nothing to pool")
    sizes = sorted({row.size for row in rows})
    if len(sizes) > 1:
        raise StatisticsError(
            f"tasks have between {sizes[0]} and {sizes[-1]} seeds: pooled, the longer would weigh more",
            hint="run the missing seeds, or pass the seeds that every task has",
        )
    return np.sort(np.stack(rows), axis=1)


def average(values: Floats) -> Floats:
    """Mean over the last axis."""
    return np.asarray(values.mean(axis=-1))


def interquartile_mean(values: Floats) -> Floats:
    """Mean of the middle half of the last axis: floor(n/4) values cut from each end."""
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    return np.asarray(ordered[..., n // 4 : n - n // 4].mean(axis=-1))


def iqm(scores: Sequence[npt.ArrayLike]) -> float:
    """Interquartile mean over the runs of all tasks (Agarwal et al. 2021).

    scores: one sequence of normalised scores a task, equally many seeds each, as in `table`. A statistic over
    tasks: within one task it would throw half of the seeds away. StatisticsError for fewer than two tasks.
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
    """Interval of a pooled statistic over seeds, for these tasks (Agarwal et al. 2021).

    scores: as in `iqm`, at least 10 tasks of at least 2 seeds. Seeds are resampled within each task, so the
    tasks are taken as given: it says nothing about other tasks. The percentile limits are widened about the
    estimate by √(n/(n-1)), n seeds a task: resampling n values shows (n-1)/n of their variance (Hesterberg
    2015), which with 3 seeds is a third too little. StatisticsError otherwise.
    """
    alpha = check_level(level)
    rows = table(scores)
    tasks, n = rows.shape
    if tasks < LEAST_TASKS:
        raise StatisticsError(
            f"a stratified bootstrap over {tasks} tasks of {n} seeds resamples too little to be trusted",
            hint=f"report each task with its t interval; from {LEAST_TASKS} tasks on they are pooled",
        )
    if n < 2:
        raise StatisticsError("one seed a task has no spread to resample")
    estimate = float(statistic(rows.reshape(1, -1))[0])
    at = np.arange(tasks)[:, None]
    chunk = max(1, 4_000_000 // rows.size)
    replicates = []
    for start in range(0, resamples, chunk):
        drawn = rng.integers(0, n, (min(chunk, resamples - start), tasks, n))
        replicates.append(statistic(rows[at, drawn].reshape(len(drawn), -1)))
    low, high = np.quantile(np.concatenate(replicates), [alpha / 2, 1 - alpha / 2])
    widen = math.sqrt(n / (n - 1))
    return Interval(
        estimate + widen * (float(low) - estimate),
        estimate + widen * (float(high) - estimate),
        level,
        Method.BOOTSTRAP,
    )
