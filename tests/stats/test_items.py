"""Scores of items, against independent computations and by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import statsmodels.api as sm

from sweep.errors import StatisticsError
from sweep.stats import items
from sweep.stats.variance import two_way_interval


def drawn(seeds: int, count: int, number: int = 0) -> np.ndarray:
    rng = np.random.default_rng(number)
    hard = rng.normal(0, 1, count) + rng.normal(0, 0.3, (seeds, 1))
    return (hard + rng.normal(0, 1, (seeds, count)) > 0).astype(float)


def test_passing_at_least_once_and_always_equal_the_enumeration_of_all_choices() -> None:
    for n, k in ((1, 1), (5, 2), (8, 8), (10, 3)):
        for right in range(n + 1):
            tries = [1] * right + [0] * (n - right)
            chosen = list(itertools.combinations(tries, k))
            assert items.pass_at([right], [n], k)[0] == pytest.approx(np.mean([any(c) for c in chosen]), abs=1e-12)
            assert items.pass_all([right], [n], k)[0] == pytest.approx(np.mean([all(c) for c in chosen]), abs=1e-12)
    big = items.pass_at([3], [100_000], 50_000)[0]
    assert big == pytest.approx(1 - 0.5**3, abs=1e-4)
    with pytest.raises(StatisticsError, match="k is 3"):
        items.pass_at([1, 2], [2, 5], 3)


def test_passing_is_unbiased_where_the_plain_power_is_not() -> None:
    rng = np.random.default_rng(1)
    p, n, k = 0.3, 6, 3
    right = rng.binomial(n, p, 200_000)
    tries = np.full(right.shape, n)
    assert items.pass_at(right, tries, k).mean() == pytest.approx(1 - (1 - p) ** k, abs=2e-3)
    assert items.pass_all(right, tries, k).mean() == pytest.approx(p**k, abs=2e-3)
    assert (1 - (1 - right / n) ** k).mean() < 1 - (1 - p) ** k - 0.02  # the plain power is biased: a negative control


def test_flips_equal_the_count_of_all_pairs() -> None:
    table = drawn(5, 40)
    table[:, 0] = 1
    pairs = list(itertools.combinations(table, 2))
    assert items.flips(table) == pytest.approx(np.mean([a != b for a, b in pairs], axis=0), abs=1e-12)
    assert items.flips(table)[0] == 0
    shares = np.random.default_rng(3).random((4, 9))
    pairs = list(itertools.combinations(shares, 2))
    assert items.flips(shares) == pytest.approx(
        np.mean([p * (1 - q) + q * (1 - p) for p, q in pairs], axis=0), abs=1e-12
    )


def test_intervals_over_clusters_have_the_cluster_robust_variance() -> None:
    table = drawn(4, 60)
    labels = np.random.default_rng(2).integers(0, 13, 60)
    got = items.item_mean(table, labels)
    model = sm.OLS(table.mean(axis=0), np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": labels}, use_t=True)
    assert got.over_items is not None
    assert [got.over_items.low, got.over_items.high] == pytest.approx(model.conf_int()[0], abs=1e-9)
    assert (got.mean, got.clusters, got.items) == (pytest.approx(table.mean()), len(set(labels)), 60)
    alone = items.item_mean(table, np.arange(60))
    assert alone == items.item_mean(table)
    both = two_way_interval(table).interval
    assert alone.over_both is not None
    assert (alone.over_both.low, alone.over_both.high) == pytest.approx((both.low, both.high), abs=1e-12)


def test_what_leaves_no_spread_has_no_interval() -> None:
    one_item = items.item_mean([[1.0], [0.0], [1.0]])
    assert one_item.over_items is None
    assert one_item.over_both is None
    assert one_item.over_seeds is not None
    one_seed = items.item_mean([[1.0, 0.0, 1.0]])
    assert one_seed.over_seeds is None
    assert one_seed.over_items is not None
    same = items.item_mean(np.ones((3, 5)))
    assert same.over_both is not None
    assert same.over_both.half_width == 0
    with pytest.raises(StatisticsError):
        items.item_mean([[1.0, np.nan]])


def test_the_interval_over_both_covers_where_each_alone_does_not() -> None:
    rng = np.random.default_rng(5)
    held = {"both": 0, "seeds": 0, "items": 0}
    rounds = 600
    for _ in range(rounds):
        seeds, texts, each = 6, 30, 4
        text = np.repeat(rng.normal(0, 1, texts), each)
        table = rng.normal(0, 0.2, (seeds, 1)) + text + rng.normal(0, 1, (seeds, texts * each))
        got = items.item_mean(table, np.repeat(np.arange(texts), each))
        assert got.over_both is not None
        assert got.over_seeds is not None
        plain = items.item_mean(table).over_items
        assert plain is not None
        held["both"] += 0.0 in got.over_both
        held["seeds"] += 0.0 in got.over_seeds
        held["items"] += 0.0 in plain
    assert 0.92 < held["both"] / rounds < 0.985
    assert held["seeds"] / rounds < 0.85  # takes the items as given
    assert held["items"] / rounds < 0.75  # takes the seeds as given, and clusters for items


def test_what_is_needed_decides() -> None:
    rng = np.random.default_rng(7)
    gaps = rng.normal(0, 0.02, (4, 1)) + rng.normal(0, 1, (4, 200))
    gaps += 0.1 - gaps.mean()
    plan = items.needed(gaps)
    assert plan.items is not None
    assert plan.items > 200
    wide = rng.normal(0, 1, (4, plan.items)) + 0.1
    assert two_way_interval(wide).interval.low > 0
    assert items.needed(np.zeros((3, 5))).items is None
    per_seed = np.repeat(rng.normal(0.1, 0.5, (5, 1)), 50, axis=1)  # seeds differ, items do not: items cannot help
    assert items.needed(per_seed).items is None
    assert items.needed(per_seed).seeds is not None


def test_repeats_are_averaged_within_their_seed_and_other_items_are_refused() -> None:
    ids, table, tries = items.averaged([np.array([2, 1, 2]), np.array([1, 2])], [[1, 0, 0], [1, 1]])
    assert ids.tolist() == [1, 2]
    assert table.tolist() == [[0, 0.5], [1, 1]]
    assert tries.tolist() == [[1, 2], [1, 1]]
    with pytest.raises(StatisticsError, match="2"):
        items.averaged([np.array([1, 2]), np.array([1, 3])], [[0, 0], [0, 0]])


@pytest.mark.parametrize("other", [["1", "2"], [b"1", b"2"], [1.0, 2.5]])
def test_ids_of_another_kind_are_other_items(other: list[object]) -> None:
    """The text of an id is not the number that it spells."""
    with pytest.raises(StatisticsError, match="different items"):
        items.averaged([np.array([1, 2]), np.array(other)], [[1, 0], [1, 1]])
    with pytest.raises(StatisticsError, match="different items"):
        items.averaged([np.array(["1", "2"]), np.array([b"1", b"2"])], [[1, 0], [1, 1]])
