"""Calibration, selection, evidence, and the assessment that holds all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from predicted import accuracy_of, brier_of, classes, nll_of, regression, saved, together, values

from sweep.ensemble import assess, calibrate, evidence, score, select, stack
from sweep.ensemble.assess import BY_CONSTRUCTION, Impossible, columns, to_json
from sweep.errors import EnsembleError
from sweep.report.ensemble import Worth, next_commands, notes_of, verdict


def overconfident(members=5, examples=300, count=4, *, seed=0, power=3.0):
    probs, targets = classes(members, examples, count, seed=seed)
    sharp = probs**power
    return sharp / sharp.sum(2, keepdims=True), targets


def test_the_temperature_minimises_the_nll_and_undoes_sharpening():
    probs, targets = classes(1, 2000, 4)
    found = calibrate.temperature(probs[0], targets)
    grid = np.append(np.linspace(0.9, 1.1, 401), np.linspace(0.5, 2.0, 301)) * found
    losses = [nll_of(calibrate.scaled(probs[0], t), targets) for t in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(found, rel=1e-3)
    sharp = calibrate.scaled(probs[0], 1 / 3)
    assert calibrate.temperature(sharp, targets) == pytest.approx(3 * found, rel=1e-5)


def test_temperature_one_gives_the_input_back_and_never_changes_the_top_class():
    probs, _ = classes(1, 50, 4)
    assert calibrate.scaled(probs, 1.0) == pytest.approx(probs, abs=1e-12)
    assert (calibrate.scaled(probs, 7.0).argmax(2) == probs.argmax(2)).all()


@pytest.mark.parametrize("start", [0.01, 0.3, 1.0, 5.0, 100.0])
def test_the_minimum_is_found_from_any_start(start):
    probs, targets = overconfident(1, 400)
    found = calibrate.temperature(probs[0], targets, start)
    assert found == pytest.approx(calibrate.temperature(probs[0], targets), rel=1e-10)
    slope = [nll_of(calibrate.scaled(probs[0], found + h), targets) for h in (-1e-4, 1e-4)]
    assert abs(slope[1] - slope[0]) / 2e-4 < 1e-7


@pytest.mark.parametrize("shift", [0.02, 0.5, 7.0, 90.0])
def test_a_root_is_found_where_newtons_steps_alone_would_not_settle(shift):
    # The slope is flat far from its root, where a step goes anywhere.
    def slope(x):
        return float(np.tanh(50 * (x - shift))), float(50 / np.cosh(np.clip(50 * (x - shift), -300, 300)) ** 2)

    assert calibrate.root(slope) == pytest.approx(shift, rel=1e-9)


def test_without_a_minimum_the_end_of_the_range_is_returned():
    right = np.array([[0.9, 0.1], [0.1, 0.9]])
    assert calibrate.temperature(right, np.array([0, 1])) == pytest.approx(0.01)
    assert calibrate.temperature(right, np.array([1, 0])) == pytest.approx(100)
    assert calibrate.temperature(np.full((4, 2), 0.5), np.array([0, 1, 0, 1])) == 1.0  # every temperature is as good


def test_the_variance_scale_of_one_gaussian_is_its_mean_squared_error():
    mean, var, targets = values(1, 500)
    expected = ((targets - mean[0]) ** 2 / var[0]).mean()
    assert calibrate.variance_scale(mean, var, targets) == pytest.approx(expected, rel=1e-6)


def test_no_example_is_scored_with_a_temperature_it_helped_to_fit():
    parts = calibrate.folds(103, seed=1)
    assert sorted(np.concatenate([fold.apply for fold in parts]).tolist()) == list(range(103))
    for fold in parts:
        assert not set(fold.fit) & set(fold.apply)
    members = together(*overconfident(3, 300))
    fitted = evidence.of_classes(members, None)[1]
    pool, fold = members.probs.mean(0), calibrate.folds(300)[2]
    assert fitted.used[2] == calibrate.temperature(pool[fold.fit], members.targets[fold.fit])
    assert fitted.predicted[fold.apply] == pytest.approx(calibrate.scaled(pool[fold.apply], fitted.used[2]))


def test_calibration_prefers_val_and_helps_the_overconfident():
    members = together(*overconfident())
    val = together(*overconfident(seed=9), split="val")
    _, fitted = evidence.of_classes(members, val)
    assert (fitted.fitted_on, fitted.folds) == ("val", 0)
    assert fitted.used == (calibrate.temperature(val.probs.mean(0), val.targets),)
    assert fitted.served == fitted.used[0]
    _, crossed = evidence.of_classes(members, None)
    assert (crossed.fitted_on, crossed.folds) == ("test", 5)
    assert crossed.after["nll"] < crossed.before["nll"]
    assert crossed.after["ece"] < crossed.before["ece"]
    assert crossed.diagram_before.count.sum() == len(members.targets)


def test_the_difference_is_calibrated_against_calibrated():
    members = together(*overconfident())
    val = together(*overconfident(seed=9), split="val")
    accuracy, nll, brier = evidence.of_classes(members, val)[0]
    singles = [
        calibrate.scaled(p, calibrate.temperature(v, val.targets))
        for p, v in zip(members.probs, val.probs, strict=True)
    ]
    pool = calibrate.scaled(members.probs.mean(0), calibrate.temperature(val.probs.mean(0), val.targets))
    t = members.targets
    assert nll.members_mean == pytest.approx(np.mean([nll_of(p, t) for p in singles]), abs=1e-12)
    assert nll.ensemble == pytest.approx(nll_of(pool, t), abs=1e-12)
    assert brier.value == pytest.approx(brier_of(pool, t) - np.mean([brier_of(p, t) for p in singles]), abs=1e-12)
    each = score.judged(pool, t).nll - np.mean([score.judged(p, t).nll for p in singles], axis=0)
    half = 1.9679296690653618 * each.std(ddof=1) / np.sqrt(300)  # t, 299 degrees of freedom, 97.5 %
    assert nll.examples == pytest.approx((each.mean() - half, each.mean() + half), abs=1e-9)
    assert nll.calibrated
    assert not accuracy.calibrated
    raw = nll_of(members.probs.mean(0), t) - np.mean([nll_of(p, t) for p in members.probs])
    assert abs(raw - nll.value) > 0.05


def test_holding_the_temperature_in_the_jackknife_is_a_second_order_change():
    members = together(*overconfident(8))
    val = together(*overconfident(8, seed=9), split="val")
    _, nll, _ = evidence.of_classes(members, val)[0]
    t = members.targets
    singles = np.array(
        [
            nll_of(calibrate.scaled(p, calibrate.temperature(v, val.targets)), t)
            for p, v in zip(members.probs, val.probs, strict=True)
        ]
    )
    refitted = []
    for i in range(8):
        rest = [j for j in range(8) if j != i]
        found = calibrate.temperature(val.probs[rest].mean(0), val.targets)
        pool = calibrate.scaled(members.probs[rest].mean(0), found)
        refitted.append(nll_of(pool, t) - singles[rest].mean())
    expected = evidence.jackknife(nll.value, refitted)
    assert nll.seeds == pytest.approx(expected, rel=0.03)


def test_the_jackknife_of_a_mean_is_the_t_interval():
    x = np.random.default_rng(0).normal(size=6)
    without = [np.delete(x, i).mean() for i in range(6)]
    half = 2.570581835636314 * x.std(ddof=1) / np.sqrt(6)  # t, 5 degrees of freedom, 97.5 %
    assert evidence.jackknife(x.mean(), without) == pytest.approx((x.mean() - half, x.mean() + half), abs=1e-9)
    assert evidence.jackknife(1.0, [1.0, 2.0]) is None
    assert evidence.paired([0.1]) is None
    assert evidence.paired([0.1, np.inf]) is None


@pytest.mark.parametrize("metric", ["nll", "brier", "accuracy"])
def test_each_round_of_greedy_selection_adds_the_best_member_and_drops_a_useless_one(metric):
    probs, targets = classes(4, 60, 3)
    probs[2] = np.roll(probs[2], 1, axis=1)
    counts, path = select.greedy(probs, targets, metric)
    of = {"accuracy": lambda p, t: -accuracy_of(p, t), "nll": nll_of, "brier": brier_of}[metric]
    taken: list[int] = []
    for value in path:
        losses = [of(probs[[*taken, i]].mean(0), targets) for i in range(4)]
        taken.append(int(np.argmin(losses)))
        assert value == pytest.approx(min(losses), abs=1e-12)
    assert counts[2] == 0
    weights = np.array(counts) / sum(counts)
    assert min(path) == pytest.approx(of(np.einsum("m,mec->ec", weights, probs), targets), abs=1e-12)


def test_selection_stands_beside_uniform_and_says_when_it_loses():
    probs, targets = classes(5, 40, 4, seed=3)
    val, val_targets = classes(5, 40, 4, seed=4)
    chosen = assess(together(probs, targets), val=together(val, val_targets, "val"), select="nll").selection
    assert chosen.fitted_on == "val"
    assert chosen.uniform["nll"] == pytest.approx(nll_of(probs.mean(0), targets), abs=1e-12)
    assert chosen.better == (chosen.greedy["nll"] < chosen.uniform["nll"])
    same = select.select((val, val_targets), np.repeat(probs[:1], 5, axis=0), targets, "nll", "val")
    assert not same.better


def test_selection_without_val_is_refused():
    with pytest.raises(EnsembleError, match="greedy selection needs predictions for val: it may not look at test"):
        assess(together(*classes()), select="nll")
    with pytest.raises(EnsembleError, match="greedy selection is for classification"):
        assess(regression(), select="nll")


def test_the_score_table():
    probs, targets = classes(5, 100, 4)
    found = assess(together(probs, targets))
    rows = {row.metric: row for row in found.scores}
    assert list(rows) == ["accuracy", "nll", "brier", "ece", "auroc", "aurc"]
    singles = [nll_of(p, targets) for p in probs]
    nll = rows["nll"]
    assert nll.members_mean == pytest.approx(np.mean(singles), abs=1e-12)
    assert nll.best == min(singles)
    assert nll.best_member == f"seed{int(np.argmin(singles))}"
    assert nll.difference == pytest.approx(nll.ensemble - nll.members_mean, abs=1e-15)
    assert rows["accuracy"].best == max(accuracy_of(p, targets) for p in probs)


def test_auroc_is_absent_where_a_class_is_and_the_rest_stands():
    probs, targets = classes(3, 60, 4)
    rows = {row.metric: row for row in assess(together(probs[:, targets < 3], targets[targets < 3])).scores}
    assert rows["auroc"].ensemble is None
    assert rows["nll"].ensemble is not None


def test_never_negative_by_construction_is_true():
    for seed in range(4):
        for found in (assess(together(*overconfident(3, 30, seed=seed))), assess(regression(3, 30, seed=seed))):
            for row in found.scores:
                if row.metric in BY_CONSTRUCTION:
                    assert row.difference <= 1e-12


def test_the_regression_assessment():
    members = regression()
    found = assess(members, val=regression(seed=5, split="val"), calibrated=True)
    rows = {row.metric: row for row in found.scores}
    assert list(rows) == ["rmse", "mse", "crps", "nll"]
    assert found.calibration.parameter == "variance scale"
    assert found.calibration.fitted_on == "val"
    assert [one.metric for one in found.differences] == ["mse", "nll", "crps"]
    assert [one.calibrated for one in found.differences] == [False, True, True]
    table = columns(found)
    assert set(table) == {"id", "target", "prediction", "std", "total", "aleatoric", "epistemic"}
    assert table["aleatoric"] == pytest.approx(members.var.mean(0) * found.calibration.served)
    assert table["total"] == pytest.approx(table["aleatoric"] + table["epistemic"], abs=1e-12)
    json.dumps(to_json(found), allow_nan=False)


def test_regression_replicas_lack_exactly_one_member():
    members = regression(4, 50)
    found = {one.metric: one for one in evidence.of_values(members, None)[0]}
    m, v, t = members.mean, members.var, members.targets

    def scaled(which):
        scale = lambda fold, k: calibrate.variance_scale(m[which, fold.fit], v[which, fold.fit], t[fold.fit])  # noqa: E731
        return v[which] * calibrate.by_fold(scale, calibrate.folds(50))[0]

    wide = scaled(slice(None))
    for metric, of in (("nll", score.mixture_nll), ("crps", score.mixture_crps)):
        own = np.array([of(m[i : i + 1], scaled(slice(i, i + 1)), t).mean() for i in range(4)])
        lacking = [[j for j in range(4) if j != i] for i in range(4)]
        replicas = [of(m[rest], wide[rest], t).mean() - own[rest].mean() for rest in lacking]
        expected = evidence.jackknife(of(m, wide, t).mean() - own.mean(), replicas)
        assert found[metric].seeds == pytest.approx(expected, abs=1e-10)


def test_regression_without_variances_has_points_only():
    found = assess(regression(3, var=False), calibrated=True)
    assert [row.metric for row in found.scores] == ["rmse", "mse", "crps"]
    assert found.calibration is None
    assert not found.calibrated
    assert "aleatoric" not in columns(found)


def test_rows_of_examples():
    probs, targets = classes(5, 60, 3)
    found = assess(together(probs, targets))
    table = columns(found)
    assert list(table)[:3] == ["id", "target", "prediction"]
    assert np.stack([table[f"p{c}"] for c in range(3)], axis=1) == pytest.approx(probs.mean(0))
    assert table["total"] == pytest.approx(table["aleatoric"] + table["epistemic"], abs=1e-12)
    assert [one.epistemic for one in found.disputed] == sorted(table["epistemic"], reverse=True)[:10]
    assert found.disputed[0].id == table["id"][table["epistemic"].argmax()]
    warm = columns(assess(together(probs, targets), calibrated=True))
    assert not np.allclose(warm["p0"], table["p0"])
    assert (warm["prediction"] == table["prediction"]).all()


def test_extra_sets_are_scored_by_the_same_members():
    probs, targets = classes(4, 60, 3)
    blurred = together(0.5 * probs + 0.5 / 3, targets, "shifted")
    found = assess(together(probs, targets), extra={"shifted": blurred})
    (one,) = found.extra
    assert one.name == "shifted"
    assert {row.metric: row.ensemble for row in one.scores}["nll"] == nll_of(blurred.probs.mean(0), targets)
    assert one.total > found.uncertainty.total.mean()
    with pytest.raises(EnsembleError, match="shifted and test have different members: only one of them has seed3"):
        assess(together(probs, targets), extra={"shifted": together(probs[:3], targets)})
    with pytest.raises(EnsembleError, match="val and test do not have the same classes"):
        assess(together(probs, targets), val=together(*classes(4, 60, 5)))


def test_the_order_of_members_and_rows_never_changes_a_byte():
    probs, targets = overconfident(12, 40)
    ids = np.array([f"image-{i}" for i in range(40)])
    plain = [(f"seed{i}", saved(p, targets, ids)) for i, p in enumerate(probs)]
    rng = np.random.default_rng(5)
    turned = []
    for i in rng.permutation(12):
        order = rng.permutation(40)
        turned.append((f"seed{i}", saved(probs[i][order], targets[order], ids[order])))
    ours, theirs = assess(stack(plain)), assess(stack(turned))
    assert json.dumps(to_json(ours)) == json.dumps(to_json(theirs))
    assert all(columns(ours)[name].tobytes() == columns(theirs)[name].tobytes() for name in columns(ours))


def test_an_infinite_nll_is_named_and_not_compared():
    probs, targets = classes(4, 40, 3)
    broken = probs.copy()
    broken[0, 0] = np.eye(3)[(targets[0] + 1) % 3]
    found = assess(together(broken, targets))
    nll = next(row for row in found.scores if row.metric == "nll")
    assert nll.members_mean == np.inf
    assert np.isfinite(nll.ensemble)
    # The pool can be calibrated; its members cannot, so nothing calibrated is compared with them.
    assert found.calibration.after["nll"] < np.inf
    assert [(one.metric, one.calibrated) for one in found.differences] == [("accuracy", False), ("brier", False)]
    assert found.impossible == Impossible(("seed0",), 1, 0)
    note = notes_of(found)[0]
    assert "seed0" in note
    assert "1 of 40" in note
    assert assess(together(probs, targets)).impossible is None


def one_hot(wrong: float = 0.2, members: int = 5, examples: int = 60):
    """Members that vote and give no probabilities: some example is missed by all of them."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, examples)
    votes = np.where(rng.random((members, examples)) < wrong, (targets + 1) % 3, targets)
    votes[:, 0] = (targets[0] + 1) % 3
    return np.eye(3)[votes], targets


def test_nothing_is_fitted_to_probabilities_of_zero():
    probs, targets = one_hot()
    for val in (None, together(probs, targets, "val")):
        found = assess(together(probs, targets), val=val)
        assert found.calibration is None
        accuracy, brier = found.differences
        assert (accuracy.metric, brier.metric) == ("accuracy", "brier")
        assert accuracy.ensemble == (probs.mean(0).argmax(1) == targets).mean()
        assert brier.members_mean == pytest.approx((2.0 * (probs.argmax(2) != targets)).mean())
        worth = Worth("one", "d", "", "", 5, found)
        assert ": accuracy" in verdict(worth)
        assert "calibrated" not in verdict(worth)
        assert "--calibrate" not in " ".join(next_commands(worth))
        with pytest.raises(EnsembleError, match="probability 0"):
            assess(together(probs, targets), val=val, calibrated=True)


def test_a_calibration_that_makes_a_score_worse_is_not_led_with_nor_recommended():
    probs, targets = classes(4, 300, 3, seed=1)
    # What was fitted on says the opposite of what is scored.
    confident = probs**4 / (probs**4).sum(axis=2, keepdims=True)
    harmed = assess(together(probs, targets), val=together(confident, (targets + 1) % 3, "val"))
    assert harmed.calibration.worse
    worth = Worth("one", "d", "", "", 4, harmed)
    assert ": accuracy" in verdict(worth)
    assert "calibrated" not in verdict(worth)
    assert any("calibration makes the ensemble worse" in note for note in worth.notes)
    assert "--calibrate" not in " ".join(next_commands(worth))
    # The control: where calibration helps it leads, and is recommended.
    helped = assess(together(confident, targets), val=together(confident, targets, "val"))
    assert not helped.calibration.worse
    worth = Worth("one", "d", "", "", 4, helped)
    assert verdict(worth).startswith("The calibrated ensemble is better")
    assert "--calibrate" in next_commands(worth)[0]


def test_a_temperature_at_the_end_of_its_range_is_noted():
    probs, targets = classes(4, 60, 3)
    found = assess(together(probs, targets), val=together(probs, (targets + 1) % 3, "val"))  # says the opposite
    assert found.calibration.at_bound
    assert any("range" in note for note in notes_of(found))
    assert not any("range" in note for note in notes_of(assess(together(probs, targets))))


def test_missing_members_are_said_in_the_output():
    probs, targets = classes(3, 40, 3)
    found = assess(replace(together(probs, targets), missing=(("seed7", "failed: diverged"),)))
    assert notes_of(found)[0] == "built without seed7 (failed: diverged)"
    assert to_json(found)["missing"] == [{"member": "seed7", "reason": "failed: diverged"}]
    assert "there is no interval over seeds with only 2 members" in notes_of(assess(together(probs[:2], targets)))


def test_importing_ensembles_loads_neither_torch_nor_scipy_stats():
    code = (
        "import sys, sweep.ensemble;"
        "print([m for m in ('torch', 'ray', 'scipy.stats', 'scipy.optimize') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
