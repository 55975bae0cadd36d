"""Numbers as text, with the same rounding in every table, sentence, figure and progress line.

A group of numbers that belong together (a mean, its sd, its interval) shares its decimal places: those that show
two significant digits of the spread. Rounding is half to even, of the shortest decimal text that gives the float
back, so the same number looks the same everywhere. Numbers that would be long are written with an exponent.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal

ALONE = 5  # significant digits of a number without a given precision
MOST_DIGITS = 17  # of a float
LONGEST = 10  # characters from which an exponent is used if that is shorter
LONGEST_ROUND = 7  # the same for numbers that are rounded to tens or more: 812000, but 3.69e+08
LEAST_P = 0.0001  # a smaller p value is shown as < 0.0001
_EXACT = Context(prec=2000, Emin=-9999, Emax=9999)


def places(spread: float | None, *, percent: bool = False) -> int | None:
    """Return the decimal places that show two significant digits of `spread` (negative: tens, hundreds).

    None for None, 0, NaN or infinity, which have no significant digits. .0995 rounds to .10: two places, not three.
    """
    if spread is None or not math.isfinite(spread) or spread == 0:
        return None
    exact = _decimal(abs(spread), percent)
    return 1 - _rounded(exact, 1 - exact.adjusted()).adjusted()


def number(value: float | None, decimals: int | None = None, *, digits: int = ALONE, percent: bool = False) -> str:
    """Return `value` with this number of decimal places, or for None with up to `digits` significant digits.

    A dash for None and NaN. Zero has no sign.
    """
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    exact = _decimal(value, percent)
    if decimals is None:
        if not exact:
            return "0"
        decimals = digits - 1 - exact.adjusted()
        if decimals < 0:  # zeros at the end of a large number do not count as digits
            decimals = -int(_rounded(exact, decimals).normalize(_EXACT).as_tuple().exponent)
        return _stripped(_written(exact, decimals))
    return _written(exact, decimals)


def signed(value: float | None, decimals: int | None = None) -> str:
    """Return `number` with a plus sign if it is shown as more than zero."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 and not _is_zero(text) else text


def limits(low: float | None, high: float | None, decimals: int | None = None, *, sign: bool = False) -> str:
    """Return "0.004 to 0.020". A limit that is not zero is never shown as zero: it keeps one significant digit."""
    return f"{_limit(low, decimals, sign)} to {_limit(high, decimals, sign)}"


def _limit(value: float | None, decimals: int | None, sign: bool) -> str:
    text = number(value, decimals)
    if value and _is_zero(text):
        text = number(value, digits=1)
    return f"+{text}" if sign and value is not None and value > 0 else text


def around(mean: float, half_width: float | None, *, percent: bool = False) -> str:
    """Return "0.921 ± 0.013", with percent "92.1 ± 1.3". Without a half-width the mean to four digits.

    A half-width of 0 (equal values) is printed as "± 0" beside the mean to four digits. A mean that is written with an
    exponent shares it with a half-width that is not larger: "(8.68 ± 0.48)e+10".
    """
    decimals = places(half_width, percent=percent)
    if decimals is not None and half_width is not None:
        text, spread = (number(value, decimals, percent=percent) for value in (mean, half_width))
        exponent = int(text.partition("e")[2] or 0) if half_width <= abs(mean) else 0
        if exponent:
            exact = (_decimal(value, percent).scaleb(-exponent, _EXACT) for value in (mean, half_width))
            centre, half = (_written(value, decimals + exponent) for value in exact)
            if "e" not in centre + half:
                return f"({centre} ± {half})e{exponent:+03d}"
        return f"{text} ± {spread}"
    alone = _alone(mean, percent)
    return alone if half_width is None else f"{alone} ± {number(half_width, percent=percent)}"


def _alone(value: float, percent: bool) -> str:
    if not math.isfinite(value):
        return number(value)
    exact = _decimal(value, percent)
    return _written(exact, 3 - exact.adjusted()) if exact else "0"


def percent(share: float, digits: int = 3) -> str:
    """Return 0.95 as "95 %". Only 1 is 100 %, and only 0 is 0 %."""
    exact = _decimal(share, True)
    shown = exact
    for more in range(MOST_DIGITS):
        shown = _rounded(exact, max(digits - 1 - exact.adjusted(), 0) + more) if exact else exact
        if exact == 100 or shown != 100:
            break
    return f"{_stripped(f'{abs(shown) if shown == 0 else shown:f}')} %"


def probability(value: float) -> str:
    """Return a probability to two decimals, "0.87"; never 0 or 1 unless it is exactly that."""
    text = number(value, 2)
    if text == "1.00" and value < 1:
        return "> 0.99"
    return "< 0.01" if text == "0.00" and value > 0 else text


def p_value(p: float) -> str:
    """Return "p = 0.012", or "p < 0.0001"."""
    return f"p {p_cell(p)}" if p < LEAST_P else f"p = {p_cell(p)}"


def p_cell(p: float) -> str:
    """Return "0.012", or "< 0.0001"."""
    return "< 0.0001" if p < LEAST_P else number(p, digits=2)


def _is_zero(text: str) -> bool:
    return not text.strip("-0.")


def _stripped(text: str) -> str:
    """Return `text` without trailing zeros after the decimal point."""
    mantissa, e, exponent = text.partition("e")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + e + exponent


def _decimal(value: float, percent: bool) -> Decimal:
    # The shortest text that gives this float back: what the user wrote, not its binary neighbour.
    exact = Decimal(repr(float(value)))
    return exact.scaleb(2, _EXACT) if percent else exact


def _rounded(exact: Decimal, decimals: int) -> Decimal:
    return exact.quantize(Decimal(1).scaleb(-decimals, _EXACT), rounding=ROUND_HALF_EVEN, context=_EXACT)


def _written(exact: Decimal, decimals: int) -> str:
    if exact:
        decimals = min(decimals, MOST_DIGITS - 1 - exact.adjusted())
    rounded = _rounded(exact, decimals)
    if not rounded:
        return f"{0:.{decimals}f}" if 0 < decimals < LONGEST - 1 else "0"
    fixed = f"{rounded:f}"
    if len(fixed.lstrip("-")) <= (LONGEST_ROUND if decimals < 0 else LONGEST):
        return fixed
    exponent = rounded.adjusted()
    mantissa = rounded.scaleb(-exponent, _EXACT)
    short = f"{mantissa:.{max(0, exponent + decimals)}f}e{exponent:+03d}"
    return short if len(short) < len(fixed) else fixed
