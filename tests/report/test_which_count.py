"""Which runs count, and what is said of those that do not: failed, unshared or identical ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import failure, normal, sweep_of

from sweep import report
from sweep.analysis import frames, histories
from sweep.cli.app import main
from sweep.config import from_dict
from sweep.errors import ConfigError, StatisticsError
from sweep.plan import folder_name
from sweep.report import comparison, figures, sentence
from sweep.report.html import page
from sweep.stats import paired_t
from sweep.store import Predictions, Store

A, B = "a-000001", "b-000002"


def scores(shift: float) -> Any:
    def outcome(spec: Any) -> dict[str, Any]:
        own = 1e-4 * normal(spec.seed + 70 + int(1000 * shift), 0, 1)
        return {"metrics": {"test/accuracy": normal(spec.seed) + shift + own}}

    return outcome


def test_a_band_is_over_the_runs_of_the_table(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        rows = [{"step": step, "val/loss": float(spec.seed)} for step in (1, 2, 3)]
        if spec.seed >= 3:
            return {"failure": failure(), "history": rows}
        return {"metrics": {"test/accuracy": normal(spec.seed)}, "history": rows}

    store = sweep_of(tmp_path / "d", outcome, seeds=range(6))
    members = list(store.scan())
    drawn = figures.curves(histories.read(store, members).frame("val/loss"), "val/loss", runs=frames.frame(store))
    assert [text.get_text() for text in drawn.axes[0].get_legend().get_texts()] == ["n = 3", "failed run"]
    assert ">n = 3<" in page(store)
    assert frames.seed_values(frames.frame(store), "test/accuracy")[0].tolist() == [0, 1, 2]


def test_a_figure_leaves_failed_runs_out_of_its_mean(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        rows = [{"step": step, "val/loss": float(spec.seed)} for step in (1, 2)]
        made: dict[str, Any] = {"failure": failure()} if spec.seed == 9 else {"metrics": {"test/accuracy": 0.5}}
        return {**made, "history": rows}

    store = sweep_of(tmp_path / "d", outcome, seeds=[0, 1, 2, 9])
    axes = figures.curves(frames.history(store), "val/loss", runs=frames.frame(store)).axes[0]
    thick = [line for line in axes.lines if line.get_label() == "mean"]
    assert np.asarray(thick[0].get_ydata()).tolist() == [1.0, 1.0]


def two(path: Path, first: Any, second: Any) -> list[Store]:
    return [sweep_of(path / "one", scores(0.0), seeds=first), sweep_of(path / "two", scores(0.01), seeds=second)]


def test_arms_that_share_most_seeds_are_paired_by_these(tmp_path: Path) -> None:
    stores = two(tmp_path, range(10), range(9))
    found = comparison.compare(*stores)
    pair = found.pairs[0]
    values = [[scores(shift)(spec)["metrics"]["test/accuracy"] for spec in map(Seed, range(9))] for shift in (0, 0.01)]
    assert pair.difference == paired_t(*values)
    assert pair.difference.p < 1e-6 < comparison.compare(*stores, paired=False).pairs[0].difference.p
    assert "9 seeds that both sides plan" in found.why
    assert "--seeds 9" in found.next[0]
    assert str(stores[1].path) in found.next[0]
    assert str(stores[0].path) not in found.next[0]


class Seed:
    def __init__(self, seed: int) -> None:
        self.seed = seed


def test_arms_that_share_few_seeds_are_not_paired(tmp_path: Path) -> None:
    found = comparison.compare(*two(tmp_path, range(10), range(7, 17)))
    assert not found.paired
    assert found.pairs[0].difference.n_a == 10


def test_three_against_three_is_never_significant(tmp_path: Path) -> None:
    stores = two(tmp_path, range(3), range(3))
    apart = sweep_of(tmp_path / "apart", scores(0.5), seeds=range(3))
    pair = comparison.compare(stores[0], apart).pairs[0]
    assert pair.superiority.probability == 0.0
    assert pair.superiority.interval.high < 0.5  # the interval alone would call it significant
    assert pair.reading == "too few seeds to be significant"


@pytest.mark.parametrize(
    ("metric", "gate", "goal"),
    [("test/loss", "test/loss >= base - 0.005", "min"), ("test/accuracy", "test/accuracy <= base + 0.01", "max"),
     ("test/loss", "test/loss >= 0.3", "min"), ("test/accuracy", "test/accuracy <= base * 0.9", "max")],
)  # fmt: skip
def test_a_gate_that_the_worse_passes_is_refused(metric: str, gate: str, goal: str, tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        return {"metrics": {metric: normal(spec.seed)}}

    store = sweep_of(tmp_path / "d", outcome, seeds=range(4), variants=(A, B), config={"primary": metric})
    with pytest.raises(ConfigError, match=f"its goal is {goal}"):
        comparison.compare(store, require=[gate])
    turned = gate.replace(">=", "?").replace("<=", ">=").replace("?", "<=")
    assert comparison.compare(store, require=[turned]).checks


def test_a_share_of_a_negative_base_is_refused(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        return {"metrics": {"test/reward": -normal(spec.seed, 100.0)}}

    config = {"primary": "test/reward", "goals": {"reward": "max"}}
    store = sweep_of(tmp_path / "d", outcome, seeds=range(4), variants=(A, B), config=config)
    with pytest.raises(StatisticsError, match="negative"):
        comparison.compare(store, require=["test/reward >= base * 0.9"])
    assert comparison.compare(store, require=["test/reward >= base - 0.9"]).checks


def test_a_gate_on_one_directory_says_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = sweep_of(tmp_path / "d", scores(0.0), seeds=range(6))
    assert main(["compare", str(store.path), "--require", "test/accuracy >= 0.5"]) == 0
    told = capsys.readouterr().out
    assert "passed     test/accuracy >= 0.5" in told
    assert "paired" not in told
    assert told.startswith("gate on test/accuracy")


def test_the_level_of_a_comparison_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(store.path) for store in two(tmp_path, range(6), range(6))]
    assert main(["compare", *paths, "--level", "0.9", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["level"] == made["pairs"][0]["interval"]["level"] == 0.9


def constant(spec: Any) -> dict[str, Any]:
    return {"metrics": {"test/accuracy": 0.9, "test/nll": 0.31415926535}, "digests": {}}


def logging(spec: Any) -> dict[str, Any]:
    rows = [{"step": step, "val/accuracy": round(1 - 1 / step, 2)} for step in range(1, 30)]
    return {"metrics": {"test/accuracy": 0.9}, "digests": {}, "history": rows}


def timed(spec: Any) -> dict[str, Any]:
    made = constant(spec)
    return {**made, "metrics": {**made["metrics"], "seconds": 1.5 + spec.seed, "train/runtime": normal(spec.seed)}}


def predicting(spec: Any) -> dict[str, Any]:
    same = spec.seed in (1, 2)
    probs = np.random.default_rng(1 if same else spec.seed).dirichlet([1, 1], 20)
    sets = {"test": Predictions(np.arange(20), np.arange(20) % 2, probs=probs)}
    return {"metrics": {"test/accuracy": normal(spec.seed)}, "predictions": sets, "digests": {}}


@pytest.mark.parametrize(
    ("outcome", "which"),
    [(constant, (0, 1, 2, 3)), (timed, (0, 1, 2, 3)), (logging, (0, 1, 2, 3)), (predicting, (1, 2))],
)
def test_members_that_are_the_same_are_named(outcome: Any, which: tuple[int, ...], tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "d", outcome, seeds=range(4))
    other = sweep_of(tmp_path / "e", scores(0.0), seeds=range(4))
    keys = tuple(f"seed{seed}" for seed in which)
    found = report.build(store)
    assert found.identical == (keys,)
    assert report.to_json(found)["identical"] == [list(keys)]
    for told in (found.warnings, comparison.compare(store, other).warnings):
        assert any(all(key in text for key in keys) and "ignore its seed" in text for text in told)
    assert report.build(other).identical == ()


@pytest.mark.parametrize(
    "metrics",
    [{"test/accuracy": 0.9}, {"test/accuracy": 167 / 180, "test/error": 13 / 180}, {"loss": 0.4712, "f1": 0.0},
     {"test/accuracy": float(np.float32(9123 / 10_000))}, {"test/accuracy": float(np.float32(6387 / 7000))}],
    ids=str,
)  # fmt: skip
def test_equal_metrics_that_may_be_counts_or_were_rounded_are_no_sign_of_an_ignored_seed(
    metrics: dict[str, float], tmp_path: Path
) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        probs = np.random.default_rng(spec.seed).dirichlet([1, 1], 20)
        sets = {"test": Predictions(np.arange(20), np.arange(20) % 2, probs=probs)} if spec.seed > 10 else {}
        return {"metrics": metrics, "predictions": sets, "digests": {}}

    for seeds in (range(3), range(11, 14)):  # without predictions, and with unlike ones
        store = sweep_of(tmp_path / str(seeds.start), outcome, seeds=seeds)
        assert report.build(store).identical == ()


def test_histories_that_differ_show_that_the_seed_has_an_effect(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        return {**constant(spec), "history": [{"step": 1, "val/loss": normal(spec.seed)}]}

    assert report.build(sweep_of(tmp_path / "d", outcome, seeds=range(4))).identical == ()


def test_one_equal_number_is_no_sign_of_an_ignored_seed(tmp_path: Path) -> None:
    store = sweep_of(
        tmp_path / "d", lambda s: {"metrics": {"test/accuracy": 0.9 if s.seed < 2 else 0.8}, "digests": {}}
    )
    assert report.build(store).identical == ()


@pytest.mark.parametrize("pair", [[1, 1], [0.5, float("inf")], [0.9, 0.1]])
def test_references_that_cannot_be_used_are_refused_before_the_start(pair: list[float]) -> None:
    given = {"tasks": {"a": {"params": {}}, "b": {"params": {}}}, "primary": "test/accuracy"}
    with pytest.raises(ConfigError, match="references"):
        from_dict({**given, "references": {"a": pair, "b": [0, 1]}})
    assert from_dict({**given, "references": {"a": [0.1, 0.9], "b": [0, 1]}}).references


def test_a_report_does_not_die_of_one_table(tmp_path: Path) -> None:
    store = sweep_of(
        tmp_path / "d",
        scores(0.0),
        tasks=[folder_name(name, name) for name in "ab"],
        config={"references": {"a": [1, 1], "b": [0, 1]}},
    )
    found = report.build(store)
    assert "span a scale" in sentence.why(found.across[0])
    assert "test/accuracy" in report.text(found)
