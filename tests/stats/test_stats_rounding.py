"""Numbers as a paper prints them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sweep import stats


@pytest.mark.parametrize(
    ("mean", "half_width", "percent", "expected"),
    [
        (0.92134, 0.01349, False, "0.921 ± 0.013"),
        (0.92134, 0.01349, True, "92.1 ± 1.3"),
        (0.92134, 0.00345, True, "92.13 ± 0.34"),  # half to even
        (0.9, 0.0995, False, "0.90 ± 0.10"),
        (0.9, 0.00996, False, "0.900 ± 0.010"),
        (9.0, 9.96, False, "9 ± 10"),
        (1234.5, 123.4, False, "1230 ± 120"),
        (1e-9, 3.21e-8, False, "0.000000001 ± 0.000000032"),
        (-0.001, 0.5, False, "0.00 ± 0.50"),
        (-0.501, 0.01, False, "-0.501 ± 0.010"),
        (0.07, None, True, "7.000"),
        (0.5, 0.0, False, "0.5000 ± 0"),
        (0.0, None, False, "0"),
        (math.nan, 0.1, False, "nan ± 0.10"),
        (0.5, math.inf, False, "0.5000 ± inf"),
    ],
)
def test_paper(mean: float, half_width: float | None, percent: bool, expected: str) -> None:
    assert stats.paper(mean, half_width, percent=percent) == expected


def test_fixed_gives_another_column_the_same_decimals() -> None:
    places = stats.decimals(0.01349)
    assert places == 3
    assert stats.fixed(0.9, places) == "0.900"
    assert stats.decimals(123.0) == -1
    assert stats.decimals(0.0) is None
    assert stats.fixed(-math.inf, 2) == "-inf"


@given(some.floats(1e-12, 1e12), some.floats(-1e6, 1e6))
def test_the_printed_half_width_is_within_five_per_cent(half_width: float, mean: float) -> None:
    printed_mean, printed = stats.paper(mean, half_width).split(" ± ")
    assert float(printed) == pytest.approx(half_width, rel=0.051)
    assert abs(float(printed_mean) - mean) <= 0.051 * half_width + 1e-9
    assert len(printed.replace(".", "").strip("0")) <= 2
