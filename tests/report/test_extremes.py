"""Huge, tiny and constant metrics: each is shown as it is, and none costs the others their numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from finished import failure, normal, sweep_of

from sweep import report
from sweep.errors import StatisticsError
from sweep.report import comparison
from sweep.report.html import page
from sweep.stats import summarise
from sweep.store import Store

A, B = "a-000001", "b-000002"
NUMBER = r"[-+]?[0-9.]+(?:e[-+][0-9]+)?"


def made(path: Path, scale: float, *, primary: str = "test/accuracy", variants: tuple[str, ...] = (A, B)) -> Store:
    def outcome(spec: Any) -> dict[str, Any]:
        value = normal(spec.seed + 100 * (spec.variant == B))
        rows = [{"step": step, "test/x": scale * value / step} for step in (1, 2, 3)]
        return {"metrics": {"test/accuracy": value, "test/x": scale * value}, "history": rows}

    return sweep_of(path, outcome, seeds=range(5), variants=variants, config={"primary": primary})


@pytest.mark.parametrize(
    ("scale", "primary"),
    [
        *((scale, "test/x") for scale in (1e30, 1e150, 1e200, 1.7e308, -1e200, 1e-7, 1e-300)),
        *((scale, "test/accuracy") for scale in (1.7e308, -1e200, 1e-300)),
    ],
)
def test_a_metric_of_any_size_has_a_report_in_every_format(scale: float, primary: str, tmp_path: Path) -> None:
    store = made(tmp_path / "d", scale, primary=primary)
    found = report.build(store)
    row = next(row for row in found.rows if row.metric == "test/x")
    values = [scale * normal(seed) for seed in range(5)]
    assert (row.min, row.max) == (min(values), max(values))
    assert row.mean == pytest.approx(scale * (sum(map(normal, range(5))) / 5))
    assert row.sd is None or row.sd == pytest.approx(abs(scale) * summarise([*map(normal, range(5))]).sd)
    for text in (report.text(found), report.markdown(found), report.latex(found), page(store)):
        assert "0.90" in text  # the accuracies are there, whatever the other metric is
    shown = re.search(rf"^ +a +5 +({NUMBER}) .* ({NUMBER}) to ({NUMBER})", report.text(found).split("test/x")[-1], re.M)
    if shown:
        mean, low, high = map(float, shown.groups())
        assert low <= mean <= high
        assert low < high


def test_a_huge_metric_does_not_cost_a_comparison_and_is_refused_by_name(tmp_path: Path) -> None:
    store = made(tmp_path / "d", 1e200)
    found = comparison.compare(store)
    assert found.pairs[0].difference is not None
    assert [one.metric for one in found.exploratory] == []
    with pytest.raises(StatisticsError, match=r"test/x of a is 9\.\d+e\+199 at seed \d"):
        comparison.compare(store, metric="test/x")


@pytest.mark.parametrize(("scale", "least"), [(1e-7, 1e-10), (900.0, 1.0)])
def test_a_page_compares_with_the_digits_that_the_interval_supports(scale: float, least: float, tmp_path: Path) -> None:
    store = made(tmp_path / "d", scale, primary="test/x")
    found = comparison.compare(store)
    made_ = found.pairs[0]
    section = re.sub("<svg.*?</svg>", "", page(store, comparison=found), flags=re.S).partition('id="variants"')[2]
    difference = re.search(r"(\S+) \(95 % CI (\S+) to ([^,]+),", section)
    assert difference
    numbers = [float(n) for n in difference.groups()]
    assert made_.difference
    assert made_.interval
    wanted = [made_.difference.estimate, made_.interval.low, made_.interval.high]
    assert numbers == pytest.approx(wanted, abs=0.051 * made_.interval.half_width)
    digits = [n.partition("e")[0].lstrip("+-0.").replace(".", "") for n in difference.groups()]
    assert max(map(len, digits)) <= 4


def test_values_without_spread_are_shown_as_they_are(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        return {"metrics": {"test/accuracy": 0.9 if spec.variant == A else 0.9005}}

    text = comparison.text(comparison.compare(sweep_of(tmp_path / "d", outcome, seeds=range(4), variants=(A, B))))
    assert re.search(r"^  A  a +4 +0\.9 ", text, re.M)
    assert re.search(r"^  B  b +4 +0\.9005 ", text, re.M)


def test_percent_leaves_what_is_no_share_of_one(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "d", lambda s: {"metrics": {"test/accuracy": 91.5 + s.seed / 10, "test/f1": 0.5}})
    found = report.build(store)
    table = report.markdown(found, in_percent=True, metrics=["test/accuracy", "test/f1"])
    assert "| 91.60 ± " in table
    assert "test/accuracy ± 95 %" in table
    assert "test/f1 (%)" in table
    assert "test/accuracy reaches 91.7, so it is not a share of one" in table


def test_a_page_says_whose_failures_they_are_and_which_variant_is_best(tmp_path: Path) -> None:
    variants = [f"lr-{i}-00000{i}" for i in range(6)]

    def outcome(spec: Any) -> dict[str, Any]:
        return {"metrics": {"test/loss": normal(spec.seed, 0.5) + 1e-5 * int(spec.variant[3])}}

    store = sweep_of(tmp_path / "d", outcome, seeds=range(6), variants=variants, config={"primary": "test/loss"})
    text = page(store, comparison=comparison.compare(store))
    assert "A (lr=0) has the best mean" in text or "A (lr-0) has the best mean" in text

    def failing(spec: Any) -> dict[str, Any]:
        broken = (spec.variant, spec.seed) in {(variants[1], 2), (variants[4], 3)}
        return {"failure": failure()} if broken else outcome(spec)

    store = sweep_of(tmp_path / "e", failing, seeds=range(6), variants=variants, config={"primary": "test/loss"})
    text = page(store)
    section = text[text.index('id="failures"') :]
    rows = re.findall(r">(lr-\d)</th><td [^>]*>(\d of \d)<", section)
    assert rows == [("lr-1", "1 of 6"), ("lr-4", "1 of 6")]
    assert "no seed of the 4 other rows failed" in section


def test_a_page_names_the_better_arm_of_a_loss(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        own = normal(spec.seed + 50 * (spec.variant == B))
        return {"metrics": {"test/loss": normal(spec.seed, 0.5) + own + 0.1 * (spec.variant == B)}}

    store = sweep_of(tmp_path / "d", outcome, seeds=range(6), variants=(A, B), config={"primary": "test/loss"})
    found = comparison.compare(store)
    assert found.pairs[0].verdict == "b"  # B's mean is the larger
    text = page(store, comparison=found)
    assert "a is better than b in test/loss" in text


def test_the_best_seed_stands_beside_the_expected_best(tmp_path: Path) -> None:
    store = made(tmp_path / "d", 1.0, variants=("",))
    spread = report.build(store).spreads[0]
    found = summarise([*map(normal, range(5))])
    assert spread.best == found.max
    assert spread.expected == pytest.approx(found.mean + spread.inflation)
    assert re.search(r'data-of="expected by chance">0\.9', page(store))


def test_where_nothing_failed_one_sentence_bounds_the_rate_of_every_variant(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        return {"metrics": {"test/loss": normal(spec.seed, 0.5)}}

    made = {"seeds": range(6), "config": {"primary": "test/loss"}}
    several = page(sweep_of(tmp_path / "d", outcome, variants=[f"lr-{i}-00000{i}" for i in range(6)], **made))
    said = "none of 6 seeds failed in any of 6 variants: a failure rate of 0 % to 46 % in each (95 % CI)"
    assert said in several
    assert "0 of 6" not in several[several.index('id="failures"') :]  # it had named the first variant alone
    assert "0 of 6" in page(sweep_of(tmp_path / "e", outcome, **made))
