"""Pictures hold the numbers they show, in every format, and leave matplotlib as they found it."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from finished import accuracies, failure, normal, sweep_of

mpl.use("Agg")

from matplotlib import pyplot as plt

from sweep import aggregate
from sweep.errors import StatisticsError
from sweep.report import figures
from sweep.stats import t_interval

SEEDS = range(6)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def logged(spec):
    rng = np.random.default_rng(spec.seed)
    length = 5 if spec.seed == 1 else 12
    rows = [{"step": s, "train/loss": 3 / s + rng.normal(0, 0.1)} for s in range(1, length + 1)]
    if spec.seed == 2:
        rows[3]["train/loss"] = math.nan
    made = {"history": rows, "metrics": {"test/accuracy": normal(spec.seed)}}
    return {**made, "failure": failure("diverged", "nan")} if spec.seed == 1 else made


@pytest.fixture
def store(tmp_path):
    return sweep_of(tmp_path / "d", logged, seeds=SEEDS, variants=["a", "b"])


def test_members_draw_each_seed_and_the_t_interval(tmp_path):
    values = {s: normal(s) for s in SEEDS}
    axes = figures.members(aggregate.frame(sweep_of(tmp_path / "d", accuracies(values), seeds=SEEDS)), "test/accuracy")
    dots, interval, mean = axes.lines
    expected = t_interval(list(values.values()))
    assert sorted(dots.get_xdata()) == sorted(values.values())
    assert list(interval.get_xdata()) == [expected.low, expected.high]
    assert mean.get_xdata()[0] == pytest.approx(np.mean(list(values.values())))
    assert "over seeds, this split and test set" in axes.get_title(loc="left")
    assert axes.get_xlabel() == "test/accuracy ↑"


def test_members_count_what_they_do_not_draw(store):
    axes = figures.members(aggregate.frame(store), "test/accuracy")
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "a\nn = 5 of 6\n1 failed",
        "b\nn = 5 of 6\n1 failed",
    ]
    assert "over converged seeds" in axes.get_title(loc="left")
    assert len(axes.lines[0].get_xdata()) == 5


def test_one_seed_has_no_interval(tmp_path):
    axes = figures.members(aggregate.frame(sweep_of(tmp_path / "d", accuracies({0: 0.9}), seeds=[0])), "test/accuracy")
    assert [line.get_linestyle() for line in axes.lines] == ["None", "None"]


def test_curves_draw_the_pointwise_band_where_values_were_logged(store):
    history = aggregate.history(store)
    axes = figures.curves(history, "train/loss", runs=aggregate.frame(store))
    counted = (history["variant"] == "a") & (history["seed"] != 1)  # seed 1 failed: the table leaves it out as well
    found = aggregate.band(history[counted], "train/loss")
    line = next(line for line in axes.lines if str(line.get_label()).startswith("a: "))
    assert list(line.get_xdata()) == found["step"].tolist() == list(range(1, 13))
    assert list(line.get_ydata()) == found["mean"].tolist()
    assert "pointwise" in axes.get_title(loc="left")


def test_curves_say_how_many_seeds_are_behind_each_step(store):
    axes = figures.curves(aggregate.history(store), "train/loss", runs=aggregate.frame(store))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        "a: n = 5, 4 from step 4, 5 from step 5",
        "b: n = 5, 4 from step 4, 5 from step 5",
        "failed run",
    ]


def test_a_nan_leaves_a_gap(store):
    axes = figures.curves(aggregate.history(store), "train/loss")
    broken = [line for line in axes.lines if np.isnan(np.asarray(line.get_ydata(), dtype=float)).any()]
    assert len(broken) == 2


def test_a_run_that_ends_early_does_not_leave_silently(store):
    axes = figures.curves(aggregate.history(store), "train/loss")
    assert "run that ended early" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_long_history_is_thinned_visibly(tmp_path):
    rows = [{"step": s, "x": float(s)} for s in range(1, 5001)]
    store = sweep_of(tmp_path / "d", lambda _: {"history": rows}, seeds=[0, 1])
    axes = figures.curves(aggregate.history(store), "x")
    assert axes.get_xlabel() == "step (every 5th drawn)"
    assert max(len(line.get_xdata()) for line in axes.lines) <= 1001
    assert axes.lines[-1].get_xdata()[-1] == 5000


def test_axes_can_be_given(store):
    figure, (left, right) = plt.subplots(1, 2)
    assert figures.members(aggregate.frame(store), "test/accuracy", ax=left) is left
    assert figures.curves(aggregate.history(store), "train/loss", ax=right) is right
    assert plt.get_fignums() == [figure.number]


def test_matplotlib_keeps_its_settings(store):
    mpl.rcdefaults()
    before = mpl.rcParams.copy()
    figures.members(aggregate.frame(store), "test/accuracy")
    assert mpl.rcParams == before


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_equal_figures_are_equal_files(tmp_path, store, kind):
    files = []
    for name in ("first", "second"):
        axes = figures.curves(aggregate.history(store), "train/loss", runs=aggregate.frame(store))
        figures.save(axes, tmp_path / f"{name}.{kind}")
        files.append((tmp_path / f"{name}.{kind}").read_bytes())
    assert files[0] == files[1]
    if kind == "svg":
        assert b"pointwise" in files[0]


@pytest.mark.parametrize("name", ["$x^2", "a_b$", "\\frac{", "<script>", "🙂"])
def test_names_are_not_formulas(tmp_path, name):
    outcome = {"history": [{"step": 1, name: 1.0}, {"step": 2, name: 2.0}], "metrics": {name: 1.0}}
    store = sweep_of(tmp_path / "d", lambda s: outcome, seeds=[0, 1], config={"primary": name})
    for axes in (figures.curves(aggregate.history(store), name), figures.members(aggregate.frame(store), name)):
        if name != "🙂":  # the default font has no such glyph and warns of it
            figures.save(axes, tmp_path / "x.svg")


def test_a_metric_that_was_never_logged_names_those_that_were(store):
    with pytest.raises(StatisticsError, match="'val/loss' was never logged\n  logged: train/loss"):
        figures.curves(aggregate.history(store), "val/loss")


def test_no_tick_stands_between_two_steps():
    history = pd.DataFrame({
        "task": "", "variant": "", "seed": 1, "repeat": 0, "step": range(1, 21), "val/loss": np.linspace(1, 0, 20),
    })  # fmt: skip
    ticks = figures.curves(history, "val/loss").get_xticks()
    assert [float(tick).is_integer() for tick in ticks] == [True] * len(ticks)
