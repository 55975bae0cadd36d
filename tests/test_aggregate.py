"""From a directory to tables: every planned run has its row, and no number vanishes on the way."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from finished import accuracies, failure, sweep_of

from sweep.analysis import frames
from sweep.errors import StatisticsError
from sweep.stats import t_interval


def rows_of(store, **options):
    return frames.summary(frames.frame(store), **options).set_index("metric").loc["test/accuracy"]


def test_frame_has_a_row_for_every_planned_run(tmp_path):
    def outcome(spec):
        return {
            7: {"metrics": {"test/accuracy": 0.9, "test/nll": 0.3}, "seconds": 2.5},
            8: {"failure": failure("raised", "bad data")},
            9: {"lost": True},
        }.get(spec.seed)

    table = frames.frame(sweep_of(tmp_path / "d", outcome, seeds=[10, 9, 8, 7]))
    ours = ["task", "variant", "seed", "repeat", "status", "failure", "message", "attempts"]
    assert list(table.columns) == [*ours, "test/accuracy", "test/nll", "seconds"]
    assert table["seed"].tolist() == [7, 8, 9, 10]
    assert table["status"].tolist() == ["ok", "failed", "lost", "pending"]
    assert table["failure"].tolist() == ["", "raised", "", ""]
    assert table["message"].tolist() == ["", "bad data", "", ""]
    assert table["attempts"].tolist() == [1, 1, 1, 0]
    assert table.loc[0, "seconds"] == 2.5


def test_the_order_in_which_runs_finished_cannot_be_seen(tmp_path):
    values = {seed: 0.9 + seed / 1000 for seed in range(8)}
    store = sweep_of(tmp_path / "d", accuracies(values), seeds=range(8), variants=["a", "b"])
    members = list(store.scan())
    expected = frames.frame_of(members)
    random.Random(0).shuffle(members)
    shuffled = frames.frame_of(members)
    pd.testing.assert_frame_equal(shuffled, expected, check_exact=True)
    assert frames.summary(shuffled).to_csv() == frames.summary(expected).to_csv()


def test_summary_is_the_t_interval_over_seeds(tmp_path):
    values = {1: 0.91, 2: 0.95, 3: 0.93}
    row = rows_of(sweep_of(tmp_path / "d", accuracies(values), seeds=values))
    expected = t_interval(list(values.values()))
    assert (row["low"], row["high"]) == (expected.low, expected.high)
    assert row["n"] == 3
    assert row["mean"] == pytest.approx(0.93)
    assert row["sd"] == pytest.approx(0.02)
    assert (row["min"], row["max"], row["over"]) == (0.91, 0.95, "seeds")


def test_a_diverged_seed_is_counted_and_kept_but_not_in_the_mean(tmp_path):
    def outcome(spec):
        if spec.seed == 2:
            return {
                "failure": failure("diverged", "loss is nan"),
                "metrics": {"test/accuracy": 0.1, "x": math.nan},
            }
        return {"metrics": {"test/accuracy": 0.9, "x": 1.0}}

    table = frames.frame(sweep_of(tmp_path / "d", outcome))
    row = frames.summary(table).set_index("metric").loc["test/accuracy"]
    assert table.loc[2, "test/accuracy"] == 0.1
    assert (row["n"], row["mean"], row["failed"], row["planned"]) == (2, 0.9, 1, 3)
    assert row["over"] == "finished seeds"


def test_a_metric_missing_in_some_seeds_shows_its_own_n(tmp_path):
    def outcome(spec):
        extra = {"test/f1": 0.5} if spec.seed else {"test/f1": math.inf}
        return {"metrics": {"test/accuracy": 0.9, **(extra if spec.seed < 2 else {})}}

    summary = frames.summary(frames.frame(sweep_of(tmp_path / "d", outcome))).set_index("metric")
    assert summary.loc["test/accuracy", ["n", "missing"]].tolist() == [3, 0]
    assert summary.loc["test/f1", ["n", "missing", "ok"]].tolist() == [1, 2, 3]
    assert math.isnan(summary.loc["test/f1", "low"])


def test_repeats_are_averaged_within_their_seed(tmp_path):
    rng = np.random.default_rng(1)
    table = frames.frame(
        sweep_of(tmp_path / "d", lambda s: {"metrics": {"test/accuracy": rng.normal(s.seed, 0.1)}}, repeats=5)
    )
    row = frames.summary(table).iloc[0]
    means = table.groupby("seed")["test/accuracy"].mean()
    assert row["n"] == 3
    assert row["planned"] == 3
    assert row["sd"] == pytest.approx(means.std())
    assert row["sd"] != pytest.approx(table["test/accuracy"].std(), rel=0.05)


def test_a_seed_with_a_failed_repeat_is_failed(tmp_path):
    def outcome(spec):
        bad = (spec.seed, spec.repeat) == (1, 1)
        return {"metrics": {"test/accuracy": 0.9}, **({"failure": failure()} if bad else {})}

    row = rows_of(sweep_of(tmp_path / "d", outcome, repeats=2))
    assert row[["planned", "ok", "failed", "n"]].tolist() == [3, 2, 1, 2]


@pytest.mark.parametrize("kept", [0, 1])
def test_no_spread_no_interval(tmp_path, kept):
    def outcome(spec):
        return {"metrics": {"test/accuracy": 0.9}, **({"failure": failure()} if spec.seed >= kept else {})}

    row = rows_of(sweep_of(tmp_path / "d", outcome))
    assert row["n"] == kept
    assert math.isnan(row["sd"])
    assert math.isnan(row["low"])
    assert row["method"].startswith("no interval")
    assert row["failed"] == 3 - kept


def test_the_counts_add_up_whatever_happened(tmp_path):
    fates = [{"metrics": {"test/accuracy": 0.9}}, {"failure": failure()}, {"lost": True}, None]
    store = sweep_of(
        tmp_path / "d",
        lambda s: fates[(s.seed + 2 * s.repeat) % 4],
        seeds=range(12),
        repeats=2,
        variants=["a", "b"],
    )
    for row in frames.summary(frames.frame(store)).itertuples():
        assert row.planned == 12 == row.ok + row.failed + row.lost + row.pending
        assert row.n + row.missing == row.ok


def test_variants_and_tasks_are_never_pooled(tmp_path):
    def outcome(spec):
        return {"metrics": {"test/accuracy": spec.seed + 10 * (spec.variant == "b") + 100 * (spec.task == "u")}}

    summary = frames.summary(frames.frame(sweep_of(tmp_path / "d", outcome, variants=["b", "a"], tasks=["u", "t"])))
    assert list(zip(summary["task"], summary["variant"], summary["mean"], strict=True)) == [
        ("t", "a", 1), ("t", "b", 11), ("u", "a", 101), ("u", "b", 111),
    ]  # fmt: skip


HOSTILE = ["a/b", "../x", "=cmd()", "<script>alert(1)</script>", "{{7*7}}", "loss\n", "\u202eabc", "🙂", "x" * 10_000,
           "Loss", "loss", "caf\u00e9", "cafe\u0301", " "]  # fmt: skip


def test_metric_names_are_kept_faithfully(tmp_path):
    wanted = {name: float(i) for i, name in enumerate(HOSTILE)}
    row = {"step": 1, **wanted}
    store = sweep_of(tmp_path / "d", lambda _: {"metrics": wanted, "history": [row]}, seeds=[1])
    table, curves = frames.frame(store), frames.history(store)
    assert {name: table.loc[0, name] for name in HOSTILE} == wanted
    assert {name: curves.loc[0, name] for name in HOSTILE} == wanted
    assert frames.metric_names(table) == sorted(HOSTILE) == frames.metric_names(curves)


def test_metrics_named_as_our_columns_get_a_prefix(tmp_path):
    store = sweep_of(tmp_path / "d", lambda _: {"metrics": {"seed": 0.5, "step": 2.0}}, seeds=[1])
    table = frames.frame(store)
    assert table.loc[0, ["seed", "metrics/seed", "metrics/step"]].tolist() == [1, 0.5, 2.0]


def test_metrics_that_would_share_a_column_are_refused(tmp_path):
    store = sweep_of(tmp_path / "d", lambda _: {"metrics": {"seed": 0.5, "metrics/seed": 2.0}}, seeds=[1])
    with pytest.raises(StatisticsError, match="'seed' and 'metrics/seed' would share a column"):
        frames.frame(store)


def test_an_unknown_metric_names_the_known(tmp_path):
    table = frames.frame(sweep_of(tmp_path / "d", accuracies({0: 0.5})))
    with pytest.raises(StatisticsError, match="no run reports 'acc'\n  name a reported metric: test/accuracy"):
        frames.summary(table, ["acc"])


def test_nothing_finished_is_an_answer_too(tmp_path):
    table = frames.frame(sweep_of(tmp_path / "d", lambda _: None))
    assert table["status"].tolist() == ["pending"] * 3
    assert frames.summary(table).empty


def line(*values, metric="train/loss", start=1, every=1):
    return [{"step": start + every * i, metric: v} for i, v in enumerate(values)]


def test_history_has_a_row_a_run_and_step(tmp_path):
    logs = {0: line(3.0, 2.0, 1.0), 1: [*line(3.5, 2.5), {"step": 2, "val/loss": 9.0}], 2: []}
    store = sweep_of(tmp_path / "d", lambda s: {"history": logs[s.seed]}, variants=["v"])
    curves = frames.history(store)
    assert curves[["variant", "seed", "step"]].astype({"variant": "str"}).to_numpy().tolist() == [
        ["v", 0, 1], ["v", 0, 2], ["v", 0, 3], ["v", 1, 1], ["v", 1, 2],
    ]  # fmt: skip
    assert curves["train/loss"].tolist() == [3.0, 2.0, 1.0, 3.5, 2.5]
    assert curves["val/loss"].isna().tolist() == [True, True, True, True, False]


def test_history_of_nothing_keeps_its_columns(tmp_path):
    curves = frames.history(sweep_of(tmp_path / "d", lambda _: None))
    assert list(curves.columns) == ["task", "variant", "seed", "repeat", "step"]
    assert curves.empty


def curves_of(*logs, metric="train/loss", repeats=1):
    """History rows of seeds 0, 1, …; each log maps a step to a value."""
    rows = [
        {"task": "", "variant": "", "seed": i // repeats, "repeat": i % repeats, "step": step, metric: value}
        for i, log in enumerate(logs) for step, value in log.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_band_is_the_t_interval_at_each_step():
    found = frames.band(curves_of({1: 3.0, 2: 2.0}, {1: 3.2, 2: 2.4}, {1: 3.4, 2: 2.2}), "train/loss")
    expected = t_interval([2.0, 2.4, 2.2])
    assert found["step"].tolist() == [1, 2]
    assert found["n"].tolist() == [3, 3]
    assert found.loc[1, ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_band_says_when_a_seed_stops_early():
    found = frames.band(curves_of({1: 1.0, 2: 1.0, 3: 1.0}, {1: 2.0, 2: 2.0}), "train/loss")
    assert found["n"].tolist() == [2, 2, 1]
    assert math.isnan(found.loc[2, "low"])


def test_band_never_interpolates():
    found = frames.band(curves_of(dict.fromkeys(range(1, 11), 1.0), {5: 2.0, 10: 2.0}), "train/loss")
    assert found["step"].tolist() == [5, 10]
    assert found["n"].tolist() == [2, 2]


def test_nan_in_the_middle_of_a_curve_leaves_that_steps_n():
    found = frames.band(curves_of({1: 1.0, 2: math.nan, 3: 1.0}, {1: 2.0, 2: 2.0, 3: 2.0}), "train/loss")
    assert found["n"].tolist() == [2, 1, 2]


def test_band_counts_seeds_not_repeats():
    logs = [{1: 1.0}, {1: 3.0}, {1: 5.0}, {1: 7.0}]
    found = frames.band(curves_of(*logs, repeats=2), "train/loss")
    assert found["n"].tolist() == [2]
    assert found["mean"].tolist() == [4.0]


def test_steps_logged_now_and_then_are_kept():
    logs = [{"step": s, "train/loss": 1.0, **({"val/loss": 2.0} if s % 5 == 0 else {})} for s in range(1, 11)]
    rows = [
        {"task": "", "variant": "", "seed": seed, "repeat": 0, **log} for seed, log in itertools.product((0, 1), logs)
    ]
    assert frames.band(pd.DataFrame(rows), "val/loss")["step"].tolist() == [5, 10]


def test_reading_loads_neither_torch_nor_ray(tmp_path):
    sweep_of(tmp_path / "d", accuracies({0: 0.9, 1: 0.8, 2: 0.7}))
    code = (
        "import sys; from sweep.analysis import frames; from sweep.store import Store;"
        f"print(frames.summary(frames.frame(Store.open({str(tmp_path / 'd')!r}))).loc[0, 'n'],"
        "{'torch', 'ray', 'scipy.stats'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "set()"]
