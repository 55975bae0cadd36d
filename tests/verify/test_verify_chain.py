"""Chains are compared link by link, in the order of training."""

from __future__ import annotations

import pytest

from sweep.verify.chain import epochs, first_difference, in_order, words

CHAIN = {"initial": "a", "first_batch": "b", **{f"epoch/{k}": f"e{k}" for k in range(1, 12)}, "final": "z",
         "predictions/test": "p"}  # fmt: skip


@pytest.mark.parametrize("link", CHAIN)
def test_the_first_link_that_differs_is_named(link: str) -> None:
    order = list(CHAIN)
    later = {name: value + "'" * (order.index(name) >= order.index(link)) for name, value in CHAIN.items()}
    found = first_difference(CHAIN, later)
    assert found is not None
    assert found.link == link


def test_equal_chains_do_not_differ_whatever_their_order() -> None:
    assert first_difference(CHAIN, dict(reversed(CHAIN.items()))) is None
    assert in_order(dict(sorted(CHAIN.items()))) == list(CHAIN)  # epoch/10 stands after epoch/9
    assert epochs(CHAIN) == 11


def test_a_missing_link_is_a_difference_unless_only_common_ones_are_asked_for() -> None:
    shorter = {name: value for name, value in CHAIN.items() if name != "epoch/11"}
    found = first_difference(CHAIN, shorter)
    assert found is not None
    assert (found.link, found.b) == ("epoch/11", "")
    assert first_difference(CHAIN, shorter, common=True) is None


def test_words() -> None:
    assert [words(link) for link in ("initial", "first_batch", "epoch/3", "predictions/test")] == [
        "initial weights", "data order (first batch)", "weights after epoch 3", "predictions on test",
    ]  # fmt: skip
