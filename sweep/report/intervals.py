"""Intervals as text, for every table and sentence."""

from __future__ import annotations

from sweep import number
from sweep.number import percent, places
from sweep.stats import Interval, Method


def scale(interval: Interval | None) -> int | None:
    """Return the decimals that show the half-width of an interval to two significant digits."""
    return None if interval is None else places(interval.half_width)


def limits(interval: Interval | None, decimals: int | None, *, sign: bool = False, none: str = "none") -> str:
    """Return "0.004 to 0.020", or `none` if there is no interval."""
    return none if interval is None else number.limits(interval.low, interval.high, decimals, sign=sign)


def ci(interval: Interval | None, decimals: int | None, *, sign: bool = False) -> str:
    """Return "95 % CI 0.004 to 0.020", or "no interval"."""
    if interval is None:
        return "no interval"
    return f"{percent(interval.level)} CI {limits(interval, decimals, sign=sign)}"


def short(method: Method) -> str:
    """Return the short name of a method."""
    return {
        Method.PAIRED_T: "paired t", Method.WELCH: "Welch t", Method.SEQUENCE: "t confidence sequence",
        Method.PAIRED_T_FOLDS: "paired t by Nadeau & Bengio", Method.WELCH_FOLDS: "t by Nadeau & Bengio",
    }.get(method, str(method))  # fmt: skip
