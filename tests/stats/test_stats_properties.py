"""What holds for any data: order of seeds, change of unit, p in [0, 1], the estimate inside its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from sweep import stats

NUMBERS = some.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 6))
SEEDS = some.lists(NUMBERS, min_size=2, max_size=12)
PAIRS = some.lists(some.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8)
PLACES = some.randoms(use_true_random=False)


def arms(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


@given(SEEDS, PLACES)
def test_the_order_of_seeds_changes_no_bit(values: list[float], places: object) -> None:
    shuffled = values.copy()
    places.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stats.summarise(shuffled) == stats.summarise(values)
    assert stats.sd_interval(shuffled) == stats.sd_interval(values)
    assert stats.sequence_interval(shuffled) == stats.sequence_interval(values)
    first = stats.worst_rank_median([*shuffled, math.nan], higher_is_better=True)
    assert first == stats.worst_rank_median([math.nan, *values], higher_is_better=True)


@given(PAIRS, PLACES)
def test_the_order_of_pairs_changes_no_bit(pairs: list[tuple[float, float]], places: object) -> None:
    shuffled = pairs.copy()
    places.shuffle(shuffled)  # type: ignore[attr-defined]
    for function in (
        stats.paired_t,
        stats.welch,
        stats.sign_flip_test,
        stats.permutation_test,
        lambda a, b: stats.hedges_g(a, b, paired=True),
        lambda a, b: stats.superiority(a, b, higher_is_better=True),
        lambda a, b: stats.win_rate(a, b, higher_is_better=True),
    ):
        assert function(*arms(shuffled)) == function(*arms(pairs))


@given(SEEDS, some.floats(-1e3, 1e3), some.floats(0.01, 100))
def test_intervals_follow_shift_and_scale(values: list[float], shift: float, scale: float) -> None:
    moved = [scale * value + shift for value in values]
    size = max(abs(value) for value in [*values, *moved, shift, 1.0])
    # Rounding of the inputs is all that may differ, enlarged by the t quantile (12.7 at n = 2).
    near = 1e-12 * size * max(scale, 1)
    before, after = stats.summarise(values), stats.summarise(moved)
    assert after.mean == pytest.approx(scale * before.mean + shift, abs=near)
    assert after.low == pytest.approx(scale * before.low + shift, abs=near)
    assert after.high == pytest.approx(scale * before.high + shift, abs=near)
    assert after.sd == pytest.approx(scale * before.sd, abs=near)


@given(PAIRS, some.sampled_from([-1.0, 0.5, 2.0, 8.0]))
def test_effects_do_not_change_with_the_unit(pairs: list[tuple[float, float]], scale: float) -> None:
    a, b = arms(pairs)
    for paired in (True, False):
        before = stats.hedges_g(a, b, paired=paired)
        after = stats.hedges_g([scale * x for x in a], [scale * x for x in b], paired=paired)
        if before is None:
            assert after is None
        else:
            assert after is not None
            assert after.g == pytest.approx(math.copysign(1, scale) * before.g, rel=1e-9, abs=1e-9)
    before_p, after_p = (stats.paired_t([s * x for x in a], [s * x for x in b]).p for s in (1.0, scale))
    assert (after_p is None) == (before_p is None)
    assert before_p is None or after_p == pytest.approx(before_p, rel=1e-9, abs=1e-12)


@given(PAIRS)
def test_p_values_lie_between_0_and_1_and_permutations_above_their_floor(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = arms(pairs)
    for found in (stats.paired_t(a, b).p, stats.welch(a, b).p):
        assert found is None or 0 <= found <= 1
    for test in (stats.sign_flip_test(a, b), stats.permutation_test(a, b)):
        assert 0 < test.floor <= test.p <= 1
    adjusted = stats.holm([stats.paired_t(a, b).p, stats.welch(a, b).p])
    assert all(p is None or 0 <= p <= 1 for p in adjusted)


@given(PAIRS)
def test_intervals_hold_their_estimate(pairs: list[tuple[float, float]]) -> None:
    a, b = arms(pairs)
    for difference in (stats.paired_t(a, b), stats.welch(a, b)):
        assert difference.interval is not None
        assert difference.estimate in difference.interval
    summary = stats.summarise(a)
    assert summary.low is not None
    assert summary.high is not None
    assert summary.min <= summary.mean <= summary.max
    assert summary.low <= summary.mean <= summary.high
    better = stats.superiority(a, b, higher_is_better=True)
    assert better.probability in better.interval
    assert 0 <= better.interval.low <= better.interval.high <= 1
    for paired in (True, False):
        effect = stats.hedges_g(a, b, paired=paired)
        assert effect is None or effect.g in effect.interval


@given(some.integers(0, 30), some.integers(1, 30), some.integers(0, 30), some.integers(1, 30))
def test_rates_lie_in_their_intervals_and_mirror(k: int, m: int, j: int, n: int) -> None:
    assume(k <= m and j <= n)
    assert k / m in stats.clopper_pearson(k, m)
    found, mirror = stats.failure_difference(k, m, j, n), stats.failure_difference(j, n, k, m)
    assert found.estimate in found.interval
    assert 0 < found.p <= 1
    assert found.p == mirror.p
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (-mirror.interval.high, -mirror.interval.low), abs=1e-12
    )
    assert -1 - 1e-12 <= found.interval.low <= found.interval.high <= 1 + 1e-12


@given(some.lists(some.one_of(NUMBERS, some.just(math.nan)), min_size=1, max_size=12), some.booleans())
def test_another_failure_never_flatters(values: list[float], higher_is_better: bool) -> None:
    before = stats.worst_rank_median(values, higher_is_better=higher_is_better)
    after = stats.worst_rank_median([*values, math.nan], higher_is_better=higher_is_better)
    assert after.failed == before.failed + 1
    assert after.estimate <= before.estimate if higher_is_better else after.estimate >= before.estimate


@given(some.lists(some.one_of(NUMBERS, some.just(math.nan)), max_size=24), some.floats(1e-3, 1e6))
def test_the_width_rule_depends_on_the_prefix_alone(values: list[float], width: float) -> None:
    states = [stats.width_rule(values[:n], width, max_seeds=16) for n in range(len(values) + 1)]
    ended = [state for state in states if state.state != "running"]
    assert all(state == ended[0] for state in ended)
    assert all(state.used <= state.target <= 16 for state in states)


@settings(max_examples=50)
@given(some.integers(2, 5), some.integers(2, 8), some.integers(0, 2**32 - 1))
def test_two_way_intervals_do_not_depend_on_the_order_of_runs_or_examples(runs: int, examples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(runs, examples))
    moved = table[rng.permutation(runs)][:, rng.permutation(examples)]
    before, after = stats.two_way_interval(table), stats.two_way_interval(moved)
    assert after.interval.low == pytest.approx(before.interval.low, rel=1e-9, abs=1e-9)
    assert stats.training_variance(moved).distribution == pytest.approx(
        stats.training_variance(table).distribution, rel=1e-9, abs=1e-12
    )
