"""The difference between two failure rates: Fisher's exact p and Newcombe's interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval
from sweep.stats.sample import check_level


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
    method: str


def failure_difference(failed_a: int, n_a: int, failed_b: int, n_b: int, level: float = 0.95) -> RateDifference:
    """failed_a of n_a against failed_b of n_b: Fisher's exact p beside Newcombe's hybrid score interval.

    Interval: Newcombe 1998 (Statistics in Medicine 17:873), method 10. Interval and p are of different
    methods and may disagree at the edge. StatisticsError for counts that are none, or an arm without seeds.
    """
    for failed, n in ((failed_a, n_a), (failed_b, n_b)):
        if not 0 <= failed <= n or n < 1:
            raise StatisticsError(f"{failed} of {n} is no count of failures")
    a, b = failed_a / n_a, failed_b / n_b
    in_a, in_b = wilson(failed_a, n_a, level), wilson(failed_b, n_b, level)
    low = a - b - math.hypot(a - in_a.low, in_b.high - b)
    high = a - b + math.hypot(in_a.high - a, b - in_b.low)
    interval = Interval(low, high, level, "Newcombe hybrid score")
    p = fisher(failed_a, n_a, failed_b, n_b)
    return RateDifference(a - b, interval, p, failed_a, n_a, failed_b, n_b, "Fisher exact")


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Score interval for k of n (Wilson 1927), the ingredient of Newcombe's difference."""
    z = float(special.ndtri(1 - check_level(level) / 2))
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    low, high = max(centre - half, 0.0) if k else 0.0, centre + half if k < n else 1.0
    return Interval(low, high, level, "Wilson score")


def fisher(failed_a: int, n_a: int, failed_b: int, n_b: int) -> float:
    """Fisher's two-sided exact p: the tables with these margins that are no likelier than this one.

    Counted in whole numbers, so that equally likely tables tie exactly.
    """
    failed = failed_a + failed_b
    ways = [math.comb(n_a, k) * math.comb(n_b, failed - k) for k in range(max(0, failed - n_b), min(failed, n_a) + 1)]
    seen = math.comb(n_a, failed_a) * math.comb(n_b, failed_b)
    return sum(count for count in ways if count <= seen) / math.comb(n_a + n_b, failed)
