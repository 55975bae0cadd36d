"""The coverage study in small: fixed generators, tolerances of four of its own Monte-Carlo standard errors."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

STUDY = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"), run_name="coverage")
)


def near(rate: float, repetitions: int, rounding: float = 0.005) -> object:
    """Four standard errors of a rate, and the rounding of the published figure."""
    return pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / repetitions) + rounding)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("draw", "n", "expected"),
    [
        ("normal", 3, 0.95),
        ("normal", 20, 0.95),
        ("near_ceiling", 5, 0.91),
        ("bimodal", 3, 0.75),  # three of a kind in a quarter of the studies
        ("bimodal", 5, 0.94),
        ("diverging", 3, 1 - 0.95**3),
        ("diverging", 10, 1 - 0.95**10),
    ],
)
def test_t_intervals_cover_what_the_readme_says(draw: str, n: int, expected: float) -> None:
    assert STUDY.t_coverage(getattr(STUDY, draw), n, 2000, rng()) == near(expected, 2000)


def test_the_refused_bootstrap_covers_far_less_than_it_says() -> None:
    assert STUDY.bootstrap_coverage(STUDY.normal, 3, 500, rng(), "percentile") == near(0.75, 500)
    assert STUDY.bootstrap_coverage(STUDY.normal, 20, 500, rng(), "percentile") == near(0.92, 500)


def test_repeats_are_no_seeds() -> None:
    assert STUDY.repeats_as_seeds(1500, rng()) == near(0.71, 1500, 0.01)
    assert STUDY.repeats_as_seeds(1500, rng(), averaged=True) == near(0.95, 1500)


@pytest.mark.parametrize(
    ("paired", "n", "expected"), [(False, 3, 0.034), (False, 10, 0.047), (True, 3, 0.05), (True, 10, 0.05)]
)
def test_type_one_error_of_the_t_tests(paired: bool, n: int, expected: float) -> None:
    assert STUDY.type_one(n, 2000, rng(), paired=paired) == near(expected, 2000)


def test_looking_again_is_peeking() -> None:
    assert STUDY.peeking((10,), 1000, rng()) == near(0.05, 1000)
    assert STUDY.peeking((10, 16), 1000, rng()) == near(0.08, 1000)
    assert STUDY.peeking((5, 10, 15, 20), 1000, rng()) == near(0.132, 1000)


def test_dropping_failures_flatters_and_worst_rank_does_not() -> None:
    dropped, ranked = STUDY.failing(1500, rng())
    assert dropped == near(0.50, 1500, 0.02)
    assert ranked == pytest.approx(0.608, abs=4 * 0.14 / math.sqrt(1500))


@pytest.mark.parametrize(
    ("draw", "width", "least"),
    [
        *(("normal", width, 0.945) for width in (0.15, 0.3, 0.5, 3.0)),
        *(("near_ceiling", width, 0.91) for width in (0.15, 0.25, 0.3, 0.5, 3.0)),
        *(("exponential", width, 0.90) for width in (0.15, 0.25, 0.3, 3.0)),  # .25 and .3 are its worst
    ],
)
def test_adaptive_widths_cover_what_the_readme_says(draw: str, width: float, least: float) -> None:
    found, _ = STUDY.width_coverage(width, 4000, rng(), getattr(STUDY, draw))
    assert found >= least - 3 * math.sqrt(least * (1 - least) / 4000)


def held(draw: str, width: float, more: int) -> float:
    """Coverage of a rule that stops `more` seeds after the first look that meets the width, whatever they say."""
    values = getattr(STUDY, draw)(rng(), (4000, 600))
    stop = STUDY.stopping.width_met(values, width).argmax(axis=1) + more
    means = np.cumsum(values, axis=1)[np.arange(4000), stop] / (stop + 1)
    return float(np.mean(np.abs(means) <= width))


def test_without_the_four_more_the_width_would_not_hold() -> None:
    # The negative controls of the rule: stopping at once, and not heeding what the four say.
    assert held("normal", 0.25, 0) < 0.945 < STUDY.width_coverage(0.25, 4000, rng())[0]
    assert held("exponential", 0.25, 4) < 0.89 < STUDY.width_coverage(0.25, 4000, rng(), STUDY.exponential)[0]


def test_the_confidence_sequence_survives_a_look_after_every_seed() -> None:
    sequence, naive = STUDY.sequence_type_one(3000, rng())
    assert sequence <= 0.05
    assert naive == near(0.36, 3000)


def test_seeds_and_examples_cover_the_true_accuracy() -> None:
    both, alone = STUDY.two_way_coverage(5, 500, 0.05, 800, rng())
    assert 0.946 - 4 * 0.0075 <= both <= 0.963 + 4 * 0.0075
    assert alone < 0.9


def test_an_identical_candidate_passes_as_often_as_the_gate_says() -> None:
    rates = {row.study: (row.rates[0], row.expected[0]) for row in STUDY.gates(1500, rng())}
    for passed, told in rates.values():
        # Welch's degrees of freedom are estimated, the printed chance's are not: .01.
        assert passed == near(told, 1500, 0.01)


def test_equals_are_called_significantly_better_no_more_often_than_the_level() -> None:
    assert STUDY.called_significant(3, 3, 1000, rng()) == 0
    for n in (4, 5, 10):
        assert STUDY.called_significant(n, n, 1500, rng()) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_splits_of_one_data_set_cover_new_data_only_with_the_corrected_variance() -> None:
    plain, corrected = STUDY.resplit_coverage(400, rng())
    assert plain < 0.80  # the negative control
    assert corrected >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 400)


def test_equal_generators_give_equal_studies() -> None:
    assert STUDY.failing(20, rng(1)) == STUDY.failing(20, rng(1))
    assert STUDY.failing(20, rng(1)) != STUDY.failing(20, rng(2))


def test_what_is_said_of_tasks_covers_and_a_plain_bootstrap_of_three_seeds_does_not() -> None:
    found = STUDY.over_tasks(39, 3, 150, rng())
    plain = found.pop("IQM, not widened (not offered)")
    assert plain < 0.91
    assert min(found.values()) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 150)
    assert found["IQM"] > plain
