"""The one formatter: what is printed never contradicts the number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sweep.number import around, limits, number, p_value, percent, places, probability, signed

ANY = some.floats(-1e308, 1e308)
SPREADS = some.floats(0, 1e300) | some.just(0.0)


@pytest.mark.parametrize(
    ("mean", "half_width", "in_percent", "expected"),
    [
        (0.92134, 0.01349, False, "0.921 ± 0.013"),
        (0.92134, 0.01349, True, "92.1 ± 1.3"),
        (0.92134, 0.00345, True, "92.13 ± 0.34"),  # half to even
        (0.9, 0.0995, False, "0.90 ± 0.10"),
        (0.9, 0.00996, False, "0.900 ± 0.010"),
        (9.0, 9.96, False, "9 ± 10"),
        (1234.5, 123.4, False, "1230 ± 120"),
        (1e-9, 3.21e-8, False, "1e-09 ± 3.2e-08"),
        (1e30, 2e28, False, "(1.000 ± 0.020)e+30"),
        (8.6811e10, 4.8e9, False, "(8.68 ± 0.48)e+10"),
        (3.691e8, 2.42e7, False, "(3.69 ± 0.24)e+08"),
        (8.12e5, 1.3e4, False, "812000 ± 13000"),
        (-0.001, 0.5, False, "0.00 ± 0.50"),
        (-0.501, 0.01, False, "-0.501 ± 0.010"),
        (0.07, None, True, "7.000"),
        (0.5, 0.0, False, "0.5000 ± 0"),
        (0.9005, 0.0, False, "0.9005 ± 0"),
        (0.0, None, False, "0"),
        (-0.0, None, False, "0"),
        (math.nan, 0.1, False, "— ± 0.10"),
        (0.5, math.inf, False, "0.5000 ± inf"),
    ],
)
def test_a_mean_and_its_half_width(mean: float, half_width: float | None, in_percent: bool, expected: str) -> None:
    assert around(mean, half_width, percent=in_percent) == expected


def test_another_column_gets_the_same_decimals() -> None:
    assert places(0.01349) == 3
    assert number(0.9, places(0.01349)) == "0.900"
    assert places(123.0) == -1
    assert places(0.0) is places(None) is places(math.nan) is None
    assert number(-math.inf, 2) == "-inf"


def test_a_half_is_rounded_alike_everywhere() -> None:
    # As a float .475 lies a little below, and f"{0.475:.2f}" is 0.47.
    printed = (number(0.475, 2), probability(0.475), number(0.475, digits=2), around(0.475, 0.1).split(" ")[0])
    assert set(printed) == {"0.48"}
    assert p_value(0.475) == "p = 0.48"
    assert percent(0.475, 2) == "48 %"


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [(0.95, 3, "95 %"), (0.975, 3, "97.5 %"), (0.025, 2, "2.5 %"), (0.9975, 2, "99.8 %"), (0.99999, 2, "99.999 %"),
     (1.0, 2, "100 %"), (0.0, 2, "0 %"), (1e-9, 2, "0.0000001 %"), (0.5218, 2, "52 %"),
     (0.99 + 0.01 * 5 / 6, 4, "99.83 %")],
)  # fmt: skip
def test_only_one_is_a_hundred_per_cent(share: float, digits: int, expected: str) -> None:
    assert percent(share, digits) == expected


def test_zero_has_no_sign() -> None:
    assert number(-0.0) == number(0.0) == "0"
    assert number(-1e-9, 3) == "0.000"
    assert signed(1e-9, 3) == "0.000"
    assert signed(0.5, 1) == "+0.5"


@given(ANY, some.integers(-320, 340))
def test_what_is_printed_is_the_number_within_its_digits(value: float, decimals: int) -> None:
    text = number(value, decimals)
    # Half of the last place shown, or the 17 digits that a float has.
    slack = max(0.5 * 10.0 ** max(-decimals, -323) if decimals > -308 else math.inf, abs(value) * 1e-15)
    assert abs(float(text) - value) <= slack * 1.0001
    assert len(text) <= 26


@given(ANY, SPREADS)
def test_a_mean_and_its_half_width_are_within_five_per_cent(mean: float, half_width: float) -> None:
    inside, _, exponent = around(mean, half_width).strip("(").partition(")e")
    printed_mean, printed = (f"{part}e{exponent}" if exponent else part for part in inside.split(" ± "))
    assert float(printed) == pytest.approx(half_width, rel=0.051, abs=0)
    assert abs(float(printed_mean) - mean) <= max(0.051 * half_width, 0.0006 * abs(mean))


@given(ANY, SPREADS, some.floats(0, 1), some.floats(0, 1))
def test_limits_never_contradict_the_numbers(value: float, half: float, below: float, above: float) -> None:
    low, high = value - half * below, value + half * above
    if not (math.isfinite(low) and math.isfinite(high)):
        return
    decimals = places((high - low) / 2) if math.isfinite(high - low) else None
    shown_low, shown_high = (float(text) for text in limits(low, high, decimals, sign=True).split(" to "))
    assert shown_low <= shown_high
    # An interval that leaves zero out is not shown as one that holds it, and the other way round.
    assert (shown_low > 0, shown_high < 0) == (low > 0, high < 0)
    if decimals is not None:
        assert shown_low - 10.0**-decimals <= float(number(value, decimals)) <= shown_high + 10.0**-decimals


@given(some.floats(0, 1))
def test_a_probability_is_0_or_1_only_where_it_is(p: float) -> None:
    assert (probability(p) == "0.00") == (p == 0)
    assert (probability(p) == "1.00") == (p == 1)
    assert (percent(p) == "100 %") == (p == 1)
    assert (percent(p) == "0 %") == (p == 0)
