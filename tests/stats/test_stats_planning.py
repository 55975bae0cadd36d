"""Seeds to plan for, best-of-n inflation, and the gate for continuous integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate
from scipy import stats as oracle
from statsmodels.stats import power as power_oracle

from sweep import stats
from sweep.errors import ConfigError, StatisticsError
from sweep.stats.gate import identical_passes
from sweep.stats.planning import t_power, upper

BASE = [0.920, 0.924, 0.918, 0.922, 0.921, 0.919, 0.923, 0.920]


@pytest.mark.parametrize(("half_width", "seeds"), [(1, 7), (0.5, 18), (0.25, 64)])
def test_seeds_for_a_half_width(half_width: float, seeds: int) -> None:
    assert stats.seeds_for_half_width(1, half_width) == seeds
    assert stats.seeds_for_half_width(0.01, half_width / 100) == seeds


@pytest.mark.parametrize(("effect", "seeds"), [(1, 17), (1.5, 9), (2, 6)])
def test_seeds_for_a_difference(effect: float, seeds: int) -> None:
    assert stats.seeds_for_difference(1, effect) == seeds


@pytest.mark.parametrize(("effect", "n"), [(0.2, 5), (1, 17), (2, 6), (3, 4)])
def test_power_agrees_with_statsmodels(effect: float, n: int) -> None:
    expected = power_oracle.TTestIndPower().power(effect, n, 0.05)
    assert t_power(effect * math.sqrt(n / 2), 2 * n - 2) == pytest.approx(expected, abs=1e-9)
    expected = power_oracle.TTestPower().power(effect, n, 0.05)
    assert t_power(effect * math.sqrt(n), n - 1) == pytest.approx(expected, abs=1e-9)


def test_paired_plans_count_pairs() -> None:
    needed = stats.seeds_for_difference(1, 1, paired=True)
    solver = power_oracle.TTestPower()
    assert solver.power(1, needed, 0.05) >= 0.8 > solver.power(1, needed - 1, 0.05)


def test_plans_start_from_the_upper_limit_of_the_sd() -> None:
    expected = np.std(BASE, ddof=1) * math.sqrt(7 / oracle.chi2.ppf(0.2, 7))
    assert upper(float(np.std(BASE, ddof=1)), 7, 0.8) == pytest.approx(expected, rel=1e-9)


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(StatisticsError, match="nothing to plan from"):
        stats.seeds_for_half_width(0, 0.1)
    with pytest.raises(StatisticsError, match="half-width"):
        stats.seeds_for_half_width(1, 0)
    with pytest.raises(StatisticsError, match="power"):
        stats.seeds_for_difference(1, 1, power=80)
    with pytest.raises(StatisticsError, match="1,000,000"):
        stats.seeds_for_half_width(1, 1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 100])
def test_best_of_n_flatters_by_the_expected_maximum(n: int) -> None:
    expected, _ = integrate.quad(
        lambda x: n * x * oracle.norm.pdf(x) * oracle.norm.cdf(x) ** (n - 1), -12, 12, epsabs=1e-13
    )
    assert stats.expected_best(n) == pytest.approx(expected, abs=1e-10)


def test_best_of_n_in_numbers() -> None:
    # The issue rounds the middle one to 1.17; the integral is 1.163.
    found = [stats.expected_best(n) for n in (3, 5, 10)]
    assert found == pytest.approx([0.85, 1.163, 1.54], abs=0.005)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test/accuracy >= base - 0.005", stats.Gate("test/accuracy", ">=", "offset", -0.005)),
        ("test/accuracy>=base-.005", stats.Gate("test/accuracy", ">=", "offset", -0.005)),
        ("val/loss <= base + 1e-3", stats.Gate("val/loss", "<=", "offset", 0.001)),
        ("test/nll ≤ base * 1.02", stats.Gate("test/nll", "<=", "scale", 1.02)),
        ("test/accuracy >= base", stats.Gate("test/accuracy", ">=", "offset", 0.0)),
        ("test/accuracy >= 0.9", stats.Gate("test/accuracy", ">=", "fixed", 0.9)),
        ("reward >= -3", stats.Gate("reward", ">=", "fixed", -3.0)),
    ],
)
def test_gates_are_read_and_written_back(text: str, expected: stats.Gate) -> None:
    found = stats.parse_gate(text)
    assert found == expected
    assert stats.parse_gate(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "test/accuracy", "test/accuracy > 0.9", "a >= base / 2", "a >= base - x", "a >= 1e999", "a >= ٠.٩", ">= 1"],
)
def test_gates_that_cannot_be_read_say_how_one_looks(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stats.parse_gate(text)
    assert caught.value.where == "--require"
    assert "base - 0.005" in str(caught.value)


def decide(text: str, candidate: list[float], **options: object) -> stats.Decision:
    settings = {"paired": False, "deterministic": False, **options}
    return stats.decide(stats.parse_gate(text), BASE, candidate, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("shift", "text", "code"),
    [
        (0.0, "a >= base - 0.005", 0),
        (0.0, "a >= base", 4),
        (-0.02, "a >= base - 0.005", 1),
        (0.02, "a >= base", 0),
        (0.02, "a <= base + 0.005", 1),
        (0.0, "a <= base * 1.01", 0),
        (0.0, "a >= base * 1.01", 1),
        (0.0, "a >= 0.915", 0),
        (0.0, "a >= 0.921", 4),
        (0.0, "a <= 0.9", 1),
    ],
)
def test_gate_decides_by_where_the_interval_lies(shift: float, text: str, code: int, paired: bool) -> None:
    jitter = [0.001, -0.001, 0.0005, 0.0, -0.0005, 0.001, -0.001, 0.0]
    candidate = [value + shift + wobble for value, wobble in zip(BASE, jitter, strict=True)]
    found = decide(text, candidate, paired=paired)
    assert found.code == code
    assert found.interval is not None


def test_gate_interval_is_the_95_percent_two_sided_one() -> None:
    candidate = [value + 0.001 for value in BASE[:5]]
    found = decide("a >= base - 0.005", candidate)
    reference = oracle.ttest_ind(candidate, BASE, equal_var=False).confidence_interval(0.95)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(reference.low, rel=1e-9)
    assert found.threshold == -0.005


@pytest.mark.parametrize(
    ("candidate", "options", "reason"),
    [
        (BASE, {"unfinished": 2}, "unfinished"),
        (BASE[:2], {}, "too few seeds"),
        ([0.95] * 8, {}, "no spread"),
        ([math.nan] * 8, {}, "too few seeds"),
        ([*BASE[:7], math.nan], {}, "failed seeds"),
    ],
)
def test_gate_is_undecided_and_says_why(candidate: list[float], options: dict[str, object], reason: str) -> None:
    found = decide("a >= base - 0.05", candidate, **options)
    assert (found.code, found.verdict) == (4, "undecided")
    assert found.reason == reason


def test_a_gate_without_failures_or_spread_would_have_passed() -> None:
    assert decide("a >= base - 0.05", [*BASE[:7], math.nan], max_failures=1).code == 0
    assert decide("a >= base - 0.05", [0.95] * 8, deterministic=True).code == 0
    assert decide("a >= base - 0.05", BASE, unfinished=0).code == 0


def test_a_failing_candidate_can_still_be_contradicted() -> None:
    assert decide("a >= base - 0.005", [0.5, 0.51, 0.52, math.nan]).code == 1


def test_paired_gate_drops_a_pair_with_a_failure() -> None:
    candidate = [math.nan, *[value + 0.001 * (i % 2) for i, value in enumerate(BASE[1:])]]
    assert decide("a >= base - 0.005", candidate, paired=True, max_failures=1).code == 0
    assert decide("a >= 0.9", BASE[:6], paired=True).code == 0
    assert decide("a >= 0.9", BASE[:5], paired=True).code == 4


def test_chance_that_an_identical_candidate_passes() -> None:
    base = np.array(BASE)
    level = identical_passes(stats.parse_gate("a >= base"), base, paired_with=None, n=8)
    assert level == pytest.approx(0.025, abs=1e-9)
    wide = identical_passes(stats.parse_gate("a >= base - 0.005"), base, paired_with=None, n=8)
    away = 0.005 / (np.std(base, ddof=1) * math.sqrt(2 / 8))
    assert wide == pytest.approx(1 - oracle.nct.cdf(oracle.t.ppf(0.975, 14), 14, away), abs=1e-9)
    scaled = identical_passes(stats.parse_gate("a <= base * 1.01"), base, paired_with=None, n=8)
    assert scaled is not None
    assert scaled > 0.99
    assert identical_passes(stats.parse_gate("a >= base"), np.full(5, 0.9), paired_with=None, n=5) is None
