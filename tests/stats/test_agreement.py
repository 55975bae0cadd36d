"""Votes, abstention and churn, against the count of all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sweep.stats import items

A = np.array([[0, 1, 2, 1], [0, 1, 1, 0], [0, 2, 0, 1]])
B = np.array([[0, 1, 2, 0], [1, 1, 2, 0]])


def test_votes_equal_the_count_of_all_pairs() -> None:
    found = items.votes(A)
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.share == pytest.approx([1, 2 / 3, 1 / 3, 2 / 3])
    pairs = list(itertools.combinations(A, 2))
    assert found.unequal == pytest.approx(np.mean([a != b for a, b in pairs], axis=0), abs=1e-12)
    assert found.arbitrary == 0.75
    assert found.arbitrary in found.interval
    same = items.votes(np.zeros((3, 5), dtype=int))
    assert same.arbitrary == 0
    assert same.interval.low == 0


def test_abstention_answers_fewer_examples_the_more_agreement_it_asks_for() -> None:
    found = items.abstention(items.votes(A), [0, 2, 0, 1])
    assert found.share == pytest.approx([1, 2 / 3, 1 / 3])
    assert found.coverage == pytest.approx([0.25, 0.75, 1])
    assert found.accuracy == pytest.approx([1, 2 / 3, 0.75])
    assert (found.low <= found.accuracy).all()
    assert (found.accuracy <= found.high).all()


def test_churn_equals_the_count_of_all_pairs_and_is_no_excess_between_equals() -> None:
    found = items.churn(A, B)
    assert found.between == pytest.approx(np.mean([a != b for a in A for b in B]))
    assert found.within_a == pytest.approx(np.mean([a != b for a, b in itertools.combinations(A, 2)]))
    assert found.within_b == pytest.approx(np.mean([a != b for a, b in itertools.combinations(B, 2)]))
    assert found.excess == pytest.approx(found.between - (found.within_a + found.within_b) / 2)
    apart = items.churn(A, A, same=[(0, 0), (1, 1), (2, 2)])
    assert apart.between == pytest.approx(found.within_a)
    assert items.churn(A, A).between < found.within_a  # a seed agrees with itself: a negative control
    rng = np.random.default_rng(0)
    odds = rng.random(4000)
    draws = (rng.random((16, 4000)) < odds).astype(int)
    level = items.churn(draws[:8], draws[8:])
    assert level.between > 0.2
    assert level.interval is not None
    assert 0 in level.interval  # the same configuration twice: seeds alone cause its churn
    moved = items.churn(draws[:8], (rng.random((8, 4000)) < rng.random(4000)).astype(int))
    assert moved.interval is not None
    assert moved.interval.low > 0
