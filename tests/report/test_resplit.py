"""Seeds with splits of their own: the interval is for new data, or says that it is not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finished import normal, sweep_of
from predicted import classes, saved

from sweep import comparison, report
from sweep.report.html import page
from sweep.results import Results
from sweep.stats import paired_t, summarise
from sweep.store import Store

A, B = "a-000001", "b-000002"
EXAMPLES = {"train": 240, "val": 60, "test": 100}


def made(path: Path, *, examples: bool = True, vary: tuple[str, ...] = ("split",)) -> Store:
    def outcome(spec: Any) -> dict[str, Any]:
        held = {"examples": EXAMPLES} if examples else {}
        value = normal(spec.seed) + 0.004 * (spec.variant == B) + 0.001 * normal(spec.seed + 50, 0, (spec.variant == B))
        return {"metrics": {"test/accuracy": value}, "result": {"rule": "final", "epoch": 3, **held}}

    store = sweep_of(path, outcome, seeds=range(8), variants=(A, B))
    store.manifest = replace(store.manifest, experiment={**store.manifest.experiment, "vary": list(vary)})
    return store


def test_the_interval_holds_for_new_data(tmp_path: Path) -> None:
    store = made(tmp_path / "d")
    row = report.build(store).primary_rows[0]
    plain = summarise([normal(seed) for seed in range(8)])
    assert (row.mean, row.sd) == (plain.mean, plain.sd)
    assert row.high - row.mean == pytest.approx((plain.high - plain.mean) * math.sqrt(1 + 8 * 100 / 240))
    assert "new data" in row.headline
    summary = Results(store).summary()
    assert summary["low"].tolist()[0] == row.low
    assert "Nadeau" in summary["method"].tolist()[0]


def test_without_the_number_of_examples_nothing_is_claimed_of_new_data(tmp_path: Path) -> None:
    row = report.build(made(tmp_path / "d", examples=False)).primary_rows[0]
    assert row.low == summarise([normal(seed) for seed in range(8)]).low
    assert "no statement about new data" in row.headline


def test_a_comparison_pays_for_the_shared_data(tmp_path: Path) -> None:
    store = made(tmp_path / "d")
    pair = comparison.compare(store).pairs[0]
    values = {
        v: [r.metrics["test/accuracy"] for m in store.scan() if m.variant == v and (r := m.record)] for v in (A, B)
    }
    plain = paired_t(values[A], values[B])
    assert pair.interval.half_width == pytest.approx(plain.interval.half_width * math.sqrt(1 + 8 * 100 / 240))
    assert pair.difference.p > plain.p
    assert pair.permutation is None
    assert pair.reading.startswith("descriptive")


@pytest.mark.parametrize(("vary", "said"), [(("split",), "its own split"), (("order",), "vary order only")])
def test_captions_say_what_varied(vary: tuple[str, ...], said: str, tmp_path: Path) -> None:
    store = made(tmp_path / "d", vary=vary)
    found = report.build(store)
    for text in (report.markdown(found), report.latex(found), page(store)):
        assert said in text
    assert ("over seeds, this split" in report.markdown(found)) is False


@pytest.mark.parametrize(("vary", "offered"), [(("split",), False), (("order",), True)])
def test_no_ensemble_is_offered_over_different_test_sets(vary: tuple[str, ...], offered: bool, tmp_path: Path) -> None:
    probs, targets = classes()

    def outcome(spec: Any) -> dict[str, Any]:
        return {
            "metrics": {"test/accuracy": normal(spec.seed)},
            "predictions": {"test": saved(probs[spec.seed], targets)},
        }

    store = sweep_of(tmp_path / "d", outcome, seeds=range(4))
    store.manifest = replace(store.manifest, experiment={**store.manifest.experiment, "vary": list(vary)})
    assert any(command.startswith("sweep ensemble") for command in report.build(store).next) == offered
