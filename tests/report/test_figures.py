"""Pictures hold the numbers they show, in every format, and leave matplotlib as they found it."""

from __future__ import annotations

import math
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from finished import accuracies, failure, normal, sweep_of
from matplotlib.text import Text
from predicted import classes, saved

from sweep.analysis import frames
from sweep.errors import StatisticsError
from sweep.report import comparison, ensemble_figures, figures
from sweep.report.ensemble import worth
from sweep.stats import t_interval

SEEDS = range(6)


def words(figure):
    """Return every text of a figure, with those of its legends."""
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def told(figure):
    return " ".join(" ".join(words(figure)).split())


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
    made = figures.members(frames.frame(sweep_of(tmp_path / "d", accuracies(values), seeds=SEEDS)), "test/accuracy")
    dots, interval, mean = made.axes[0].lines
    expected = t_interval(list(values.values()))
    assert sorted(dots.get_xdata()) == sorted(values.values())
    assert list(interval.get_xdata()) == [expected.low, expected.high]
    assert mean.get_xdata()[0] == pytest.approx(np.mean(list(values.values())))
    assert "over seeds, this split and test set" in told(made)
    assert made.axes[0].get_xlabel() == "test/accuracy ↑"


@pytest.mark.parametrize("size", ["screen", "card", "wide", "column", "page"])
def test_members_count_what_they_do_not_draw(store, size):
    made = figures.members(frames.frame(store), "test/accuracy", size=size)
    said = told(made)
    assert all(part in said for part in ("a", "b", "n = 5 of 6, 1 failed", "over finished seeds"))
    assert len(made.axes[0].lines[0].get_xdata()) == 5


def test_the_best_mean_stands_first(tmp_path):
    def outcome(spec):
        return {"metrics": {"test/loss": normal(spec.seed) + (spec.variant == "a")}}

    table = frames.frame(sweep_of(tmp_path / "d", outcome, variants=["a", "b"], config={"primary": "test/loss"}))
    said = words(figures.members(table, "test/loss"))
    assert [text.partition("\n")[0] for text in said if text.endswith("n = 3")] == ["b", "a"]


def test_one_seed_has_no_interval(tmp_path):
    made = figures.members(frames.frame(sweep_of(tmp_path / "d", accuracies({0: 0.9}), seeds=[0])), "test/accuracy")
    assert [line.get_linestyle() for line in made.axes[0].lines] == ["None", "None"]


def test_the_density_of_many_seeds_is_drawn_in_place_of_dots(tmp_path):
    values = {s: normal(s) for s in range(60)}
    table = frames.frame(sweep_of(tmp_path / "d", accuracies(values), seeds=values))
    made = figures.members(table, "test/accuracy").axes[0]
    assert len(made.lines) == 2
    (area,) = made.collections
    assert area.get_paths()[0].get_extents().x0 == pytest.approx(min(values.values()))


def test_a_forest_holds_the_simultaneous_intervals_against_the_best(tmp_path):
    def outcome(spec):
        shift = {"a": 0.0, "b": 0.5, "c": 1e-4}[spec.variant] + 1e-3 * normal(spec.seed + ord(spec.variant), 0, 1)
        return {"metrics": {"test/accuracy": normal(spec.seed) + shift}}

    store = sweep_of(tmp_path / "d", outcome, seeds=range(8), variants=["a", "b", "c"])
    found = comparison.compare(store)
    made = figures.forest(found)
    against = {pair.a.name: pair for pair in found.pairs if pair.b.name == "b"} | {
        pair.b.name: pair for pair in found.pairs if pair.a.name == "b"
    }
    spans = [sorted(np.abs(line.get_xdata())) for line in made.axes[0].lines if line.get_linestyle() == "-"][1:]
    expected = [sorted((abs(p.simultaneous.low), abs(p.simultaneous.high))) for p in against.values()]
    assert np.allclose(sorted(spans), sorted(expected))
    assert "for all 3 pairs together" in told(made)
    assert "difference from b" in told(made)


def test_a_forest_of_nothing_is_refused(tmp_path):
    found = comparison.compare(sweep_of(tmp_path / "d", lambda s: {"metrics": {"test/accuracy": 1.0}} if s.variant ==
                                        "a" else None, variants=["a", "b"]))  # fmt: skip
    with pytest.raises(StatisticsError, match="no difference"):
        figures.forest(found)


def test_curves_draw_the_pointwise_band_where_values_were_logged(store):
    history = frames.history(store)
    made = figures.curves(history, "train/loss", runs=frames.frame(store))
    counted = (history["variant"] == "a") & (history["seed"] != 1)  # seed 1 failed: the table leaves it out as well
    found = frames.band(history[counted], "train/loss")
    line = next(line for line in made.axes[0].lines if line.get_label() == "mean")
    assert list(line.get_xdata()) == found["step"].tolist() == list(range(1, 13))
    assert list(line.get_ydata()) == found["mean"].tolist()
    assert "pointwise" in told(made)


def test_curves_say_how_many_seeds_are_behind_each_step(store):
    made = figures.curves(frames.history(store), "train/loss", runs=frames.frame(store))
    texts = [text.get_text() for text in made.axes[0].get_legend().get_texts()]
    assert texts == [
        "a: n = 5, 4 from step 4, 5 from step 5",
        "b: n = 5, 4 from step 4, 5 from step 5",
        "failed run",
    ]


def test_a_nan_leaves_a_gap(store):
    axes = figures.curves(frames.history(store), "train/loss").axes[0]
    broken = [line for line in axes.lines if np.isnan(np.asarray(line.get_ydata(), dtype=float)).any()]
    assert len(broken) == 2


def test_a_run_that_ends_early_does_not_leave_silently(store):
    made = figures.curves(frames.history(store), "train/loss")
    assert "run that ended early" in told(made)


def test_a_long_history_is_thinned_visibly(tmp_path):
    rows = [{"step": s, "x": float(s)} for s in range(1, 5001)]
    store = sweep_of(tmp_path / "d", lambda _: {"history": rows}, seeds=[0, 1])
    axes = figures.curves(frames.history(store), "x").axes[0]
    assert axes.get_xlabel() == "step (every 25th drawn)"
    assert max(len(line.get_xdata()) for line in axes.lines) <= figures.MOST_POINTS + 1
    assert axes.lines[-1].get_xdata()[-1] == 5000


def one_history(values, variants=("",), seeds=(1,)):
    parts = [pd.DataFrame({"task": "", "variant": v, "seed": s, "repeat": 0, "step": range(1, len(values) + 1),
                           "val/loss": values, "val/accuracy": values}) for v in variants for s in seeds]  # fmt: skip
    return pd.concat(parts)


@pytest.mark.parametrize(("high", "scale"), [(9.0, "linear"), (11.0, "log")])
def test_an_axis_is_logarithmic_beyond_a_factor_of_ten(high, scale):
    history = one_history(np.linspace(high, 1, 20))
    assert figures.curves(history, "val/loss").axes[0].get_yscale() == scale
    assert figures.curves(history, "val/accuracy").axes[0].get_yscale() == "linear"


def test_four_variants_have_a_panel_each_and_three_share_one():
    four = figures.curves(one_history(np.linspace(3, 1, 20), variants="abcd"), "val/loss")
    assert [axes.get_title(loc="left").partition("\n")[0] for axes in four.axes] == ["a", "b", "c", "d"]
    assert len(figures.curves(one_history(np.linspace(3, 1, 20), variants="abc"), "val/loss").axes) == 1


def test_deciles_stand_for_more_than_ten_runs():
    few, many = (figures.curves(one_history(np.linspace(3, 1, 20), seeds=range(n)), "val/loss") for n in (10, 11))
    assert len(few.axes[0].lines) == 11
    assert len(many.axes[0].lines) == 1
    assert "deciles 1 to 9" in told(many)


def test_matplotlib_keeps_its_settings(store):
    mpl.use("Agg")
    before = mpl.rcParams.copy()
    figures.members(frames.frame(store), "test/accuracy")
    assert mpl.rcParams == before


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_equal_figures_are_equal_files(tmp_path, store, kind):
    files = []
    for name in ("first", "second"):
        made = figures.curves(frames.history(store), "train/loss", runs=frames.frame(store))
        figures.save(made, tmp_path / f"{name}.{kind}")
        files.append((tmp_path / f"{name}.{kind}").read_bytes())
    assert files[0] == files[1]
    if kind == "svg":
        assert b"pointwise" in files[0]


@pytest.mark.parametrize("name", ["$x^2", "a_b$", "\\frac{", "<script>", "🙂"])
def test_names_are_not_formulas(tmp_path, name):
    outcome = {"history": [{"step": 1, name: 1.0}, {"step": 2, name: 2.0}], "metrics": {name: 1.0}}
    store = sweep_of(tmp_path / "d", lambda s: outcome, seeds=[0, 1], config={"primary": name})
    for made in (figures.curves(frames.history(store), name), figures.members(frames.frame(store), name)):
        figures.save(made, tmp_path / "x.svg")


def test_a_metric_that_was_never_logged_names_those_that_were(store):
    with pytest.raises(StatisticsError, match="'val/loss' was never logged\n  name a logged metric: train/loss"):
        figures.curves(frames.history(store), "val/loss")


def test_no_tick_stands_between_two_steps():
    history = pd.DataFrame({
        "task": "", "variant": "", "seed": 1, "repeat": 0, "step": range(1, 21), "val/loss": np.linspace(1, 0, 20),
    })  # fmt: skip
    ticks = figures.curves(history, "val/loss").axes[0].get_xticks()
    assert [float(tick).is_integer() for tick in ticks] == [True] * len(ticks)


LONG = [f"optimizer-adamw-with-decoupled-weight-decay-lr-{lr}" for lr in (0.1, 0.01, 0.001, 0.0001, 0.00001)]


@pytest.fixture
def extents(monkeypatch):
    """Draw a figure, and return each text that was drawn with its box."""
    drawn, draw = [], Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, *given: (drawn.append(text), draw(text, *given))[1])

    def found(figure):
        drawn.clear()
        figure.draw_without_rendering()
        return [(text.get_text(), text.get_window_extent()) for text in drawn if text.get_text().strip()]

    return found


@pytest.mark.parametrize("size", ["screen", "card", "wide", "column", "page"])
@pytest.mark.parametrize("variants", [["a"], ["a", "b"], LONG], ids=["one", "two", "five-long"])
def test_no_word_of_a_picture_lies_on_another_or_beyond_its_edge(tmp_path, extents, size, variants):
    def outcome(spec):
        made = logged(spec)
        return {**made, "metrics": {"test/accuracy": normal(spec.seed) - 0.1 * variants.index(spec.variant or "a")}}

    store = sweep_of(tmp_path / "d", outcome, seeds=SEEDS, variants=variants if len(variants) > 1 else [""])
    table, history = frames.frame(store), frames.history(store)
    made = [
        figures.members(table, "test/accuracy", size=size),
        figures.curves(history, "train/loss", runs=table, size=size),
    ]
    if len(variants) > 1:
        made.append(figures.forest(comparison.compare(store), size=size))
    for picture in made:
        boxes = extents(picture)
        edge = picture.bbox
        for name, box in boxes:
            assert min(box.x0, box.y0, edge.x1 - box.x1, edge.y1 - box.y1) >= -1, name
        for i, (name, box) in enumerate(boxes):
            for other, its in boxes[i + 1 :]:
                wide = min(box.x1, its.x1) - max(box.x0, its.x0)
                tall = min(box.y1, its.y1) - max(box.y0, its.y0)
                assert min(wide, tall) < 1.5, (name, other)


@pytest.mark.parametrize("size", ["screen", "card", "wide", "column", "page"])
def test_what_is_saved_has_the_numbers_that_room_was_made_for(tmp_path, extents, size):
    probs, targets = classes(10, 120, 4, seed=1)
    members = {seed: {"test": saved(probs[seed], targets)} for seed in range(10)}
    store = sweep_of(
        tmp_path / "d", lambda s: {"metrics": {"test/x": s.seed}, "predictions": members[s.seed]}, seeds=members
    )
    picture = ensemble_figures.uncertainty(worth(store).assessment, size=size)
    with figures.style(size):
        drawn = {text for text, box in extents(picture) if box.width > 1}
    assert drawn == set(re.findall("<text[^>]*>([^<]+)</text>", figures.inline(picture, "a", "a picture")))


def test_a_run_that_explodes_is_drawn_at_the_edge_and_hides_no_other(tmp_path):
    def outcome(spec):
        rows = [{"step": s, "train/loss": 3 / s * (1 + 0.01 * spec.seed)} for s in range(1, 13)]
        if spec.seed == 1:
            rows[-1]["train/loss"] = 1e9
        made = {"history": rows, "metrics": {"test/accuracy": 0.9}}
        return {**made, "failure": failure("diverged", "1e9")} if spec.seed == 1 else made

    store = sweep_of(tmp_path / "d", outcome, seeds=range(12))
    (axes,) = figures.curves(frames.history(store), "train/loss", runs=frames.frame(store)).axes
    low, high = axes.get_ylim()
    assert high < 10
    for line in axes.lines:
        assert low <= np.nanmin(line.get_ydata()) <= np.nanmax(line.get_ydata()) <= high
