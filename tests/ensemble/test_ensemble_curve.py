"""The size curve against enumeration of every subset, its band, and how many members are enough."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from predicted import accuracy_of, brier_of, classes, nll_of, values

from sweep.ensemble import curve, enough, score
from sweep.errors import EnsembleError


def enumerated(count, of, without=None):
    """Mean of of(subset) over all subsets of each size, among the members other than `without`."""
    left = [i for i in range(count) if i != without]
    return [
        np.mean([of(list(subset)) for subset in itertools.combinations(left, size)]) for size in range(1, len(left) + 1)
    ]


OF = {"accuracy": accuracy_of, "nll": nll_of, "brier": brier_of}


def named(curves):
    return {one.metric: one for one in curves}


@pytest.mark.parametrize("count", [2, 3, 6])
def test_class_curves_equal_full_enumeration(count):
    probs, targets = classes(count, 40, 4)
    found = named(curve.class_curves(probs, targets))
    for metric, of in OF.items():
        expected = enumerated(count, lambda s, of=of: of(probs[s].mean(0), targets))
        assert found[metric].value == pytest.approx(expected, abs=1e-12)
    assert found["brier"].method == "closed form"
    assert found["nll"].method == "subsets"
    assert not found["nll"].noise.any()


@pytest.mark.parametrize("count", [2, 3, 6])
def test_value_curves_equal_full_enumeration(count):
    mean, var, targets = values(count, 30)
    found = named(curve.value_curves(mean, var, targets))
    scores = {
        name: lambda s, name=name: score.of_values(mean[s], var[s], targets)[name]
        for name in ("rmse", "mse", "crps", "nll")
    }
    for metric, of in scores.items():
        assert found[metric].value == pytest.approx(enumerated(count, of), abs=1e-12)
    assert set(named(curve.value_curves(mean, None, targets))) == {"rmse", "mse", "crps"}


def test_the_closed_form_is_the_pooled_score_plus_the_members_variance():
    probs, targets = classes(7, 50, 4)
    spread = probs.var(axis=0, ddof=1).sum(axis=1).mean()
    size = np.arange(1, 8)
    expected = brier_of(probs.mean(0), targets) + (1 / size) * (1 - size / 7) * spread
    assert named(curve.class_curves(probs, targets))["brier"].value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "nll", "brier"])
def test_the_band_is_the_jackknife_over_members(metric):
    count = 5
    probs, targets = classes(count, 40, 4)
    found = named(curve.class_curves(probs, targets))[metric]
    of = OF[metric]
    without = np.array([enumerated(count, lambda s: of(probs[s].mean(0), targets), without=i) for i in range(count)])
    replicas = np.concatenate([without, without[:, -1:]], axis=1)
    error = np.sqrt((count - 1) / count * ((replicas - replicas.mean(0)) ** 2).sum(0))
    assert found.error == pytest.approx(error, abs=1e-12)
    half = 2.7764451051977987 * error  # t, 4 degrees of freedom, 97.5 %
    assert found.low == pytest.approx(found.value - half, abs=1e-9)
    assert found.high == pytest.approx(found.value + half, abs=1e-9)
    # The spread over subsets is 0 with all members; the band over seeds is not.
    assert found.error[-1] > 0


def test_two_members_have_a_curve_and_no_band():
    found = curve.class_curves(*classes(2, 40, 4))[0]
    assert np.isfinite(found.value).all()
    assert np.isnan(found.low).all()


def test_permutations_come_close_to_enumeration_and_hit_the_ends(monkeypatch):
    probs, targets = classes(9, 120, 4)
    exact = named(curve.class_curves(probs, targets))
    monkeypatch.setattr(curve, "FEW", 9)
    sampled = named(curve.class_curves(probs, targets))
    again = named(curve.class_curves(probs, targets))
    for metric in ("accuracy", "nll"):
        assert sampled[metric].value == pytest.approx(exact[metric].value, abs=8e-3)
        gap = np.abs(sampled[metric].value - exact[metric].value)
        assert (gap <= 5 * sampled[metric].noise + 1e-12).all()
        assert (sampled[metric].noise[1:-2] > 0).all()
        assert not exact[metric].noise.any()
        assert sampled[metric].error == pytest.approx(exact[metric].error, rel=0.35)
        for end in (0, -2, -1):
            assert sampled[metric].value[end] == pytest.approx(exact[metric].value[end], abs=1e-12)
        assert sampled[metric].value.tobytes() == again[metric].value.tobytes()


def test_sizes_with_few_subsets_are_enumerated_among_many_members():
    probs, targets = classes(20, 40, 3)
    found = named(curve.class_curves(probs, targets))
    for metric, of in (("accuracy", accuracy_of), ("nll", nll_of)):
        for size in (2, 18):
            every = [of(probs[list(one)].mean(0), targets) for one in itertools.combinations(range(20), size)]
            assert found[metric].value[size - 1] == pytest.approx(np.mean(every), abs=1e-12)
            assert found[metric].noise[size - 1] == 0


def test_a_margin_below_the_noise_of_sampled_sizes_is_refused():
    probs, targets = classes(20, 40, 3)
    found = named(curve.class_curves(probs, targets))["nll"]
    assert [k + 1 for k in np.flatnonzero(found.noise)] == list(range(3, 18))
    with pytest.raises(EnsembleError, match="below what the sampled subsets resolve"):
        enough(found, 0.5 * found.noise.max())
    assert enough(found, 4 * found.noise.max()) > 1


def test_few_orders_are_walked():
    for count in (11, 64, 150, 500):
        orders = curve.orders_of(count, 0)
        assert len(orders) <= 66
        assert all(sorted(order) == list(range(count)) for order in orders)


def test_more_members_than_permutations_still_make_a_curve(monkeypatch):
    monkeypatch.setattr(curve, "ORDERS", 20)
    probs, targets = classes(25, 30, 3)
    found = named(curve.class_curves(probs, targets))["nll"]
    assert np.isfinite(found.value).all()
    assert found.value[-1] == pytest.approx(nll_of(probs.mean(0), targets), abs=1e-12)


def test_ties_are_counted_as_argmax_counts_them():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 3, size=(5, 60, 3)) + 1.0
    probs = coarse / 8.0  # dyadic, so that sums tie exactly
    targets = rng.integers(0, 3, 60)
    found = named(curve.class_curves(probs, targets))["accuracy"].value
    expected = enumerated(5, lambda s: (probs[s].sum(0).argmax(1) == targets).mean())
    assert found == pytest.approx(expected, abs=1e-12)
    careless = enumerated(5, lambda s: (probs[s].sum(0)[np.arange(60), targets] >= probs[s].sum(0).max(1)).mean())
    assert np.abs(np.array(careless) - expected).max() > 0.01


def test_an_impossible_target_makes_the_nll_infinite_and_leaves_the_rest():
    probs, targets = classes(12, 20, 3)
    probs = probs.copy()
    probs[0, 0] = 0.0
    probs[0, 0, (targets[0] + 1) % 3] = 1.0
    found = named(curve.class_curves(probs, targets))
    assert found["nll"].value[0] == np.inf
    assert np.isfinite(found["nll"].value[-1])
    assert np.isfinite(found["accuracy"].error).all()


def test_tiny_probabilities_do_not_underflow_in_the_products_of_a_walk():
    probs, targets = classes(12, 20, 3)
    tiny = probs.copy()
    tiny[:, np.arange(20), targets] = 1e-120
    found = named(curve.class_curves(tiny, targets))["nll"].value
    assert found == pytest.approx(120 * np.log(10), rel=1e-12)


def test_enough_is_the_smallest_size_that_stays_within_the_margin():
    def of(*points):
        array = np.array(points)
        return curve.SizeCurve("nll", array, array, array, array, "subsets", 0.95, 0.0 * array)

    assert enough(of(0.5, 0.3, 0.21, 0.2), 0.02) == 3
    assert enough(of(0.5, 0.2, 0.3, 0.2), 0.05) == 4
    assert enough(of(0.5, 0.3, 0.21, 0.2), 1.0) == 1
    assert enough(of(0.5, 0.3, 0.21, 0.2), 0.0) == 4
    with pytest.raises(EnsembleError, match="the margin is -1"):
        enough(of(0.5, 0.2), -1)
