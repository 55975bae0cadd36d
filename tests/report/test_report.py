"""What a directory is said to hold: every number with what it is over, every run counted."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from finished import accuracies, failure, normal, sweep_of

from sweep import report
from sweep.number import around
from sweep.report import sentence
from sweep.report.counts import counted
from sweep.report.sentence import scope
from sweep.stats import clopper_pearson, t_interval
from sweep.store import Predictions, Store
from sweep.variants import labels_of

TEN = {seed: normal(seed) for seed in range(10)}


def told(path, outcome, **options):
    return report.build(sweep_of(path / "d", outcome, **options))


def test_the_headline_is_the_sentence_a_paper_prints(tmp_path):
    found = told(tmp_path, accuracies(TEN), seeds=TEN)
    interval = t_interval(list(TEN.values()))
    number = around(float(np.mean(list(TEN.values()))), interval.half_width)
    assert found.headline == (f"test/accuracy {number} (95 % CI over seeds, this split and test set; n = 10, 0 failed)")
    assert found.rows[0].low == interval.low


def test_failures_stand_beside_the_mean_of_finished_runs(tmp_path):
    def outcome(spec):
        bad = {"failure": failure("diverged", "loss is nan"), "metrics": {"test/accuracy": 0.1}}
        return bad if spec.seed == 3 else {"metrics": {"test/accuracy": TEN[spec.seed]}}

    found = told(tmp_path, outcome, seeds=range(10))
    row = found.rows[0]
    rate = clopper_pearson(1, 10)
    assert found.headline.startswith("test/accuracy of finished runs 0.")
    assert "over finished seeds" in found.headline
    assert "n = 9, 1 of 10 failed (failure rate 0.25 % to 45 %)" in found.headline
    assert (row.failure_low, row.failure_high) == (rate.low, rate.high)
    assert row.mean == pytest.approx(np.mean([v for s, v in TEN.items() if s != 3]))
    assert [(c.key, c.kind, c.message) for c in found.causes] == [("seed3", "diverged", "loss is nan")]


def test_the_median_of_all_seeds_ranks_failed_ones_worst(tmp_path):
    def outcome(spec):
        bad = {"failure": failure("diverged")}
        return bad if spec.seed in (3, 4) else {"metrics": {"test/accuracy": TEN[spec.seed]}}

    found = told(tmp_path, outcome, seeds=range(10))
    kept = sorted(v for s, v in TEN.items() if s not in (3, 4))
    (one,) = found.medians
    assert (one.seeds, one.failed) == (10, 2)
    assert one.median == pytest.approx((kept[2] + kept[3]) / 2)  # of ten, the two worst are failed
    assert (one.low, one.high) == (-math.inf, kept[6])
    assert "order statistics 2 and 9 of 10" in sentence.order(one)
    text = " ".join(report.text(found).split())
    assert f"{one.median:.4f} (a failed seed to {one.high:.4f})" in text
    assert re.search(r"test/accuracy +2 of 10 ", text)
    assert "failed seeds ranked worst" in report.markdown(found)
    assert report.to_json(found)["medians"][0]["low"] == "-inf"


def test_a_median_without_failures_is_plain_and_without_a_direction_there_is_none(tmp_path):
    found = told(tmp_path, accuracies(TEN), seeds=range(5))
    (one,) = found.medians
    assert one.median == np.median([TEN[s] for s in range(5)])
    assert one.low is None
    assert sentence.order(one) == "no interval exists for 5 seeds"
    assert "median test" not in report.text(found)

    def odd(spec):
        return {"failure": failure()} if spec.seed == 0 else {"metrics": {"x": 1.0 + spec.seed}}

    assert report.build(sweep_of(tmp_path / "odd", odd, config={"primary": "x"})).medians == ()


def test_every_planned_run_is_counted_once(tmp_path):
    fates = [{"metrics": {"test/accuracy": 0.9}}, {"failure": failure()}, {"lost": True}, None]
    found = told(tmp_path, lambda s: fates[s.seed % 4], seeds=range(11))
    assert counted(found.counts) == "11 planned = 3 ok + 3 failed + 3 lost + 2 pending"
    assert "n = 3 of 11 (3 lost, 2 pending), 3 of 6 failed" in found.headline


@pytest.mark.parametrize(
    ("values", "failed", "expected"),
    [
        ({}, [0, 1, 2], "no mean: all 3 runs failed"),
        ({}, [], "no run has finished (0 of 3)"),
        ({0: 0.9}, [], "no interval: one seed has no spread"),
        ({0: 0.9, 1: 0.9, 2: 0.9}, [], "± 0 (all 3 seeds gave the same value; n = 3, 0 failed)"),
    ],
)
def test_where_there_is_no_interval_the_headline_says_why(tmp_path, values, failed, expected):
    def outcome(spec):
        return {"failure": failure()} if spec.seed in failed else accuracies(values)(spec)

    assert expected in told(tmp_path, outcome).headline


def test_equal_values_are_a_warning(tmp_path):
    found = told(tmp_path, accuracies({0: 0.9, 1: 0.9, 2: 0.9}))
    assert any("an interval of width 0 is no evidence" in w for w in found.warnings)
    assert not told(tmp_path / "other", accuracies({0: 0.9, 1: 0.8, 2: 0.9})).warnings


def test_seeds_added_after_looking_are_said_beside_the_interval(tmp_path):
    store = sweep_of(tmp_path / "d", accuracies(TEN), seeds=range(5))
    assert "unadjusted" not in report.build(store).headline
    store.extend([5, 6])
    assert "unadjusted for 1 extension)" in report.build(store).headline


def test_equal_final_weights_of_different_seeds_are_noticed(tmp_path):
    def outcome(spec, same=True):
        digest = "same" if same and spec.seed < 2 else f"own {spec.seed}"
        return {"metrics": {"test/accuracy": TEN[spec.seed]}, "digests": {"final": digest}}

    assert "seed0, seed1 gave identical results" in told(tmp_path, outcome).warnings[0]
    other = told(tmp_path / "other", lambda s: outcome(s, same=False), repeats=2)
    assert not other.warnings


def test_mixed_environments_are_reported_with_what_differs(tmp_path):
    def outcome(spec):
        threads = 1 if spec.seed else 2
        environment = {"torch": "2.13.0", "threads": threads}
        return {
            "metrics": {"test/accuracy": TEN[spec.seed]}, "environment": environment,
            "environment_id": f"{threads}" * 64,
        }  # fmt: skip

    found = told(tmp_path, outcome)
    assert [e.runs for e in found.environments] == [2, 1]
    assert found.environments[1].differences == (("threads", "1", "2"),)
    assert found.warnings == ("2 different environments (2 + 1 runs), differing in threads (verdict: NOT_EXPECTED)",)
    assert [one.verdict for one in found.environments] == [
        {}, {"answer": "NOT_EXPECTED", "fields": [["threads", 1, 2]]}
    ]  # fmt: skip


def test_the_rule_of_the_result_and_its_epochs_are_told(tmp_path):
    def outcome(spec):
        result = {"rule": "best(val/loss)", "epoch": 3 + spec.seed}
        return {"metrics": {"test/accuracy": TEN[spec.seed]}, "result": result}

    assert told(tmp_path, outcome).result == "best(val/loss), epochs 3 to 5"


def test_reproducibility_is_never_inferred_from_a_flag(tmp_path):
    store = sweep_of(tmp_path / "d", accuracies(TEN), deterministic=True)
    found = report.build(store)
    assert (found.mode, found.reproducibility) == ("deterministic", "not checked")
    assert found.next == (f"sweep verify {tmp_path / 'd'}",)


def test_the_next_command_can_be_pasted(tmp_path):
    place = tmp_path / "it's a dir"
    store = sweep_of(place, accuracies({0: 0.9}))
    command = report.build(store).next[0]
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines() == ["sweep", "resume", str(place)]


def probabilities(rng, n=60, classes=3, shift=0.0):
    p = rng.dirichlet([1.0] * classes, size=n)
    return p + shift


def member_predictions(seed, *, ids=None, targets=None):
    rng = np.random.default_rng(seed)
    ids = np.arange(60) if ids is None else ids
    targets = np.arange(60) % 3 if targets is None else targets
    return Predictions(ids=ids, targets=targets, probs=rng.dirichlet([1.0] * 3, size=60))


def with_predictions(make):
    return lambda s: {"metrics": {"test/accuracy": TEN[s.seed]}, "predictions": {"test": make(s.seed)}}


def test_the_ensemble_stands_beside_its_members(tmp_path):
    found = told(tmp_path, with_predictions(member_predictions)).together[0]
    probs = [member_predictions(s).probs for s in range(3)]
    accuracy = [np.mean(p.argmax(1) == np.arange(60) % 3) for p in (*probs, np.mean(probs, axis=0))]
    score = {s.metric: s for s in found.scores}
    assert (found.members, found.examples, found.split) == (3, 60, "test")
    assert score["accuracy"].members_mean == pytest.approx(np.mean(accuracy[:3]))
    assert score["accuracy"].ensemble == pytest.approx(accuracy[3])
    assert score["nll"].difference < 0
    assert score["nll"].by_construction
    assert not score["accuracy"].by_construction


def test_rows_are_matched_by_example_id(tmp_path):
    def shuffled(seed):
        order = np.random.default_rng(100 + seed).permutation(60)
        plain = member_predictions(seed)
        return Predictions(ids=plain.ids[order], targets=plain.targets[order], probs=plain.probs[order])

    def misnamed(seed):
        made = shuffled(seed)
        return Predictions(ids=np.arange(60), targets=made.targets, probs=made.probs)

    expected = told(tmp_path / "a", with_predictions(member_predictions)).together[0]
    found = told(tmp_path / "b", with_predictions(shuffled)).together[0]
    assert found == expected
    assert "target" in sentence.why(told(tmp_path / "c", with_predictions(misnamed)).together[0])


def test_members_of_other_examples_are_no_ensemble(tmp_path):
    def made(seed):
        return member_predictions(seed, ids=np.arange(60) + (seed == 2))

    found = told(tmp_path, with_predictions(made)).together[0]
    assert found.scores == ()
    assert "seed2" in sentence.why(found)
    assert sentence.why(found) in report.text(report.build(Store.open(tmp_path / "d")), width=500)


BROKEN = {
    "rows that do not belong to the ids": {"ids": np.arange(5), "probs": np.full((3, 2), 0.5)},
    "one axis too few": {"probs": np.full(5, 0.5)},
    "logits": {"probs": np.full((5, 2), 3.0)},
    "NaN": {"probs": np.full((5, 2), math.nan)},
    "an id twice": {"ids": np.zeros(5, dtype=int)},
    "targets of no class": {"targets": np.arange(5) + 7},
    "text for numbers": {"probs": None, "mean": np.array(list("abcde"))},
    "nothing": {"ids": np.arange(0), "targets": np.arange(0), "probs": np.zeros((0, 2))},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_predictions_that_are_none_are_refused_and_the_rest_is_told(tmp_path, change):
    sound = {"ids": np.arange(5), "targets": np.arange(5) % 2, "probs": np.full((5, 2), 0.5)}
    found = told(tmp_path, with_predictions(lambda _: Predictions(**{**sound, **change})))
    assert found.together[0].reason
    assert found.together[0].scores == ()
    assert found.rows[0].n == 3
    assert "no ensemble on test: " in report.text(found, width=500)


def test_a_member_that_is_certain_and_wrong_has_an_infinite_nll(tmp_path):
    made = Predictions(ids=np.arange(5), targets=np.zeros(5, dtype=int), probs=np.tile([0.0, 1.0], (5, 1)))
    found = told(tmp_path, with_predictions(lambda _: made))
    line = next(line for line in report.text(found).splitlines() if "nll ↓*" in line)
    assert line.split()[-3:] == ["inf", "inf", "—"]


def test_a_regression_has_an_ensemble_too(tmp_path):
    targets = np.linspace(0, 1, 60)

    def made(seed):
        mean = targets + np.random.default_rng(seed).normal(0, 0.1, 60)
        return Predictions(ids=np.arange(60), targets=targets, mean=mean, var=np.full(60, 0.01))

    found = told(tmp_path, with_predictions(made)).together[0]
    score = {s.metric: s for s in found.scores}
    assert score["rmse"].ensemble < score["rmse"].members_mean
    assert set(score) == {"rmse", "nll"}


def test_an_ensemble_of_fewer_says_so(tmp_path):
    def outcome(spec):
        return {"failure": failure()} if spec.seed == 1 else with_predictions(member_predictions)(spec)

    found = told(tmp_path, outcome)
    assert (found.together[0].members, found.together[0].planned) == (2, 3)
    assert "2 of 3 members" in report.text(found)


def test_the_json_is_strict_and_unrounded(tmp_path):
    def outcome(spec):
        extra = {"val/loss": math.inf} if spec.seed == 1 else {"val/loss": 0.1}
        return {"metrics": {"test/accuracy": TEN[spec.seed], **extra}, "environment": {"x": math.nan}}

    found = told(tmp_path, outcome)
    assert report.to_json(replace(found, seconds=math.inf))["seconds"] == "inf"
    text = json.dumps(report.to_json(found), allow_nan=False)
    back = json.loads(text)
    assert back["rows"][0]["mean"] == found.rows[0].mean
    assert back["rows"][0]["method"] == "Student t over seeds"
    assert back["headline"] == found.headline
    assert back["environments"][0]["fields"] == {"x": "nan"}


def test_the_order_of_completion_cannot_be_read_off(tmp_path):
    everything = {}
    for name, shuffle in (("a", None), ("b", 1), ("c", 2)):
        seeds = list(range(8))
        if shuffle:
            random.Random(shuffle).shuffle(seeds)
        store = sweep_of(tmp_path / name / "d", with_predictions(member_predictions), seeds=seeds)
        found = report.build(store)
        text = report.text(found) + report.markdown(found) + json.dumps(report.to_json(found)["rows"])
        everything[name] = text.replace(f"/{name}/", "/")
    assert len(set(everything.values())) == 1


def test_a_copied_directory_says_the_same_from_its_new_place(tmp_path):
    store = sweep_of(tmp_path / "d", with_predictions(member_predictions))
    before = report.text(report.build(store))
    (tmp_path / "d").rename(tmp_path / "moved")
    after = report.text(report.build(Store.open(tmp_path / "moved")))
    assert after == before.replace(f"{tmp_path}/d", f"{tmp_path}/moved")


def test_only_what_holm_does_not_separate_is_best(tmp_path):
    def outcome(spec):
        return {"metrics": {"test/accuracy": TEN[spec.seed] - {"a": 0.0, "b": 0.001, "c": 0.3}[spec.variant]
                            + 0.005 * math.sin(spec.seed * 7 + ord(spec.variant))}}  # fmt: skip

    found = told(tmp_path, outcome, seeds=range(10), variants=["a", "b", "c"])
    assert [row.best for row in found.primary_rows] == [True, True, False]


def test_nothing_is_best_when_some_arm_has_failures(tmp_path):
    def outcome(spec):
        bad = spec.variant == "b" and spec.seed == 0
        return {"failure": failure()} if bad else {"metrics": {"test/accuracy": TEN[spec.seed] + (spec.variant == "a")}}

    assert not any(row.best for row in told(tmp_path, outcome, seeds=range(5), variants=["a", "b"]).rows)


@pytest.mark.parametrize(
    ("metric", "vary", "expected"),
    [
        ("test/accuracy", (), "over seeds, this split and test set"),
        ("val/loss", (), "over seeds, this split and validation set"),
        ("accuracy", (), "over seeds"),
        (
            "test/accuracy",
            ("split",),
            "over seeds, each with its own split of this data set; no statement about new data",
        ),
        ("test/accuracy", ("init",), "over seeds that vary init only, this split and test set"),
    ],
)
def test_an_interval_says_what_it_is_over(metric, vary, expected):
    assert scope(metric, vary) == expected


def test_labels_lose_their_hash_only_while_they_stay_distinct():
    assert labels_of([("", "lr-0.01-3f9a1c"), ("", "lr-0.1-aa01bc")]) == {
        ("", "lr-0.01-3f9a1c"): "lr-0.01", ("", "lr-0.1-aa01bc"): "lr-0.1",
    }  # fmt: skip
    same = [("", "lr-0.01-3f9a1c"), ("", "lr-0.01-aa01bc")]
    assert list(labels_of(same).values()) == ["lr-0.01-3f9a1c", "lr-0.01-aa01bc"]
    assert labels_of([("", "")]) == {("", ""): ""}


def test_a_report_is_made_without_torch_ray_or_matplotlib(tmp_path):
    sweep_of(tmp_path / "d", with_predictions(member_predictions))
    code = (
        "import sys; from sweep import report; from sweep.store import Store;"
        f"report.text(report.build(Store.open({str(tmp_path / 'd')!r})));"
        "print({'torch', 'ray', 'matplotlib', 'scipy.stats'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_after_a_stopping_rule_the_plain_interval_only_describes(tmp_path):
    store = sweep_of(tmp_path / "d", accuracies(TEN), seeds=TEN)
    store.keep_until({"rule": "test/accuracy ± 0.005", "summary": "met at 6 seeds, 4 more: 0.900 ± 0.005"})
    found = report.build(store)
    assert "(descriptive 95 % CI over seeds" in found.headline
    assert "stopping   met at 6 seeds, 4 more: 0.900 ± 0.005" in report.text(found)
