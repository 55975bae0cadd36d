"""Bootstrap intervals over seeds, for twenty or more of them; below that they are refused with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval
from sweep.stats.sample import Floats, check_level, sample

Statistic = Callable[[Floats], Floats]  # reduces the last axis
Method = Literal["percentile", "bca", "studentised"]

LEAST = 20
RESAMPLES = 10_000
_CHUNK = 4_000_000  # numbers held at once


def average(values: Floats) -> Floats:
    """Mean over the last axis."""
    return np.asarray(values.mean(axis=-1))


def bootstrap_interval(
    values: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    statistic: Statistic = average,
    method: Method = "percentile",
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """Bootstrap interval of `statistic` over seeds (Efron & Tibshirani 1993, chapters 12 to 14).

    values: shape (n,), n >= 20. statistic reduces the last axis of (resamples, n). "percentile"; "bca"
    (bias-corrected and accelerated, equations 14.9 to 14.15); "studentised" (12.22), for the mean only.
    Equal values and an equal generator state give equal limits, in whatever order the seeds came.
    StatisticsError below 20 seeds: with few seeds the resamples cannot show the spread between seeds (at
    n = 3 the percentile interval of a mean covers .75 instead of .95).
    """
    alpha = check_level(level)
    numbers = np.sort(sample(values))
    n = numbers.size
    if n < LEAST:
        raise StatisticsError(
            f"a bootstrap over {n} seeds covers far less than it says (at n = 3: .75 instead of .95)",
            hint=f"use t_interval or median_interval, or run at least {LEAST} seeds",
        )
    if method == "studentised" and statistic is not average:
        raise StatisticsError("the studentised bootstrap is offered for the mean only", hint='method="bca"')
    if numbers[0] == numbers[-1]:
        only = float(statistic(numbers[None, :])[0])
        return Interval(only, only, level, f"{method} bootstrap")
    low, high = limits(numbers, rng, statistic, method, resamples, alpha)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise StatisticsError(f"the {method} bootstrap has no finite limits here: too many equal values")
    return Interval(low, high, level, f"{method} bootstrap, {resamples} resamples")


def limits(
    numbers: Floats,
    rng: np.random.Generator,
    statistic: Statistic,
    method: Method,
    resamples: int,
    alpha: float,
) -> tuple[float, float]:
    """The two limits for any n: what `bootstrap_interval` refuses below 20, kept for the coverage study."""
    tails = np.array([alpha / 2, 1 - alpha / 2])
    if method == "studentised":
        return _studentised(numbers, rng, resamples, tails)
    replicates = np.concatenate([statistic(numbers[drawn]) for drawn in _draws(numbers.size, resamples, rng)])
    if method == "bca":
        tails = _bca_tails(numbers, replicates, statistic, tails)
    low, high = np.quantile(replicates, tails)
    return float(low), float(high)


def _draws(n: int, resamples: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    rows = max(1, _CHUNK // n)
    return [rng.integers(0, n, (min(rows, resamples - at), n)) for at in range(0, resamples, rows)]


def _bca_tails(numbers: Floats, replicates: Floats, statistic: Statistic, tails: Floats) -> Floats:
    n = numbers.size
    estimate = statistic(numbers[None, :])[0]
    below = (np.mean(replicates < estimate) + np.mean(replicates <= estimate)) / 2
    bias = special.ndtri(below)
    left_out = statistic(np.array([np.delete(numbers, i) for i in range(n)]))
    pull = left_out.mean() - left_out
    spread = float(np.sum(pull**2))
    acceleration = float(np.sum(pull**3)) / (6 * spread**1.5) if spread else 0.0
    shifted = bias + special.ndtri(tails)
    moved: Floats = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    return moved


def _studentised(numbers: Floats, rng: np.random.Generator, resamples: int, tails: Floats) -> tuple[float, float]:
    n = numbers.size
    centre, error = numbers.mean(), numbers.std(ddof=1) / math.sqrt(n)
    pivots = []
    for drawn in _draws(n, resamples, rng):
        again = numbers[drawn]
        shift, width = again.mean(axis=1) - centre, again.std(axis=1, ddof=1) / math.sqrt(n)
        # A resample of one repeated value has no spread: its pivot is infinite, or 0 if it did not move.
        with np.errstate(divide="ignore", invalid="ignore"):
            pivots.append(np.where(width > 0, shift / width, np.where(shift == 0, 0.0, shift * math.inf)))
    # "higher" and "lower" steps never interpolate between infinities.
    t_low = np.quantile(np.concatenate(pivots), tails[0], method="lower")
    t_high = np.quantile(np.concatenate(pivots), tails[1], method="higher")
    return float(centre - t_high * error), float(centre - t_low * error)
