"""Members are matched by example id, or refused with the member and the row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from predicted import classes, pairs, saved, values

from sweep.ensemble import stack
from sweep.ensemble.members import refuse_missing
from sweep.errors import EnsembleError
from sweep.store import Predictions


def changed(where, **fields):
    """The three members with some arrays of one of them replaced."""
    return [(label, replace(one, **fields) if label == where else one) for label, one in pairs()]


def test_members_and_rows_are_sorted_whatever_the_order_given():
    given = pairs()
    order = np.random.default_rng(1).permutation(8)
    label, one = given[1]
    shuffled = replace(one, ids=one.ids[order], targets=one.targets[order], probs=one.probs[order])
    found, plain = stack([given[2], (label, shuffled), given[0]]), stack(given)
    assert found.labels == ("seed7", "seed42", "seed123")
    assert found.ids.tolist() == [f"e{i}" for i in range(8)]
    assert found.probs.tobytes() == plain.probs.tobytes()
    assert found.targets.tobytes() == plain.targets.tobytes()
    assert found.kind == "classification"
    with pytest.raises(ValueError, match="read-only"):
        found.probs[0, 0, 0] = 1.0


def test_matching_by_position_would_have_been_wrong():
    """The negative control: the same shuffled rows, taken in file order, are another ensemble."""
    given = pairs()
    order = np.random.default_rng(1).permutation(8)
    by_position = np.stack([given[0][1].probs, given[1][1].probs[order]]).mean(0)
    matched = stack(given[:2]).probs.mean(0)
    assert np.abs(by_position - matched).max() > 0.1


def test_regression_columns_lose_a_trailing_axis():
    mean, var, targets = values(2, 5)
    members = stack(
        (f"seed{i}", Predictions(np.arange(5), targets[:, None], mean=mean[i][:, None], var=var[i][:, None]))
        for i in range(2)
    )
    assert members.kind == "regression"
    assert members.mean.shape == members.var.shape == (2, 5)
    assert members.targets.shape == (5,)


REFUSED = {
    "other ids": (
        {"ids": np.array([f"e{i}" for i in (*range(7), 9)])},
        "seed123 and seed7 have different examples in test: seed123 lacks 'e7' (1 in all) and adds 'e9' (1 in all)",
    ),
    "ids of another kind": (
        {"ids": np.arange(8)},
        "seed123 identifies the examples of test by int64, but seed7 by <U2",
    ),
    "an id twice": (
        {"ids": np.array(["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e0"])},
        "seed123 has the id 'e0' twice in test (row 7)",
    ),
    "other targets": (
        {"targets": np.array([9, *pairs()[2][1].targets[1:]])},
        "seed123 has a different target from seed7: 9 for the example 'e0' of test (1 such row)",
    ),
    "float ids": ({"ids": np.linspace(0, 1, 8)}, "seed123 has ids of dtype float64 for test"),
    "fewer classes": (
        {"probs": np.full((8, 2), 0.5)},
        "the members saved 2 forms of predictions for test\n"
        "  seed7, seed42: probs (8, 4) float64\n"
        "  seed123: probs (8, 2) float64",
    ),
    "another dtype": (
        {"probs": np.full((8, 4), 0.25, dtype=np.float32)},
        "the members saved 2 forms of predictions for test\n"
        "  seed7, seed42: probs (8, 4) float64\n"
        "  seed123: probs (8, 4) float32",
    ),
    "one class": (
        {"probs": np.full((8, 1), 1.0)},
        "seed123 has probs of shape (8, 1) and dtype float64 for the 8 examples of test",
    ),
    "fewer rows": (
        {"probs": np.full((7, 4), 0.25)},
        "seed123 has probs of shape (7, 4) and dtype float64 for the 8 examples of test",
    ),
    "no predictions": ({"probs": None}, "seed123 saved no probabilities or means for test"),
    "another kind": (
        {"probs": None, "mean": np.zeros(8)},
        "the members saved 2 forms of predictions for test\n"
        "  seed7, seed42: probs (8, 4) float64\n"
        "  seed123: mean (8,) float64",
    ),
    "both kinds": ({"mean": np.zeros(8)}, "seed123 saved probs and mean for test"),
    "text": (
        {"probs": np.full((8, 4), "a")},
        "seed123 has probs of shape (8, 4) and dtype <U1 for the 8 examples of test",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mismatch_is_refused_with_the_member_and_the_row(name):
    fields, message = REFUSED[name]
    with pytest.raises(EnsembleError) as refused:
        stack(changed("seed123", **fields))
    assert refused.value.what == message
    assert refused.value.hint


ROWS = {
    "logits": ([2.0, -1.0, 0.5, -0.5], "the probability 2.0 for the example 'e3' of test"),
    "negative": ([0.5, 0.6, -0.1, 0.0], "the probability -0.1 for the example 'e3' of test"),
    "sum": ([0.3, 0.3, 0.3, 0.0], "probabilities that sum to 0.9 for the example 'e3' of test"),
    "nan": ([np.nan, 0.5, 0.5, 0.0], "NaN or an infinity in its probs for the example 'e3' of test"),
    "infinity": ([np.inf, 0.0, 0.0, 0.0], "NaN or an infinity in its probs for the example 'e3' of test"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_is_no_distribution_is_refused(name):
    row, message = ROWS[name]
    probs = np.array(pairs()[0][1].probs)
    probs[3] = row
    with pytest.raises(EnsembleError) as refused:
        stack(changed("seed42", probs=probs))
    assert refused.value.what == f"seed42 has {message} (1 such row)"


def test_float32_and_half_precision_softmaxes_pass():
    probs, targets = classes(2, 50, 10)
    stack((f"seed{i}", saved(probs[i].astype(np.float32), targets)) for i in range(2))


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_variance_that_is_not_positive_is_refused(bad):
    mean, var, targets = values(2, 5)
    var[1, 2] = bad
    with pytest.raises(EnsembleError, match=rf"^seed1 has the variance {bad} for the example 2 of test"):
        stack((f"seed{i}", Predictions(np.arange(5), targets, mean=mean[i], var=var[i])) for i in range(2))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.array([0.0, 1.0]), r"targets of test have shape \(2,\) and dtype float64"),
        (np.array([0, 3]), "the members predict the classes 0 to 2, not the target 3 for the example 1 of test"),
        (np.array([-1, 0]), "not the target -1 for the example 0 of test"),
    ],
)
def test_targets_that_are_no_classes_are_refused(targets, message):
    with pytest.raises(EnsembleError, match=message):
        stack((f"seed{i}", saved(np.full((2, 3), 1 / 3), targets)) for i in range(2))


def test_one_member_is_no_ensemble_and_none_may_come_twice():
    with pytest.raises(EnsembleError, match=r"needs 2 members or more with predictions for test, found 1 \(seed42\)"):
        stack(pairs()[:1])
    with pytest.raises(EnsembleError, match="seed42 is given twice"):
        stack([*pairs(), pairs()[0]])


def test_missing_members_need_the_flag_and_are_then_said():
    gone = [("seed9", "failed: diverged"), ("seed10", "pending")]
    with pytest.raises(EnsembleError) as refused:
        refuse_missing(gone, "no predictions", allow_missing=False)
    assert refused.value.what == "there are no predictions of seed9 (failed: diverged), seed10 (pending)"
    assert "--allow-missing" in refused.value.hint
    refuse_missing(gone, "no predictions", allow_missing=True)
    refuse_missing((), "no predictions", allow_missing=False)
