"""Why seeds differ: chance on the test set, training, the implementation; and what several tasks say together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from finished import accuracies, failure, normal, sweep_of

from sweep import report
from sweep.analysis.examples import examples_of
from sweep.analysis.remarks import Remark
from sweep.plan import folder_name
from sweep.report import sentence
from sweep.report.html import page
from sweep.stats import expected_best, iqm, sd_interval, stratified_interval, training_variance, two_way_interval
from sweep.store import Predictions, Store

EXAMPLES = 200
TARGETS = np.arange(EXAMPLES) % 2


def answers(seed, hard=0.0):
    """Which examples a member gets right: chance alone, or a member that is really worse."""
    return np.random.default_rng(seed).random(EXAMPLES) < 0.9 - hard * (seed % 5)


def member(seed, hard=0.0, metric="test/accuracy", order=None):
    right = answers(seed, hard)
    probs = np.eye(2)[np.where(right, TARGETS, 1 - TARGETS)] * 0.8 + 0.1
    ids = np.arange(EXAMPLES) if order is None else order
    found = Predictions(ids=ids, targets=TARGETS[ids], probs=probs[ids])
    value = {"test/accuracy": right.mean(), "test/nll": -np.log(probs[np.arange(EXAMPLES), TARGETS]).mean()}[metric]
    return {"metrics": {metric: float(value)}, "predictions": {"test": found}}


def told(path, outcome, **options):
    made = report.build(sweep_of(path / "d", outcome, **{"seeds": range(10), **options}))
    assert len(made.spreads) == 1
    return made, made.spreads[0]


def test_seeds_that_differ_by_chance_alone_are_said_to(tmp_path):
    made, found = told(tmp_path, lambda s: member(s.seed))
    rows = np.array([answers(s) for s in range(10)], dtype=float)
    expected, both = training_variance(rows), two_way_interval(rows)
    assert found.training_variance == pytest.approx(expected.distribution)
    assert (found.true_low, found.true_high) == pytest.approx((both.interval.low, both.interval.high))
    assert found.true_high - found.true_low > made.rows[0].high - made.rows[0].low
    assert sentence.chance(found).startswith("The differences between seeds are mostly chance on this test set")
    assert "mostly chance" in report.text(made)


def test_seeds_that_really_differ_are_not_called_chance(tmp_path):
    made, found = told(tmp_path, lambda s: member(s.seed, hard=0.12))
    assert found.training_variance > found.observed_variance / 2
    assert not sentence.chance(found)
    assert "mostly chance" not in report.text(made)
    assert "on an infinitely large test set, the sd between seeds would be" in report.text(made).replace("\n    ", " ")


def test_rows_are_matched_by_id_and_the_sentence_names_the_metric(tmp_path):
    def shuffled(spec):
        order = np.random.default_rng(spec.seed + 99).permutation(EXAMPLES)
        return member(spec.seed, metric="test/nll", order=order)

    _, found = told(tmp_path, shuffled, config={"primary": "test/nll"})
    assert found.examples == EXAMPLES
    assert "the true nll" in sentence.chance(found)


def without_predictions(made):
    return {"metrics": made["metrics"]}


def of_something_else(made):
    return {**made, "metrics": {"test/accuracy": made["metrics"]["test/accuracy"] / 2}}


def renamed(made):
    return {**made, "metrics": {"test/ece": made["metrics"]["test/accuracy"]}}


@pytest.mark.parametrize(
    ("change", "primary", "reason"),
    [
        (without_predictions, "test/accuracy", "not every run saved its test predictions"),
        (of_something_else, "test/accuracy", "test/accuracy is not the mean over the saved predictions"),
        (renamed, "test/ece", "test/ece is not a mean over examples"),
    ],
)
def test_what_cannot_be_told_has_its_reason(tmp_path, change, primary, reason):
    made, found = told(tmp_path, lambda spec: change(member(spec.seed)), config={"primary": primary})
    assert sentence.why(found) == reason
    assert found.true_mean is None
    assert "true test" not in report.text(made)


def test_several_outputs_of_one_example_are_not_so_many_examples(tmp_path):
    def outcome(spec):
        mean = np.random.default_rng(spec.seed).normal(size=(6, 2))
        found = Predictions(ids=np.arange(6), targets=np.zeros((6, 2)), mean=mean)
        return {"metrics": {"test/mse": float((mean**2).mean())}, "predictions": {"test": found}}

    store = sweep_of(tmp_path / "d", outcome)
    assert isinstance(examples_of(store, list(store.scan()), "test/mse"), Remark)


def test_the_best_seed_stands_beside_what_chance_makes_of_it(tmp_path):
    values = {s: normal(s) for s in range(10)}
    _, found = told(tmp_path, accuracies(values))
    interval = sd_interval(list(values.values()))
    assert found.best == max(values.values())
    assert found.inflation == pytest.approx(expected_best(10) * found.sd)
    assert (found.sd_low, found.sd_high) == (interval.low, interval.high)


def test_repeats_show_the_noise_of_the_implementation_and_add_no_seeds(tmp_path):
    def outcome(spec):
        noise = np.random.default_rng([spec.seed, spec.repeat]).normal(0, 0.001)
        return {"metrics": {"test/accuracy": normal(spec.seed) + float(noise)}}

    made, found = told(tmp_path, outcome, seeds=range(5), repeats=4)
    assert found.seeds == 5
    assert found.repeat_sd == pytest.approx(0.001, rel=0.6)
    assert found.repeat_low < found.repeat_sd < found.repeat_high < found.sd
    assert "repeats of one seed" in report.text(made)
    assert "repeats of one seed" in page(Store.open(tmp_path / "d"))


def test_one_seed_has_no_spread(tmp_path):
    assert report.build(sweep_of(tmp_path / "d", accuracies({0: 0.9}), seeds=[0])).spreads == ()


# Several tasks.

NAMES = [f"task {i}" for i in range(10)]
FOLDERS = [folder_name(name, name) for name in NAMES]
REFERENCES = {name: [0.1 * i, 1.0 + 0.1 * i] for i, name in enumerate(NAMES)}


def score(spec):
    i = FOLDERS.index(spec.task)
    return 0.1 * i + normal(spec.seed * 100 + i, 0.5, 0.1)


def of_tasks(path, count, outcome=None, references=None, **options):
    config = {"references": {n: REFERENCES[n] for n in NAMES[:count]} if references is None else references}
    run = outcome or (lambda spec: {"metrics": {"test/accuracy": score(spec)}})
    return report.build(sweep_of(path / "d", run, tasks=FOLDERS[:count], seeds=range(4), config=config, **options))


def test_ten_tasks_have_an_interval_of_normalised_scores(tmp_path):
    made = of_tasks(tmp_path, 10)
    scores = [[normal(s * 100 + i, 0.5, 0.1) for s in range(4)] for i in range(10)]
    found = made.across[0]
    expected = stratified_interval(scores, np.random.default_rng(0))
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.iqm == pytest.approx(iqm(scores))
    assert (found.iqm_low, found.iqm_high) == pytest.approx((expected.low, expected.high))
    assert "these 10 tasks" in report.text(made)
    low, high = (f"{limit:.3f}" for limit in (found.iqm_low, found.iqm_high))
    said = f"interquartile mean {found.iqm:.3f} (95 % CI {low} to {high}) over these 10 tasks, 4 seeds"
    assert said in report.markdown(made)
    shown = page(Store.open(tmp_path / "d"))
    assert "over these 10 tasks, 4 seeds" in shown
    assert f"{low} to {high}" in shown
    assert len(made.primary_rows) == 10  # the table of each task stays


def test_fewer_tasks_have_no_interval_and_say_why(tmp_path):
    found = of_tasks(tmp_path, 3).across[0]
    assert found.mean is not None
    assert found.iqm_low is None
    assert sentence.method(found) == "no interval: a bootstrap interval needs at least 10 tasks"


def test_tasks_are_never_pooled_raw(tmp_path):
    found = of_tasks(tmp_path, 3, references={}).across[0]
    assert found.mean is None
    assert sentence.why(found) == "no common scale: references are missing"
    some = of_tasks(tmp_path / "some", 3, references={"task 0": [0, 1]}).across[0]
    assert some.mean is None


def test_only_seeds_that_finished_in_every_task_are_pooled_and_the_others_counted(tmp_path):
    def outcome(spec):
        bad = spec.seed == 2 and spec.task == FOLDERS[1]
        return {"failure": failure()} if bad else {"metrics": {"test/accuracy": score(spec)}}

    made = of_tasks(tmp_path, 3, outcome)
    assert (made.across[0].seeds, made.across[0].planned) == (3, 4)
    assert "3 seeds that finished in every task (1 did not)" in report.text(made).replace("\n    ", " ")


def test_a_single_task_has_nothing_to_pool(tmp_path):
    assert of_tasks(tmp_path, 1).across == ()


def test_nothing_is_lost_in_json(tmp_path):
    body = report.to_json(of_tasks(tmp_path, 10))
    assert body["across"][0]["method"].startswith("percentile bootstrap stratified by task, these 10 tasks")
    assert math.isfinite(body["spreads"][0]["sd_high"])
