"""Calibration, selection, evidence, and the assessment that holds all of it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from predicted import classes, saved, together, values

from sweep.ensemble import assess, calibrate, combine, evidence, score, select, stack
from sweep.errors import EnsembleError
from sweep.store import Predictions


def overconfident(members=5, examples=300, count=4, *, seed=0, power=3.0):
    probs, targets = classes(members, examples, count, seed=seed)
    sharp = probs**power
    return sharp / sharp.sum(2, keepdims=True), targets


def regression(members=5, examples=200, *, seed=0, split="test", factor=1.0):
    mean, var, targets = values(members, examples, seed=seed)
    return stack(
        [
            (f"seed{i}", Predictions(np.arange(examples), targets, mean=mean[i], var=var[i] * factor))
            for i in range(members)
        ],
        split=split,
    )


def test_the_temperature_minimises_the_nll_and_undoes_sharpening():
    probs, targets = classes(1, 2000, 4)
    found = calibrate.temperature(probs[0], targets)
    grid = np.linspace(0.5, 2.0, 3001) * found
    losses = [score.nll(calibrate.scaled(probs[0], t), targets) for t in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(found, rel=1e-3)
    sharp = calibrate.scaled(probs[0], 1 / 3)
    assert calibrate.temperature(sharp, targets) == pytest.approx(3 * found, rel=1e-5)


def test_temperature_one_gives_the_input_back_and_never_changes_the_top_class():
    probs, _ = classes(1, 50, 4)
    assert calibrate.scaled(probs, 1.0) == pytest.approx(probs, abs=1e-12)
    assert (calibrate.scaled(probs, 7.0).argmax(2) == probs.argmax(2)).all()


@pytest.mark.parametrize("start", [0.3, 1.0, 5.0])
def test_newtons_steps_from_a_start_meet_what_lbfgs_finds(start):
    probs, targets = overconfident(1, 400)
    logits = calibrate.shifted(np.log(probs[0].T))
    found = calibrate.temperature_near(start, logits, targets)
    assert found == pytest.approx(calibrate.temperature(probs[0], targets), rel=1e-10)
    slope = [calibrate.losses(logits, targets, 1 / (found + h))[0].mean() for h in (-1e-4, 1e-4)]
    assert abs(slope[1] - slope[0]) / 2e-4 < 1e-7
    right = calibrate.shifted(np.log(np.array([[0.9, 0.1], [0.1, 0.9]])))
    assert 0.01 <= calibrate.temperature_near(start, right, np.array([0, 1])) < 0.2


def test_data_without_errors_still_have_a_finite_temperature():
    found = calibrate.temperature(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0, 1]))
    assert 0.01 <= found < 0.2


def test_the_variance_scale_of_one_gaussian_is_its_mean_squared_error():
    mean, var, targets = values(1, 500)
    expected = ((targets - mean[0]) ** 2 / var[0]).mean()
    assert calibrate.variance_scale(mean, var, targets) == pytest.approx(expected, rel=1e-6)


def test_no_example_is_scored_with_a_temperature_it_helped_to_fit():
    parts = calibrate.folds(103, seed=1)
    assert sorted(np.concatenate([fold.apply for fold in parts]).tolist()) == list(range(103))
    for fold in parts:
        assert not set(fold.fit) & set(fold.apply)
    probs, targets = overconfident(1, 300)
    calibrated, used = calibrate.temper(probs[0], targets, parts=calibrate.folds(300))
    fold = calibrate.folds(300)[2]
    assert used[2] == calibrate.temperature(probs[0][fold.fit], targets[fold.fit])
    assert calibrated[fold.apply] == pytest.approx(calibrate.scaled(probs[0][fold.apply], used[2]))


def test_calibration_prefers_val_and_helps_the_overconfident():
    members = together(*overconfident())
    val = together(*overconfident(seed=9), split="val")
    _, fitted = evidence.of_classes(members, val)
    assert fitted.source == "fitted on val"
    assert fitted.used == (calibrate.temperature(combine.mean(val.probs), val.targets),)
    assert fitted.served == fitted.used[0]
    _, crossed = evidence.of_classes(members, None)
    assert crossed.source == "cross-fitted in 5 folds of test"
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
    pool = calibrate.scaled(combine.mean(members.probs), calibrate.temperature(combine.mean(val.probs), val.targets))
    t = members.targets
    assert nll.members_mean == pytest.approx(np.mean([score.nll(p, t) for p in singles]), abs=1e-12)
    assert nll.ensemble == pytest.approx(score.nll(pool, t), abs=1e-12)
    assert brier.value == pytest.approx(score.brier(pool, t) - np.mean([score.brier(p, t) for p in singles]), abs=1e-12)
    each = score.nll_each(pool, t) - np.mean([score.nll_each(p, t) for p in singles], axis=0)
    half = 1.9679296690653618 * each.std(ddof=1) / np.sqrt(300)  # t, 299 degrees of freedom, 97.5 %
    assert nll.examples == pytest.approx((each.mean() - half, each.mean() + half), abs=1e-9)
    assert nll.calibrated
    assert not accuracy.calibrated
    raw = score.nll(combine.mean(members.probs), t) - np.mean([score.nll(p, t) for p in members.probs])
    assert abs(raw - nll.value) > 0.05


def test_holding_the_temperature_in_the_jackknife_is_a_second_order_change():
    members = together(*overconfident(8))
    val = together(*overconfident(8, seed=9), split="val")
    _, nll, _ = evidence.of_classes(members, val)[0]
    t = members.targets
    singles = np.array(
        [
            score.nll(calibrate.scaled(p, calibrate.temperature(v, val.targets)), t)
            for p, v in zip(members.probs, val.probs, strict=True)
        ]
    )
    refitted = []
    for i in range(8):
        rest = [j for j in range(8) if j != i]
        found = calibrate.temperature(combine.mean(val.probs[rest]), val.targets)
        pool = calibrate.scaled(combine.mean(members.probs[rest]), found)
        refitted.append(score.nll(pool, t) - singles[rest].mean())
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


def test_greedy_selection_drops_a_useless_member_and_weighs_with_replacement():
    probs, targets = classes(4, 200, 4)
    probs[2] = np.roll(probs[2], 1, axis=1)
    counts, path = select.greedy(probs, targets, rounds=12)
    assert counts[2] == 0
    best_single = min(score.nll(p, targets) for p in probs)
    assert path[0] == pytest.approx(best_single, abs=1e-12)
    weights = np.array(counts) / sum(counts)
    assert min(path) == pytest.approx(score.nll(select.weighted(probs, weights), targets), abs=1e-12)


@pytest.mark.parametrize("metric", ["nll", "brier", "accuracy"])
def test_each_round_adds_the_best_member(metric):
    probs, targets = classes(4, 60, 3)
    _, path = select.greedy(probs, targets, metric=metric, rounds=3)
    sign = -1 if metric == "accuracy" else 1
    taken: list[int] = []
    for value in path:
        losses = [sign * getattr(score, metric)(probs[[*taken, i]].mean(0), targets) for i in range(4)]
        taken.append(int(np.argmin(losses)))
        assert value == pytest.approx(min(losses), abs=1e-12)


def test_selection_stands_beside_uniform_and_warns_when_it_loses():
    probs, targets = classes(5, 40, 4, seed=3)
    val, val_targets = classes(5, 40, 4, seed=4)
    found = assess(together(probs, targets), val=together(val, val_targets, "val"), select="nll")
    chosen = found.selection
    assert chosen.fitted_on == "val"
    assert chosen.uniform["nll"] == pytest.approx(score.nll(combine.mean(probs), targets), abs=1e-12)
    assert (chosen.warning is None) == (chosen.greedy["nll"] < chosen.uniform["nll"])
    same = select.select(val, val_targets, np.repeat(probs[:1], 5, axis=0), targets)
    assert "does not beat the uniform average" in same.warning


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
    singles = [score.nll(p, targets) for p in probs]
    nll = rows["nll"]
    assert nll.members_mean == pytest.approx(np.mean(singles), abs=1e-12)
    assert nll.best == min(singles)
    assert nll.best_member == f"seed{int(np.argmin(singles))}"
    assert nll.difference == pytest.approx(nll.ensemble - nll.members_mean, abs=1e-15)
    assert nll.label == rows["brier"].label == "gain never negative by construction"
    assert rows["accuracy"].label == "higher is better"
    assert rows["accuracy"].best == max(score.accuracy(p, targets) for p in probs)
    assert found.combinations["vote"]["accuracy"] == score.accuracy(combine.vote(probs), targets)
    assert found.combinations["geometric"]["nll"] == score.nll(combine.geometric(probs), targets)


def test_auroc_says_why_it_is_absent_and_the_rest_stands():
    probs, targets = classes(3, 60, 4)
    rows = {row.metric: row for row in assess(together(probs[:, targets < 3], targets[targets < 3])).scores}
    assert rows["auroc"].ensemble is None
    assert rows["auroc"].label == "no AUROC: class 3 has no example in this split"
    assert rows["nll"].ensemble is not None


def test_never_negative_by_construction_is_true():
    for seed in range(4):
        for found in (assess(together(*overconfident(3, 30, seed=seed))), assess(regression(3, 30, seed=seed))):
            for row in found.scores:
                if row.label == "gain never negative by construction":
                    assert row.difference <= 1e-12


def test_the_regression_assessment():
    members = regression()
    found = assess(members, val=regression(seed=5, split="val"), calibrated=True)
    rows = {row.metric: row for row in found.scores}
    assert list(rows) == ["rmse", "mse", "crps", "nll"]
    assert found.calibration.parameter == "variance scale"
    assert found.calibration.source == "fitted on val"
    assert [one.metric for one in found.differences] == ["mse", "nll", "crps"]
    assert [one.calibrated for one in found.differences] == [False, True, True]
    columns = found.columns()
    assert set(columns) == {"id", "target", "prediction", "std", "total", "aleatoric", "epistemic"}
    assert columns["aleatoric"] == pytest.approx(members.var.mean(0) * found.calibration.served)
    assert columns["total"] == pytest.approx(columns["aleatoric"] + columns["epistemic"], abs=1e-12)
    json.dumps(found.to_json(), allow_nan=False)


def test_regression_replicas_lack_exactly_one_member():
    members = regression(4, 50)
    wide = members.var * 1.3
    found = evidence._values_without(members.mean, wide, members.targets)
    for i in range(4):
        rest = [j for j in range(4) if j != i]
        assert found[0, i] == pytest.approx(
            score.mixture_nll(members.mean[rest], wide[rest], members.targets), abs=1e-12
        )
        assert found[1, i] == pytest.approx(
            score.mixture_crps(members.mean[rest], wide[rest], members.targets), abs=1e-12
        )


def test_regression_without_variances_has_points_only():
    members = regression(3)
    bare = stack(
        [
            (label, Predictions(members.ids, members.targets, mean=mean))
            for label, mean in zip(members.labels, members.mean, strict=True)
        ]
    )
    found = assess(bare, calibrated=True)
    assert [row.metric for row in found.scores] == ["rmse", "mse", "crps"]
    assert found.calibration is None
    assert not found.calibrated
    assert "aleatoric" not in found.columns()


def test_rows_of_examples():
    probs, targets = classes(5, 60, 3)
    found = assess(together(probs, targets))
    columns = found.columns()
    assert list(columns)[:3] == ["id", "target", "prediction"]
    assert np.stack([columns[f"p{c}"] for c in range(3)], axis=1) == pytest.approx(combine.mean(probs))
    assert columns["total"] == pytest.approx(columns["aleatoric"] + columns["epistemic"], abs=1e-12)
    assert [one.epistemic for one in found.disputed] == sorted(columns["epistemic"], reverse=True)[:10]
    assert found.disputed[0].id == columns["id"][columns["epistemic"].argmax()]
    warm = assess(together(probs, targets), calibrated=True).columns()
    assert not np.allclose(warm["p0"], columns["p0"])
    assert (warm["prediction"] == columns["prediction"]).all()


def test_extra_sets_are_scored_by_the_same_members():
    probs, targets = classes(4, 60, 3)
    blurred = together(0.5 * probs + 0.5 / 3, targets, "shifted")
    found = assess(together(probs, targets), extra={"shifted": blurred})
    (one,) = found.extra
    assert one.name == "shifted"
    assert {row.metric: row.ensemble for row in one.scores}["nll"] == score.nll(combine.mean(blurred.probs), targets)
    assert one.total > found.uncertainty.total.mean()
    with pytest.raises(EnsembleError, match="shifted and test are not of the same members: seed3 is in one"):
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
    assert json.dumps(ours.to_json()) == json.dumps(theirs.to_json())
    assert all(ours.columns()[name].tobytes() == theirs.columns()[name].tobytes() for name in ours.columns())


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
    (note,) = found.notes
    assert "seed0" in note
    assert "1 of 40" in note


def one_hot(wrong: float = 0.2, members: int = 5, examples: int = 60):
    """Members that vote and give no probabilities: some example is missed by all of them."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, examples)
    votes = np.where(rng.random((members, examples)) < wrong, (targets + 1) % 3, targets)
    votes[:, 0] = (targets[0] + 1) % 3
    return np.eye(3)[votes], targets


def test_nothing_is_fitted_to_probabilities_of_zero():
    from sweep.report.worth_model import Worth
    from sweep.report.worth_tables import headline
    from sweep.report.worth_text import next_commands

    probs, targets = one_hot()
    for val in (None, together(probs, targets, "val")):
        found = assess(together(probs, targets), val=val)
        assert found.calibration is None
        accuracy, brier = found.differences
        assert (accuracy.metric, brier.metric) == ("accuracy", "brier")
        assert accuracy.ensemble == (probs.mean(0).argmax(1) == targets).mean()
        assert brier.members_mean == pytest.approx((2.0 * (probs.argmax(2) != targets)).mean())
        worth = Worth("one", "d", "", "", 5, found, (), found.notes)
        assert headline(worth).startswith("The ensemble is at accuracy")
        assert "--calibrate" not in " ".join(next_commands(worth))
        with pytest.raises(EnsembleError, match="probability 0"):
            assess(together(probs, targets), val=val, calibrated=True)


def test_a_calibration_that_makes_a_score_worse_is_not_led_with_nor_recommended():
    from sweep.report.worth_model import Worth
    from sweep.report.worth_tables import headline
    from sweep.report.worth_text import next_commands

    probs, targets = classes(4, 300, 3, seed=1)
    # What was fitted on says the opposite of what is scored.
    confident = probs**4 / (probs**4).sum(axis=2, keepdims=True)
    harmed = assess(together(probs, targets), val=together(confident, (targets + 1) % 3, "val"))
    assert not harmed.calibration.helps
    worth = Worth("one", "d", "", "", 4, harmed, (), harmed.notes)
    assert headline(worth).startswith("The ensemble is at accuracy")
    assert "Calibration makes it worse" in headline(worth)
    assert "--calibrate" not in " ".join(next_commands(worth))
    # The control: where calibration helps it leads, and is recommended.
    helped = assess(together(confident, targets), val=together(confident, targets, "val"))
    assert helped.calibration.helps
    worth = Worth("one", "d", "", "", 4, helped, (), helped.notes)
    assert headline(worth).startswith("The calibrated ensemble is at NLL")
    assert "--calibrate" in next_commands(worth)[0]


def test_a_temperature_at_the_end_of_its_range_is_noted():
    probs, targets = classes(4, 60, 3)
    found = assess(together(probs, targets), val=together(probs, (targets + 1) % 3, "val"))  # says the opposite
    assert found.calibration.at_bound
    assert any("range" in note for note in found.notes)
    assert not any("range" in note for note in assess(together(probs, targets)).notes)


def test_missing_members_are_said_in_the_output():
    probs, targets = classes(3, 40, 3)
    members = stack(
        [(f"seed{i}", saved(p, targets)) for i, p in enumerate(probs)],
        missing=[("seed7", "failed: diverged")],
        allow_missing=True,
    )
    found = assess(members)
    assert found.notes == ("built without seed7 (failed: diverged)",)
    assert found.to_json()["missing"] == [{"member": "seed7", "reason": "failed: diverged"}]
    assert assess(together(probs[:2], targets)).notes == ("2 members: no interval over seeds",)


def test_importing_ensembles_loads_neither_torch_nor_scipy_stats():
    code = (
        "import sys, sweep.ensemble;"
        "print([m for m in ('torch', 'ray', 'scipy.stats', 'scipy.optimize') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
