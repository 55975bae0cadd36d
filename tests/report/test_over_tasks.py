"""Several tasks with references: profiles, the probability of improvement and the curve over the steps of training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import failure, sweep_of

import sweep
from sweep import report, stats
from sweep.cli.app import main
from sweep.plan import RunSpec, folder_name
from sweep.report import sentence
from sweep.report.html import page
from sweep.store import Store

TASKS = [f"t{i}" for i in range(12)]
FOLDERS = [folder_name(name, name) for name in TASKS]
SCALE = {name: [10.0 * i, 10.0 * i + 100 + i] for i, name in enumerate(TASKS)}
STEPS = (100, 200, 400, 800)


def value(spec: RunSpec, step: int = 800) -> float:
    """Return a score between the references, rising with the steps."""
    i = FOLDERS.index(spec.task)
    low, high = SCALE[TASKS[i]]
    chance = np.random.default_rng([spec.seed, i, spec.variant == "b"]).normal(0, 0.1)
    return low + (high - low) * (0.8 + 0.1 * (spec.variant == "b") + chance) * (1 - math.exp(-step / 200))


def logged(spec: RunSpec, steps: tuple[int, ...] = STEPS) -> dict[str, Any]:
    rows = [{"step": step, "test/accuracy": value(spec, step)} for step in steps]
    return {"metrics": {"test/accuracy": value(spec)}, "history": rows}


def built(
    path: Path, outcome: Callable[[RunSpec], dict[str, Any] | None] = logged, *, tasks: int = 12, **options: Any
) -> report.Report:
    config = {"references": {name: SCALE[name] for name in TASKS[:tasks]}}
    options = {"seeds": range(3), "variants": ("a", "b")} | options
    store = sweep_of(path / "d", outcome, tasks=FOLDERS[:tasks], config=config, **options)
    return report.build(store, curves=True)


def normalised(variant: str, seeds: int, step: int = 800, tasks: int = 12) -> np.ndarray:
    """Return what `value` gives, normalised by hand: (tasks, seeds)."""
    rows = []
    for i in range(tasks):
        its = [np.random.default_rng([seed, i, variant == "b"]).normal(0, 0.1) for seed in range(seeds)]
        rows.append((0.8 + 0.1 * (variant == "b") + np.array(its)) * (1 - math.exp(-step / 200)))
    return np.array(rows)


def test_a_directory_of_tasks_is_seen_as_rliable_sees_it(tmp_path: Path) -> None:
    made = built(tmp_path)
    a, b = made.across
    for one in (a, b):
        scores = normalised(one.variant, 3)
        assert one.profile is not None
        shares = [(scores > at).mean() for at in one.profile.at]
        assert one.profile.value == pytest.approx(shares, abs=1e-9)
        assert one.iqm == pytest.approx(stats.iqm(list(scores)), abs=1e-9)
    (better,) = made.improvements
    gaps = normalised("b", 3)[:, :, None] - normalised("a", 3)[:, None, :]
    assert (better.a, better.b) == ("b", "a")
    assert better.probability == pytest.approx((gaps > 0).mean(), abs=1e-9)
    assert better.low is not None
    assert better.low < better.probability
    for curve in made.progress:
        assert curve.curve is not None
        assert curve.curve.at == STEPS
        middle = [stats.iqm(list(normalised(curve.variant, 3, step))) for step in STEPS]
        assert curve.curve.value == pytest.approx(middle, abs=1e-9)
        heights = np.array([normalised(curve.variant, 3, step) for step in STEPS])
        area = np.trapezoid(heights, STEPS, axis=0) / 700
        assert curve.area == pytest.approx(stats.iqm(list(area)), abs=1e-9)
        assert [one.step for one in curve.reached] == [
            next((step for step, one in zip(STEPS, middle, strict=True) if one >= at), math.inf) for at in (0.5, 0.9)
        ]
        assert curve.reached[0].earliest <= curve.reached[0].step <= curve.reached[0].latest


def test_it_is_shown_in_the_short_report_the_full_one_the_page_json_and_python(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = built(tmp_path)
    capfd.readouterr()
    assert main(["report", str(tmp_path / "d")]) == 0
    short = " ".join(capfd.readouterr().out.split())
    assert "over 12 tasks: B (b) has the highest interquartile mean of normalised test/accuracy" in short
    assert "across tasks, normalised" in short
    assert "0 of 72 runs failed" in short
    assert "probability of improvement" not in short
    assert main(["report", str(tmp_path / "d"), "--full"]) == 0
    full = " ".join(capfd.readouterr().out.split())
    assert "b over a" in full
    assert "steps to 0.5" in full
    assert main(["report", str(tmp_path / "d"), "--json"]) == 0
    body = json.loads(capfd.readouterr().out)
    assert body["improvements"][0]["probability"] == made.improvements[0].probability
    assert body["progress"][1]["curve"]["value"] == list(made.progress[1].curve.value)  # type: ignore[union-attr]
    assert body["across"][0]["profile"]["low"] == list(made.across[0].profile.low)  # type: ignore[union-attr]
    shown = page(Store.open(tmp_path / "d"))
    assert "Performance profiles" in shown
    assert shown.index('id="tasks"') < shown.index('id="result"')
    results = sweep.open(tmp_path / "d")
    assert results.report.progress == made.progress
    for kind in ("profiles", "progress"):
        (axes,) = results.plot(kind).axes  # type: ignore[arg-type]
        assert len(axes.lines) == 2
        assert len(axes.collections) == 2  # their bands
    assert len(results.report.across) == 2


def test_failed_pending_and_ragged_seeds_leave_those_that_every_task_has(tmp_path: Path) -> None:
    def ragged(spec: RunSpec) -> dict[str, Any] | None:
        if spec.task == FOLDERS[0] and spec.seed == 0 and spec.variant == "a":
            return {"failure": failure()}
        return None if spec.task == FOLDERS[1] and spec.seed == 4 else logged(spec)

    made = built(tmp_path, ragged, seeds=range(5))
    a, b = made.across
    assert (a.seeds, a.planned, b.seeds) == (3, 5, 4)
    assert made.improvements[0].seeds == (4, 3)
    assert [one.seeds for one in made.progress] == [3, 4]
    scores = normalised("a", 5)[:, 1:4]
    assert a.iqm == pytest.approx(stats.iqm(list(scores)), abs=1e-9)
    assert "1 of 120 runs failed" in report.brief_text(made)


def test_a_task_in_which_every_seed_failed_leaves_no_number_and_says_so(tmp_path: Path) -> None:
    made = built(tmp_path, lambda spec: {"failure": failure()} if spec.task == FOLDERS[3] else logged(spec))
    assert made.improvements == ()
    assert made.progress == ()
    assert {sentence.why(one) for one in made.across} == {"no seed finished in every task"}
    assert "no seed finished in every task" in report.text(made)


def test_equal_seeds_have_a_curve_without_width_and_a_profile_with_one(tmp_path: Path) -> None:
    def equal(spec: RunSpec) -> dict[str, Any]:
        low, high = SCALE[TASKS[FOLDERS.index(spec.task)]]
        mid = low + (high - low) / 2
        return {"metrics": {"test/accuracy": mid}, "history": [{"step": 1, "test/accuracy": mid}]}

    made = built(tmp_path, equal)
    first = made.across[0]
    assert (first.iqm_low, first.iqm, first.iqm_high) == pytest.approx((0.5, 0.5, 0.5))
    assert made.improvements[0].probability == 0.5
    curve = made.progress[0]
    assert curve.area == pytest.approx(0.5)
    assert "over the steps of training" in report.text(made)
    sweep.open(tmp_path / "d").plot("progress")  # one step is a dot


@pytest.mark.parametrize(("tasks", "seeds"), [(2, 3), (12, 1)])
def test_few_tasks_or_one_seed_have_values_without_limits(tmp_path: Path, tasks: int, seeds: int) -> None:
    made = built(tmp_path, tasks=tasks, seeds=range(seeds))
    assert made.improvements[0].low is None
    assert math.isnan(made.progress[0].reached[0].latest)
    assert made.progress[0].area_low is None
    text = report.text(made)
    assert "no interval" in text
    assert "nan" not in text
    assert "too few tasks or seeds for a band" in page(Store.open(tmp_path / "d")).replace("\n", " ")


def test_runs_that_log_at_other_steps_keep_the_value_that_they_logged_last(tmp_path: Path) -> None:
    def odd(spec: RunSpec) -> dict[str, Any]:
        return logged(spec, (150, 450, 800) if spec.seed == 1 else STEPS)

    for curve in built(tmp_path, odd).progress:
        assert curve.curve is not None
        assert curve.curve.at == (150, 200, 400, 450, 800)  # from the first step that all have reached
        at = {150: (100, 150, 100), 200: (200, 150, 200), 400: (400, 150, 400), 450: (400, 450, 400), 800: (800,) * 3}
        for step, middle in zip(curve.curve.at, curve.curve.value, strict=True):
            held = np.stack([normalised(curve.variant, 3, last)[:, seed] for seed, last in enumerate(at[int(step)])])
            assert middle == pytest.approx(stats.iqm(list(held.T)), abs=1e-9)


def test_what_was_not_logged_has_no_curve(tmp_path: Path) -> None:
    without = built(tmp_path / "a", lambda spec: {"metrics": {"test/accuracy": value(spec)}}, tasks=2)
    assert without.progress == ()
    some = built(tmp_path / "b", lambda s: logged(s) if s.seed else {"metrics": {"test/accuracy": value(s)}}, tasks=2)
    assert {sentence.why(one) for one in some.progress} == {"not every run logged the metric"}
    apart = built(tmp_path / "c", lambda s: logged(s, (100,) if s.seed else (800,)), tasks=2)
    assert {one.curve for one in apart.progress} == {None}
    assert "no step lies within" in report.text(apart)
