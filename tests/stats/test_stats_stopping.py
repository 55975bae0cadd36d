"""When to stop adding seeds: grammar, both rules on completed prefixes, and what never stops them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sweep import stats
from sweep.errors import ConfigError, StatisticsError
from sweep.stats.stopping import excludes_zero, prefix_moments, sequence_factor, width_met

NOISE = np.random.default_rng(11).normal(size=64)


@pytest.mark.parametrize(
    "text", ["test/accuracy ± 0.005", "test/accuracy +- 0.005", "test/accuracy+-.005", "test/accuracy +/- 5e-3"]
)
def test_widths_are_read(text: str) -> None:
    assert stats.parse_until(text) == stats.UntilWidth("test/accuracy", 0.005)


def test_orders_are_read() -> None:
    expected = stats.UntilOrder("test/accuracy", "lr-0.1-ab12cd", "base")
    assert stats.parse_until("test/accuracy: lr-0.1-ab12cd > base") == expected
    assert stats.parse_until("test/accuracy:lr-0.1-ab12cd>base") == expected


@pytest.mark.parametrize(
    "text", ["", "test/accuracy", "test/accuracy ± 0", "a ± -1", "a ± 1e999", "a: A < B", "a: A > A", "a: A >"]
)
def test_what_cannot_be_read_says_how_it_looks(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stats.parse_until(text)
    assert caught.value.where == "--until"
    assert "test/accuracy ± 0.005" in str(caught.value)


def narrow(n: int, half_width: float) -> bool:
    """What the rule asks of the first n seeds, found another way."""
    interval = stats.t_interval(NOISE[:n])
    return interval is not None and interval.half_width is not None and interval.half_width <= half_width


def test_the_width_rule_stops_four_seeds_after_the_width_was_met() -> None:
    met_at = next(n for n in range(5, 61) if all(narrow(n + more, 0.5) for more in range(5)))
    assert met_at > 6
    states = [stats.width_rule(NOISE[:n], 0.5, max_seeds=64) for n in range(65)]
    assert [state.state for state in states] == ["running"] * (met_at + 4) + ["met"] * (64 - met_at - 3)
    final = states[met_at + 4]
    assert (final.met_at, final.used, final.looks) == (met_at, met_at + 4, met_at)
    assert final.interval is not None
    assert final.interval.half_width == pytest.approx(0.5)
    assert final.mean == pytest.approx(np.mean(NOISE[: met_at + 4]))
    # Seeds in flight beyond the stop are shown elsewhere and never counted.
    assert states[64] == final
    assert final.descriptive == stats.t_interval(NOISE[: met_at + 4])


def test_a_width_that_is_lost_again_among_the_four_was_luck() -> None:
    assert narrow(9, 0.6)
    assert not narrow(10, 0.6)
    final = stats.width_rule(NOISE, 0.6, max_seeds=64)
    assert (final.met_at, final.used) == (13, 17)
    # What is reported is never narrower than what a plain t interval of the same seeds would say.
    assert final.descriptive is not None
    assert final.descriptive.half_width is not None
    assert final.descriptive.half_width <= 0.6
    waiting = [stats.width_rule(NOISE[:n], 0.6, max_seeds=64).target for n in range(8, 14)]
    assert waiting == [13, 13, 15, 16, 17, 17]


def test_the_target_is_what_will_be_needed_whatever_comes() -> None:
    seen = [stats.width_rule(NOISE[:n], 0.5, max_seeds=64) for n in range(65)]
    assert seen[0].target == 9
    assert all(state.target <= seen[-1].used for state in seen)
    assert all(a.target <= b.target for a, b in itertools.pairwise(seen))


def test_the_last_look_leaves_room_for_the_four() -> None:
    met_at = stats.width_rule(NOISE, 0.5, max_seeds=64).met_at
    assert met_at is not None
    just = stats.width_rule(NOISE, 0.5, max_seeds=met_at + 4)
    assert just.state == "met"
    late = stats.width_rule(NOISE, 0.5, max_seeds=met_at + 3)
    assert (late.state, late.met_at, late.interval, late.used) == ("not reached", None, None, met_at + 3)
    assert late.descriptive is not None


def test_a_failed_seed_uses_its_place_and_gives_no_number() -> None:
    values = NOISE.copy()
    values[[1, 3]] = [math.nan, math.inf]
    state = stats.width_rule(values[:6], 5.0, max_seeds=64)
    assert (state.state, state.met_at, state.n) == ("running", None, 4)
    state = stats.width_rule(values[:11], 5.0, max_seeds=64)
    assert (state.state, state.met_at, state.used, state.n) == ("met", 7, 11, 9)
    everything = stats.width_rule([math.nan] * 20, 5.0, max_seeds=20)
    assert (everything.state, everything.n, everything.mean) == ("not reached", 0, None)


def test_a_lost_seed_ends_the_rule_only_while_it_is_needed() -> None:
    assert stats.width_rule(NOISE[:6], 5.0, max_seeds=64, lost=True).state == "incomplete"
    assert stats.width_rule(NOISE[:9], 5.0, max_seeds=64, lost=True).state == "met"
    assert stats.order_rule(NOISE[:6], NOISE[6:12], max_seeds=64, lost=True).state == "incomplete"


def test_no_spread_never_stops() -> None:
    state = stats.width_rule([0.1] * 30, 0.5, max_seeds=30, quantum=0.01)
    assert (state.state, state.interval) == ("not reached", None)
    base = np.linspace(0, 1, 30)
    assert np.std(base + 0.1 - base) > 0
    order = stats.order_rule(base + 0.1, base, max_seeds=30)
    assert order.state == "not reached"


def test_the_sd_is_floored_at_the_rounding_of_the_metric() -> None:
    values = [0.90, 0.90, 0.90, 0.90, 0.91, 0.90, 0.90, 0.90, 0.90, 0.91]
    loose = stats.width_rule(values, 0.006, max_seeds=64)
    floored = stats.width_rule(values, 0.006, max_seeds=64, quantum=0.05)
    assert loose.met_at == 5
    assert floored.met_at is None


def test_a_later_seed_never_changes_an_earlier_look() -> None:
    whole = width_met(NOISE, 0.5)
    assert all(width_met(NOISE[:n], 0.5).tolist() == whole[:n].tolist() for n in range(len(NOISE)))
    n, centre, spread = prefix_moments(NOISE)
    assert n.tolist() == list(range(1, 65))
    assert centre == pytest.approx([NOISE[:k].mean() for k in range(1, 65)], rel=1e-12)
    assert spread[1:] == pytest.approx([NOISE[:k].std(ddof=1) for k in range(2, 65)], rel=1e-12)


def test_sequence_multipliers() -> None:
    found = sequence_factor(np.array([1, 4, 5, 10, 20]))
    assert found.tolist() == pytest.approx([math.inf, math.inf, 6.58, 3.85, 3.46], abs=0.005)
    assert stats.sequence_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert stats.sequence_interval([]) is None
    interval = stats.sequence_interval(NOISE[:10])
    assert interval is not None
    assert interval.half_width == pytest.approx(3.8526535 * NOISE[:10].std(ddof=1) / math.sqrt(10), rel=1e-7)


@pytest.mark.parametrize(("shift", "expected"), [(1.3, "A > B"), (-1.3, "B > A"), (0.0, "not reached")])
def test_order_rule_ends_on_either_side_or_at_the_cap(shift: float, expected: str) -> None:
    a, b = NOISE[:32] + shift, NOISE[32:]
    final = stats.order_rule(a, b, max_seeds=32)
    assert final.state == expected
    assert final.interval == stats.sequence_interval((a - b)[: final.used])
    if expected != "not reached":
        assert 5 < final.used < 32
        assert final.interval is not None
        assert 0 not in final.interval
        before = stats.order_rule(a[: final.used - 1], b[: final.used - 1], max_seeds=32)
        assert (before.state, before.target) == ("running", final.used)
        assert 0 in before.interval  # type: ignore[operator]


def test_order_rule_skips_pairs_with_a_failure() -> None:
    a, b = NOISE[:20] + 3, NOISE[20:40].copy()
    clean = stats.order_rule(a, b, max_seeds=64)
    b[0] = math.nan
    found = stats.order_rule(a, b, max_seeds=64)
    assert found.state == "A > B"
    assert (found.n, found.used) == (found.used - 1, found.used)
    assert found.used >= clean.used


@pytest.mark.parametrize(("level", "least"), [(0.9, 5), (0.95, 6), (0.99, 8)])
def test_no_order_is_named_where_the_exact_test_of_the_pairs_cannot_reach_the_level(level: float, least: int) -> None:
    a, b = NOISE[:20] * 1e-3 + 1, NOISE[20:40] * 1e-3
    found = stats.order_rule(a, b, max_seeds=64, level=level)
    assert (found.state, found.used, found.looks) == ("A > B", least, 1)
    assert stats.permutation_test(a[:least], b[:least]).p <= 1 - level
    failed = b.copy()
    failed[2] = math.nan
    assert stats.order_rule(a, failed, max_seeds=64, level=level).used == least + 1
    assert excludes_zero(a - b)[4]  # at 95 % the sequence alone would have named it at 5


def test_the_rule_and_the_printed_sequence_agree_look_by_look() -> None:
    gaps = NOISE[:40] + 0.8
    printed = [stats.sequence_interval(gaps[:n]) for n in range(1, 41)]
    assert excludes_zero(gaps).tolist() == [part is not None and 0 not in part for part in printed]


def test_caps_too_small_for_a_look_are_refused() -> None:
    with pytest.raises(StatisticsError, match="at least 9"):
        stats.width_rule([], 0.1, max_seeds=8)
    with pytest.raises(StatisticsError, match="first looks at 6"):
        stats.order_rule([], [], max_seeds=5)
    with pytest.raises(StatisticsError, match="half-width"):
        stats.width_rule([], 0.0, max_seeds=9)


def test_new_seeds_are_the_smallest_unused() -> None:
    assert stats.more_seeds([42, 0, 2], 3) == [1, 3, 4]
    assert stats.more_seeds([], 0) == []
