"""Means and differences over seeds and folds: by their definition, and by what they cover."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as oracle

from sweep import stats
from sweep.errors import StatisticsError

STUDY = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"), run_name="coverage")
)
RATIO = 0.25
TABLE = np.random.default_rng(0).normal(0.9, 0.02, size=(3, 5))  # (seeds, folds)
OTHER = TABLE + np.random.default_rng(1).normal(0.01, 0.01, size=(3, 5))


def by_hand(gaps: np.ndarray, seeds: list[np.ndarray]) -> tuple[float, float]:
    """(standard error, degrees of freedom): s²_folds (1/K + ratio) and s²_seeds/S, by Satterthwaite."""
    parts = [(np.var(gaps, ddof=1) * (1 / len(gaps) + RATIO), len(gaps) - 1)]
    parts += [(np.var(each, ddof=1) / len(each), len(each) - 1) for each in seeds]
    total = sum(part for part, _ in parts)
    return math.sqrt(total), total**2 / sum(part**2 / df for part, df in parts)


def test_a_mean_over_folds_has_the_interval_of_its_definition() -> None:
    found = stats.summarise(TABLE, ratio=RATIO)
    error, df = by_hand(TABLE.mean(axis=0), [TABLE.mean(axis=1)])
    half = oracle.t.ppf(0.975, df) * error
    assert (found.low, found.high) == pytest.approx((TABLE.mean() - half, TABLE.mean() + half), abs=1e-9)
    assert (found.n, found.method) == (3, stats.Method.T_FOLDS)
    assert found.sd == pytest.approx(np.std(TABLE.mean(axis=1), ddof=1), abs=1e-9)


def test_one_seed_has_the_interval_of_its_folds() -> None:
    found = stats.summarise(TABLE[:1], ratio=RATIO)
    # Nadeau & Bengio 2003 for one algorithm: s² (1/K + n_test/n_train), K - 1 degrees of freedom.
    half = oracle.t.ppf(0.975, 4) * math.sqrt(np.var(TABLE[0], ddof=1) * (1 / 5 + RATIO))
    assert (found.low, found.high) == pytest.approx((TABLE[0].mean() - half, TABLE[0].mean() + half), abs=1e-9)
    assert (found.n, found.sd) == (1, None)


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_over_folds_has_the_test_of_its_definition(paired: bool) -> None:
    found = stats.fold_difference(TABLE, OTHER, RATIO, paired=paired)
    seeds = [(TABLE - OTHER).mean(axis=1)] if paired else [TABLE.mean(axis=1), OTHER.mean(axis=1)]
    error, df = by_hand((TABLE - OTHER).mean(axis=0), seeds)
    assert (found.estimate, found.error, found.df) == pytest.approx(((TABLE - OTHER).mean(), error, df), abs=1e-9)
    assert found.p == pytest.approx(2 * oracle.t.sf(abs(found.estimate) / error, df), abs=1e-9)
    assert found.attainable == 0


def test_one_seed_of_each_never_shows_a_difference_of_configurations() -> None:
    found = stats.fold_difference(TABLE[:1], TABLE[:1] - 0.5 - OTHER[:1] / 100, RATIO, paired=True)
    assert found.p is not None
    assert found.p < 0.001
    assert found.attainable == 1


def test_ragged_seeds_are_compared_by_fold_and_never_paired() -> None:
    assert stats.fold_difference(TABLE, OTHER[:2], RATIO, paired=False).n_b == 2
    with pytest.raises(StatisticsError, match="shape"):
        stats.fold_difference(TABLE, OTHER[:2], RATIO, paired=True)
    with pytest.raises(StatisticsError, match="shape"):
        stats.fold_difference(TABLE, OTHER[:, :4], RATIO, paired=False)


def test_no_variance_has_an_interval_of_no_width_and_no_p() -> None:
    alike = np.full((3, 5), 0.9)
    found = stats.summarise(alike, ratio=RATIO)
    assert found.low == found.high == 0.9
    shifted = stats.fold_difference(TABLE + 0.01, TABLE, RATIO, paired=True)  # constant, but for rounding
    assert (shifted.p, shifted.error) == (None, 0)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_large_and_small_numbers_keep_their_interval(scale: float) -> None:
    plain, found = stats.summarise(TABLE, ratio=RATIO), stats.summarise(TABLE * scale, ratio=RATIO)
    assert found.low is not None
    assert plain.low is not None
    assert found.low / scale == pytest.approx(plain.low)
    with pytest.raises(StatisticsError):
        stats.summarise(np.array([[0.9, math.nan], [0.8, 0.9]]), ratio=RATIO)


def test_cross_validation_covers_new_data_where_folds_or_seeds_alone_do_not() -> None:
    repetitions = 400
    slack = 4 * math.sqrt(0.95 * 0.05 / repetitions)
    few = STUDY.cross_validated(5, 3, 0.3, repetitions, np.random.default_rng(0))
    apart = STUDY.cross_validated(5, 3, 1.5, repetitions, np.random.default_rng(0))
    for found in (few, apart):
        assert found["for new data"] >= 0.95 - slack
        assert found["equals differ"] <= 0.05 + slack
    # The negative controls: what the seeds add, and what the folds do, is needed.
    assert few["seeds alone"] < 0.85
    assert few["equal seeds differ"] > 0.15
    assert apart["folds alone"] < apart["for new data"] - 0.02
