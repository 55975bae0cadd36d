"""Numbers of a comparison as text: signed, and rounded to what their interval supports."""

from __future__ import annotations

from sweep.report.words import number, percent, places
from sweep.stats import Interval


def signed(value: float, decimals: int | None) -> str:
    """ "+0.012"; a difference has a sign even where it is positive."""
    text = number(value, decimals)
    return f"+{text}" if value > 0 else text


def scale(interval: Interval | None) -> int | None:
    """Decimals that show the half-width of an interval to two significant digits."""
    return None if interval is None else places(interval.half_width)


def limits(interval: Interval, decimals: int | None, *, sign: bool = False) -> str:
    """ "0.004 to 0.020"."""
    show = signed if sign else number
    return f"{show(interval.low, decimals)} to {show(interval.high, decimals)}"


def level_of(interval: Interval) -> str:
    """ "95 %"."""
    return percent(interval.level)


def share(value: float) -> str:
    """A probability to two decimals: "0.87"; never 0 or 1 where it is neither."""
    text = f"{value:.2f}"
    if text == "1.00" and value < 1:
        return "> 0.99"
    return "< 0.01" if text == "0.00" and value > 0 else text


def p_value(p: float) -> str:
    """ "p = 0.012", or "p < 0.0001"."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def negated(interval: Interval) -> Interval:
    """The interval of B - A from that of A - B."""
    return Interval(-interval.high, -interval.low, interval.level, interval.method)
