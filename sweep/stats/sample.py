"""Samples of one number per seed, the input of every statistic, and their checks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sweep.errors import StatisticsError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"  # as `--require` and `--until` accept it

# Squares of larger numbers overflow, and a spread of inf would look like a result.
LARGEST = 1e150


def sample(values: npt.ArrayLike, *, name: str = "values") -> Floats:
    """Return `values` as a float64 array of shape (n,), n >= 1, all finite.

    Raises StatisticsError if it is empty, not one-dimensional, or holds NaN, an infinity, or a number beyond
    ±1e150. No value is dropped: a diverged seed is a failure that counts.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise StatisticsError(f"{name} has shape {array.shape}; one number per seed is needed, shape (n,)")
    if array.size == 0:
        raise StatisticsError(f"{name} is empty: there is nothing to summarise")
    broken = int(np.count_nonzero(~np.isfinite(array)))
    if broken:
        raise StatisticsError(
            f"{name}: {broken} of {array.size} are NaN or infinite, and a mean over the rest would hide that",
            hint="count them as failures: clopper_pearson for the rate, worst_rank_median for the location",
        )
    if float(np.max(np.abs(array))) > LARGEST:
        raise StatisticsError(f"{name} holds numbers beyond ±{LARGEST:g}: their variance overflows")
    return array


def unit(values: npt.ArrayLike) -> float:
    """Return the power of two to divide by before squares are taken: 1 unless they are huge or tiny.

    Dividing by it changes no digit.
    """
    array = np.abs(np.asarray(values, dtype=np.float64))
    largest = float(array.max()) if array.size and np.isfinite(array).all() else 0.0
    return 1.0 if largest == 0 or 1 / LARGEST < largest <= LARGEST else 2.0 ** (math.frexp(largest)[1] - 1)


def per_seed(values: npt.ArrayLike, seeds: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Average repeats and folds within their seed: (distinct seeds ascending, one mean each).

    values, seeds: shape (runs,). n counts seeds: three seeds with five repeats each are three independent
    numbers, and a t interval that treats them as fifteen covers .72 instead of .95.
    Raises StatisticsError as in `sample`, and if the lengths differ.
    """
    numbers = sample(values)
    labels = np.asarray(seeds, dtype=np.int64)
    if labels.shape != numbers.shape:
        raise StatisticsError(
            f"there are {numbers.size} values but seeds of shape {labels.shape}; one seed per value is needed"
        )
    distinct = np.unique(labels)
    return distinct, np.array([mean(numbers[labels == seed]) for seed in distinct], dtype=np.float64)


def require_pairs(first: Floats, second: Floats) -> None:
    """Raise StatisticsError unless both arms have the same number of seeds."""
    if first.size != second.size:
        raise StatisticsError(
            f"A has {first.size} seeds and B has {second.size}, but pairs need the same seeds",
            hint="compare them unpaired, or pass the seeds that both have",
        )


def mean(values: Floats) -> float:
    """Return the mean by exact summation, so that it does not depend on the order in which seeds finished."""
    low, high = float(values.min()), float(values.max())
    # Rounding can move the mean of equal numbers, so it is clamped to the range of the values.
    return min(max(math.fsum(values) / values.size, low), high)


def variance(values: Floats) -> float:
    """Return the sample variance, divisor n - 1, by exact summation; exactly 0 for equal values. Needs n >= 2."""
    if values.size < 2:
        raise StatisticsError("one value has no variance: at least two seeds are needed")
    return math.fsum((values - mean(values)) ** 2) / (values.size - 1)


def sd(values: Floats) -> float:
    """Return the sample standard deviation, divisor n - 1. Needs n >= 2."""
    return math.sqrt(variance(values))


def rounding(*arms: Floats) -> float:
    """Return the spread of differences that the rounding of these values alone explains: 4 ε times the largest."""
    largest = max((float(np.max(np.abs(arm))) for arm in arms if arm.size), default=0.0)
    return 4 * float(np.finfo(np.float64).eps) * largest


def check_level(level: float) -> float:
    """Return the two-sided error 1 - level. Raise StatisticsError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise StatisticsError(f"level {level!r} is not between 0 and 1", hint="write 95 % as level=0.95")
    return 1 - level


def check_count(k: float, n: float, *, least: int = 0) -> None:
    """Raise StatisticsError unless k and n are whole, 0 <= k <= n and n >= least."""
    if not 0 <= k <= n or n < least or k % 1 or n % 1:
        raise StatisticsError(f"{k} of {n} is not a count of failures")


def bisected(beyond: Callable[[float], bool], outside: float, inside: float) -> float:
    """Return, to rounding, the boundary of the region in which `beyond` holds, between `outside` and `inside`."""
    for _ in range(200):
        middle = (outside + inside) / 2
        if middle in (outside, inside):  # no number lies between them: nothing moves any more
            break
        outside, inside = (middle, inside) if beyond(middle) else (outside, middle)
    return (outside + inside) / 2
