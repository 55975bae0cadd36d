"""Numbers as a paper prints them: half-width to two significant digits, the mean to the same decimal."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal


def decimals(half_width: float, *, percent: bool = False) -> int | None:
    """Decimal places that show half_width to two significant digits (negative: tens, hundreds).

    None for 0, NaN or infinity, which have no significant digits. .0995 rounds to .10: two places, not three.
    """
    if not math.isfinite(half_width) or half_width == 0:
        return None
    exact = _decimal(abs(half_width), percent)
    places = 1 - exact.adjusted()
    return 1 - _rounded(exact, places).adjusted()


def fixed(value: float, places: int, *, percent: bool = False) -> str:
    """value to so many decimal places, half to even, without exponent; "nan", "inf", "-inf" as they are."""
    if not math.isfinite(value):
        return str(float(value))
    rounded = _rounded(_decimal(value, percent), places)
    return f"{abs(rounded) if rounded == 0 else rounded:f}"


def paper(mean: float, half_width: float | None, *, percent: bool = False, sign: str = "±") -> str:
    """ "0.921 ± 0.013", with percent "92.1 ± 1.3". Without a half-width (one seed) the mean to four digits.

    A half-width of 0 (equal values) is printed as "± 0" beside the mean to four digits.
    """
    places = None if half_width is None else decimals(half_width, percent=percent)
    if half_width is None or places is None:
        alone = _plain(mean, percent)
        return alone if half_width is None else f"{alone} {sign} {_plain(half_width, percent)}"
    return f"{fixed(mean, places, percent=percent)} {sign} {fixed(half_width, places, percent=percent)}"


def _plain(value: float, percent: bool) -> str:
    if not math.isfinite(value):
        return str(float(value))
    exact = _decimal(value, percent)
    return f"{_rounded(exact, 3 - exact.adjusted()):f}" if exact else "0"


def _decimal(value: float, percent: bool) -> Decimal:
    # The shortest text that gives this float back: what the user wrote, not its binary neighbour.
    exact = Decimal(repr(float(value)))
    return exact.scaleb(2) if percent else exact


def _rounded(exact: Decimal, places: int) -> Decimal:
    rounded = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    return rounded.quantize(Decimal(1)) if places < 0 else rounded
