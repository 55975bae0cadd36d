"""Numbers of seeds to plan for: estimates for a budget, not evidence about the configurations."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.interval import t_quantile
from sweep.stats.sample import check_level

MOST = 1_000_000


def upper(spread: float, df: float, confidence: float) -> float:
    """Return the one-sided upper limit of an sd: s √(df/χ²_{df, 1-confidence}) (Browne 1995 plans from it at .8).

    The s of a pilot is more often too small than too large, and so is a plan made from it.
    """
    check_level(confidence)
    return spread * math.sqrt(df / special.chdtri(df, confidence))


def seeds_for_half_width(spread: float, half_width: float, level: float = 0.95) -> int:
    """Return the least n with t_{n-1} spread/√n <= half_width (half-widths 1, .5, .25 sd: 7, 18, 64 seeds).

    Raises StatisticsError unless spread and half_width are positive and finite, for more than a million seeds, and for
    a level outside (0, 1).
    """
    alpha = check_level(level)
    ratio = _ratio(half_width, spread, "half-width")
    return _least(lambda n: t_quantile(n - 1, 1 - alpha / 2) <= ratio * math.sqrt(n), "half-width")


def seeds_for_difference(
    spread: float, difference: float, *, paired: bool = False, power: float = 0.8, level: float = 0.95
) -> int:
    """Return the least n per arm for the two-sided t test to detect `difference` with this power.

    17, 9, 6 seeds for d = 1, 1.5, 2. spread: sd over seeds, assumed equal in both arms; if paired, sd of the
    differences (then n pairs). Power from the noncentral t (Cohen 1988), both tails. Raises StatisticsError unless
    spread and difference are positive and finite, for more than a million seeds, and for a power or a level outside
    (0, 1).
    """
    alpha = check_level(level)
    if not 0 < power < 1:
        raise StatisticsError(f"power {power!r} is not between 0 and 1", hint="write 80 % as power=0.8")
    effect = _ratio(difference, spread, "difference")

    def enough(n: int) -> bool:
        df = n - 1 if paired else 2 * n - 2
        return t_power(effect * math.sqrt(n if paired else n / 2), df, alpha) >= power

    return _least(enough, "difference")


def t_power(noncentrality: float, df: float, alpha: float = 0.05) -> float:
    """Return the chance that a two-sided t test with df degrees of freedom rejects at this noncentrality."""
    critical = t_quantile(df, 1 - alpha / 2)
    below, above = special.nctdtr(df, noncentrality, [-critical, critical])
    return float(below + 1 - above)


def expected_best(n: int) -> float:
    """Return the expected maximum of n standard normals: by how many sd the best of n seeds is above the mean.

    3, 5, 10 seeds: .85, 1.16, 1.54. n ∫ x φ(x) Φ(x)^(n-1) dx by the trapezoid rule, whose error is below 1e-12 here.
    Raises StatisticsError unless n is a whole number of at least 1.
    """
    if not n >= 1 or n % 1:
        raise StatisticsError(f"{n!r} is not a number of seeds")
    x = np.linspace(-12, 12, 24_001)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return float(n * np.sum(x * density * special.ndtr(x) ** (n - 1)) * (x[1] - x[0]))


def _ratio(wanted: float, spread: float, name: str) -> float:
    if not (math.isfinite(wanted) and wanted > 0):
        raise StatisticsError(f"{name} {wanted!r} is not a positive number")
    if not (math.isfinite(spread) and spread > 0):
        raise StatisticsError(f"the sd is {spread!r}: without spread between seeds there is nothing to plan from")
    return wanted / spread


def _least(enough: Callable[[int], bool], name: str) -> int:
    high = 2
    while not enough(high):
        high *= 2
        if high > MOST:
            raise StatisticsError(f"more than {MOST:,} seeds would be needed for this {name}")
    return bisect_left(range(high + 1), True, high // 2 + 1, key=enough)
