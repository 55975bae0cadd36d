"""Seeds with splits of their own: the interval is for new data, or says that it is not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import normal, sweep_of
from predicted import classes, saved

from sweep import report
from sweep.analysis import adaptive
from sweep.errors import StatisticsError
from sweep.number import number
from sweep.report import comparison
from sweep.report.html import page
from sweep.results import Results
from sweep.stats import decide, paired_t, parse_gate, parse_until, summarise
from sweep.store import Store

A, B = "a-000001", "b-000002"
DESIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (("splits", ("split",)), ("one", ()))
EXAMPLES = {"train": 240, "val": 60, "test": 100}


def made(path: Path, *, examples: bool = True, vary: tuple[str, ...] = ("split",), gap: float = 0.004) -> Store:
    def outcome(spec: Any) -> dict[str, Any]:
        held = {"examples": EXAMPLES} if examples else {}
        value = normal(spec.seed) + gap * (spec.variant == B) + 0.001 * normal(spec.seed + 50, 0, (spec.variant == B))
        return {"metrics": {"test/accuracy": value}, "result": {"rule": "final", "epoch": 3, **held}}

    store = sweep_of(path, outcome, seeds=range(8), variants=(A, B))
    store.manifest = replace(store.manifest, experiment={**store.manifest.experiment, "vary": list(vary)})
    return store


def test_the_interval_holds_for_new_data(tmp_path: Path) -> None:
    store = made(tmp_path / "d")
    found = report.build(store)
    row = found.primary_rows[0]
    plain = summarise([normal(seed) for seed in range(8)])
    assert (row.mean, row.sd) == (plain.mean, plain.sd)
    assert row.high - row.mean == pytest.approx((plain.high - plain.mean) * math.sqrt(1 + 8 * 100 / 240))
    assert "new data" in found.headline
    summary = Results(store).summary()
    assert summary["low"].tolist()[0] == row.low
    assert "Nadeau" in summary["method"].tolist()[0]


def test_without_the_number_of_examples_nothing_is_claimed_of_new_data(tmp_path: Path) -> None:
    found = report.build(made(tmp_path / "d", examples=False))
    row = found.primary_rows[0]
    assert row.low == summarise([normal(seed) for seed in range(8)]).low
    assert "no statement about new data" in found.headline


def test_a_comparison_pays_for_the_shared_data(tmp_path: Path) -> None:
    store = made(tmp_path / "d")
    found = comparison.compare(store)
    pair = found.pairs[0]
    values = {
        v: [r.metrics["test/accuracy"] for m in store.scan() if m.variant == v and (r := m.record)] for v in (A, B)
    }
    plain = paired_t(values[A], values[B])
    assert pair.interval.half_width == pytest.approx(plain.interval.half_width * math.sqrt(1 + 8 * 100 / 240))
    assert pair.difference.p > plain.p
    assert pair.permutation is None
    assert comparison.to_json(found)["pairs"][0]["reading"].startswith("descriptive")


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


def test_a_gate_equivalence_and_effect_pay_for_the_shared_data_or_are_refused(tmp_path: Path) -> None:
    store = made(tmp_path / "d")
    wide = math.sqrt(1 + 8 * 100 / 240)
    plain = comparison.compare(
        made(tmp_path / "one", vary=()), margin=0.01, require=["test/accuracy >= base - 0.1", "test/accuracy >= 0.1"]
    )
    split = comparison.compare(store, margin=0.01, require=["test/accuracy >= base - 0.1", "test/accuracy >= 0.1"])
    for before, after in zip(plain.checks, split.checks, strict=True):
        assert after.decision.interval.half_width == pytest.approx(wide * before.decision.interval.half_width)
    (before,), (after,) = plain.pairs, split.pairs
    assert after.equivalence.interval.half_width == pytest.approx(wide * before.equivalence.interval.half_width)
    assert after.effect.g == before.effect.g
    assert after.effect.interval.half_width > before.effect.interval.half_width
    unknown = made(tmp_path / "unknown", examples=False)
    assert comparison.compare(unknown).pairs[0].effect is None
    for asked in ({"margin": 0.01}, {"require": ["test/accuracy >= base - 0.1"]}):
        with pytest.raises(StatisticsError, match="own split") as caught:
            comparison.compare(unknown, **asked)
        assert "examples" in str(caught.value)


def test_a_gate_over_splits_passes_a_candidate_at_its_bound_as_rarely_as_it_says() -> None:
    """Splits share data: the errors of ten are correlated by n_test/(n_test + n_train)."""
    rng, gate, ratio = np.random.default_rng(0), parse_gate("a >= base - 1"), 0.5
    shared, passed, without = ratio / (1 + ratio), 0, 0
    for _ in range(2000):
        gaps = -1 + math.sqrt(shared) * rng.normal() + math.sqrt(1 - shared) * rng.normal(size=10)
        base = rng.normal(size=10)
        held = {"paired": True, "deterministic": False}
        passed += decide(gate, base, base + gaps, ratio=ratio, **held).code == 0
        without += decide(gate, base, base + gaps, **held).code == 0
    assert passed / 2000 < 0.025 + 3 * math.sqrt(0.025 / 2000)
    assert without / 2000 > 0.1  # the negative control


def test_seeds_are_not_said_to_narrow_what_the_shared_data_keep_wide(tmp_path: Path) -> None:
    """With 8 splits of 100 of 340 examples no number of seeds shows a difference below 0.65 of its sd."""
    pairs = [comparison.compare(made(tmp_path / name, vary=v, gap=0.0)).pairs[0] for name, v in DESIGNS]
    assert [pair.verdict for pair in pairs] == ["none", "none"]
    assert [pair.planned is None for pair in pairs] == [True, False]


def test_a_width_that_a_rule_met_over_splits_is_not_called_one_for_new_data(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        held = {"rule": "final", "epoch": 3, "examples": EXAMPLES}
        return {"metrics": {"test/accuracy": normal(spec.seed)}, "result": held}

    def ruled(path: Path, vary: tuple[str, ...]) -> report.Report:
        store = sweep_of(path, outcome, seeds=range(20), config={"until": "test/accuracy ± 0.02"})
        rule = adaptive.Rule("test/accuracy ± 0.02", parse_until("test/accuracy ± 0.02"), 40)
        members, seeds = list(store.scan()), store.manifest.seeds
        looks = adaptive.look(rule, members, seeds)
        store.keep_until(adaptive.described(rule, looks, seeds, step=0.0))
        assert looks[0].state.state == "met"
        store.manifest = replace(store.manifest, experiment={**store.manifest.experiment, "vary": list(vary)})
        return report.build(store)

    held, split = ruled(tmp_path / "one", ()), ruled(tmp_path / "split", ("split",))
    assert "± 0.020" in held.headline
    assert "new data" not in held.stopping
    row = split.primary_rows[0]
    assert f"± {number(row.half_width, digits=2)}" in split.headline
    assert "descriptive" in split.headline
    assert "no statement about new data" in split.stopping
