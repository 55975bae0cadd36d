"""Intervals of a comparison as text."""

from __future__ import annotations

from sweep import number
from sweep.number import percent, places
from sweep.stats import Interval, Method


def scale(interval: Interval | None) -> int | None:
    """Return the decimals that show the half-width of an interval to two significant digits."""
    return None if interval is None else places(interval.half_width)


def limits(interval: Interval, decimals: int | None, *, sign: bool = False) -> str:
    """Return "0.004 to 0.020"."""
    return number.limits(interval.low, interval.high, decimals, sign=sign)


def level_of(interval: Interval) -> str:
    """Return "95 %"."""
    return percent(interval.level)


def negated(interval: Interval) -> Interval:
    """Return the interval of B - A from that of A - B."""
    return Interval(-interval.high, -interval.low, interval.level, interval.method)


def short(method: Method) -> str:
    """Return the name of a method without what it is over."""
    return {
        Method.PAIRED_T: "paired t", Method.WELCH: "Welch t", Method.SEQUENCE: "t confidence sequence",
        Method.PAIRED_T_FOLDS: "paired t by Nadeau & Bengio", Method.WELCH_FOLDS: "t by Nadeau & Bengio",
    }.get(method, str(method))  # fmt: skip
