"""Location when some seeds diverged: a failed seed ranks below every seed that did not fail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval, order_statistic_interval
from sweep.stats.sample import Floats, check_level


@dataclass(frozen=True)
class WorstRank:
    """A quantile over all seeds, failed ones ranked worst.

    The estimate and the limits are infinite where they fall on a failed seed; interval None: none exists.
    """

    estimate: float
    interval: Interval | None
    n: int
    failed: int


def ranked(values: npt.ArrayLike, *, higher_is_better: bool, name: str = "values") -> Floats:
    """Shape (n,) with NaN or an infinity for a failed seed -> the same with -inf (or +inf) for it.

    The only place where a number that is not finite has a meaning: it marks the worst rank, whatever its
    sign. StatisticsError when there is no seed at all.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise StatisticsError(f"{name} has shape {array.shape}; one number a seed is needed, shape (n,)")
    return np.where(np.isfinite(array), array, -math.inf if higher_is_better else math.inf)


def worst_rank_quantile(values: npt.ArrayLike, q: float, *, higher_is_better: bool, level: float = 0.95) -> WorstRank:
    """q-quantile over all seeds and its exact order-statistic interval, failed seeds ranked worst.

    values: shape (n,), NaN or infinite for a failed seed. Defined whatever failed (Lachin 1999, worst-rank
    scores); with all failed it is the infinity on the bad side. The estimate interpolates linearly between
    order statistics; next to a failed seed it is infinite.
    """
    check_level(level)
    ordered = np.sort(ranked(values, higher_is_better=higher_is_better))
    interval = order_statistic_interval(ordered, q, level)
    place = (ordered.size - 1) * q
    left = math.floor(place)
    low, high = float(ordered[left]), float(ordered[min(left + 1, ordered.size - 1)])
    # inf - inf has no value, and an infinity times zero neither: interpolate only between different numbers.
    estimate = low if low == high or place == left else low + (high - low) * (place - left)
    if math.isinf(low) and place != left:
        estimate = low
    failed = int(np.count_nonzero(np.isinf(ordered)))
    return WorstRank(estimate, interval, ordered.size, failed)


def worst_rank_median(values: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95) -> WorstRank:
    """`worst_rank_quantile` at q = 1/2: finite while fewer than half of the seeds failed."""
    return worst_rank_quantile(values, 0.5, higher_is_better=higher_is_better, level=level)
