"""`verify --lanes` of vectorised rows, and what `verify --cost` says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sweep.cli.app import main
from sweep.config import load
from sweep.errors import ConfigError
from sweep.plan import RunSpec
from sweep.prepare import prepare
from sweep.train.vector import packs, stack
from sweep.verify.lanes import compare_lanes


def spec(**more: Any) -> RunSpec:
    words = ["params.epochs=1", "params.model.hidden=[8]", "params.data.limit=300"]
    return next(iter(prepare(load(overrides=words, vectorize=4, deterministic=True, **more))))


def test_rows_are_compared_in_other_company_and_alone() -> None:
    found = compare_lanes(spec(), 3)
    assert found.equal
    assert (found.lanes, found.width) == (3, 4)
    assert found.links == 4 * 6  # the first seed alone, too


def test_rows_that_touch_each_other_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check before the first pack would refuse them: it is left out here."""
    step = stack.Stack.step

    def coupled(self: stack.Stack, *given: Any) -> None:
        step(self, *given)
        leaf = next(iter(self.parameters.values()))
        leaf.add_(leaf.mean(0), alpha=1e-6)

    monkeypatch.setattr(packs, "check", lambda setup, run: None)
    monkeypatch.setattr(stack.Stack, "step", coupled)
    found = compare_lanes(spec(), 2)
    assert found.differ is not None
    assert set(found.differ) == {42, 43}
    assert set(found.differ.values()) == {"epoch/1"}


def test_what_shares_no_pack_is_refused() -> None:
    with pytest.raises(ConfigError, match="train several seeds together"):
        compare_lanes(replace(spec(), vectorize=0), 2)


@pytest.mark.walk
def test_cost_says_what_a_width_would_bring(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["params.epochs=1", "params.model.hidden=[8]", "params.data.limit=300"]
    assert main(["verify", "--cost", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)["vectorized"]
    assert set(found) == {"16", "64"}
    assert all(0 < each < 50 for each in found.values())
