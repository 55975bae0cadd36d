"""Scores against scikit-learn, against values computed by hand, and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from predicted import accuracy_of, brier_of, classes, nll_of, regression, together, values
from sklearn import metrics

from sweep.ensemble import brief, score
from sweep.ensemble.assess import variance_split

MEANS, SDS = np.array([[0.0], [1.0], [0.2]]), np.array([[1.0], [0.5], [0.3]])


@pytest.fixture(params=range(3))
def one(request):
    probs, targets = classes(1, 200, 5, seed=request.param)
    return probs[0], targets


def test_class_scores_equal_scikit_learn(one):
    probs, targets = one
    onehot = np.eye(5)[targets]
    assert accuracy_of(probs, targets) == metrics.accuracy_score(targets, probs.argmax(1))
    assert nll_of(probs, targets) == pytest.approx(metrics.log_loss(targets, probs), abs=1e-9)
    each = [metrics.brier_score_loss(onehot[:, c], probs[:, c]) for c in range(5)]
    assert brier_of(probs, targets) == pytest.approx(sum(each), abs=1e-9)
    area = metrics.roc_auc_score(targets, probs, multi_class="ovr", average="macro")
    assert score.auroc(probs, targets) == pytest.approx(area, abs=1e-9)


def test_auroc_counts_ties_half_and_binary_equals_the_usual_one():
    targets = np.array([0, 1, 0, 1, 1, 0])
    top = np.array([0.2, 0.2, 0.6, 0.6, 0.9, 0.1])
    probs = np.stack([1 - top, top], axis=1)
    assert score.auroc(probs, targets) == pytest.approx(metrics.roc_auc_score(targets, top), abs=1e-9)


def test_auroc_does_not_exist_when_a_class_is_absent():
    assert math.isnan(score.auroc(np.full((4, 3), 1 / 3), np.array([0, 1, 0, 1])))


def test_ece_bins_are_closed_on_the_right():
    # 0.6 sits on the edge 9/15 and belongs to (8/15, 9/15], with 0.55; 0.61 is alone in the next bin.
    probs = np.array([[0.6, 0.4], [0.55, 0.45], [0.61, 0.39]])
    found = score.ece(score.judged(probs, np.array([0, 1, 0])))
    assert found == pytest.approx((abs(0.5 - 0.575) * 2 + abs(1 - 0.61)) / 3, abs=1e-12)


def test_ece_equals_its_definition(one):
    probs, targets = one
    confidence, right = probs.max(1), probs.argmax(1) == targets
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert score.ece(score.judged(probs, targets)) == pytest.approx(expected, abs=1e-9)


def test_risk_coverage_by_hand_and_in_expectation_over_ties():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]])
    found = score.risk_coverage(score.judged(probs, np.array([0, 1, 0, 1])))
    assert found.risk == pytest.approx([0, 1 / 2, 1.5 / 3, 2 / 4])
    assert found.area == pytest.approx((0 + 0.5 + 0.5 + 0.5) / 4)
    swapped = score.risk_coverage(score.judged(probs, np.array([0, 1, 1, 0])))
    assert swapped.area == found.area


def test_nll_of_an_impossible_target_is_infinite():
    assert nll_of(np.array([[1.0, 0.0]]), np.array([1])) == math.inf


def test_mixture_check_values():
    assert score.mixture_crps(MEANS, SDS**2, np.array([0.5])) == pytest.approx(0.172283900300, abs=1e-12)
    assert score.mixture_nll(MEANS, SDS**2, np.array([0.5])) == pytest.approx(0.602346634167, abs=1e-12)
    assert score.mixture_crps(np.zeros((1, 1)), np.ones((1, 1)), np.array([0.5])) == pytest.approx(
        0.331403531255, abs=1e-12
    )


def test_mixture_nll_is_not_that_of_the_moment_matched_gaussian():
    total = variance_split(MEANS, SDS**2).total
    matched = score.mixture_nll(MEANS.mean(0)[None], total[None], np.array([0.5]))
    assert abs(matched - score.mixture_nll(MEANS, SDS**2, np.array([0.5]))) > 0.05


def test_crps_equals_the_integral_over_the_distribution_function():
    from scipy.special import ndtr

    mean, var, targets = values(4, 3)
    x = np.linspace(-15, 15, 600_001)
    for n, y in enumerate(targets):
        cdf = np.mean([ndtr((x - m) / math.sqrt(v)) for m, v in zip(mean[:, n], var[:, n], strict=True)], axis=0)
        integral = np.trapezoid((cdf - (x >= y)) ** 2, x)
        found = score.mixture_crps(mean, var, targets)[n]
        assert found == pytest.approx(integral, abs=1e-4)


def test_crps_of_points_is_that_of_the_empirical_distribution():
    members = np.array([[0.0], [1.0], [0.2]])
    expected = np.abs(members - 0.5).mean() - np.abs(members - members.T).mean() / 2
    assert score.mixture_crps(members, None, np.array([0.5])) == pytest.approx(expected, abs=1e-12)


def test_value_scores_equal_scikit_learn():
    mean, _, targets = values()
    found = score.of_values(mean[:1], None, targets)
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(targets, mean[0]), abs=1e-9)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(targets, mean[0]), abs=1e-9)


def test_brief_says_the_same_as_the_scores():
    probs, targets = classes()
    found = brief(together(probs, targets))
    assert found["nll"][0] == nll_of(probs.mean(0), targets)
    assert found["accuracy"][1] == pytest.approx(np.mean([accuracy_of(p, targets) for p in probs]))
    members = regression()
    both = brief(members)
    whole = score.of_values(members.mean, members.var, members.targets)
    singles = [
        score.of_values(m[None], v[None], members.targets) for m, v in zip(members.mean, members.var, strict=True)
    ]
    for name in ("rmse", "nll"):
        assert both[name] == pytest.approx((whole[name], np.mean([one[name] for one in singles])), abs=1e-12)
    assert set(brief(regression(var=False))) == {"rmse"}


def test_a_reliability_diagram_has_bins_of_equal_mass_with_intervals():
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.uniform(0.5, 0.99, 200), np.full(300, 1.0)])
    probs = np.stack([confidence, 1 - confidence], axis=1)
    targets = (rng.random(500) > confidence).astype(int)
    found = score.diagram(score.judged(probs, targets))
    assert found.count.sum() == 500
    assert found.count.min() >= 40  # equal-width bins would hold single examples here
    assert (found.low <= found.accuracy).all()
    assert (found.accuracy <= found.high).all()
    assert (found.high - found.low > 0).all()
    top = confidence > found.edges[-2]
    assert found.accuracy[-1] == (targets[top] == 0).mean()
    assert len(score.diagram(score.judged(np.tile([0.7, 0.3], (10, 1)), np.zeros(10, int))).count) == 1
