"""Combination rules, the split of uncertainty, diversity and its identities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predicted import classes, values
from sklearn.metrics import cohen_kappa_score

from sweep.ensemble import combine, diversity, score, uncertainty
from sweep.errors import EnsembleError


def test_the_mean_is_taken_in_float64():
    probs = np.full((3, 1, 2), 0.5, dtype=np.float32)
    probs[0, 0] = np.float32([0.1, 0.9])
    assert combine.mean(probs).dtype == np.float64
    assert combine.mean(probs)[0, 0] == (float(np.float32(0.1)) + 0.5 + 0.5) / 3


def test_the_geometric_mean_is_the_softmax_of_mean_logits():
    logits = np.random.default_rng(0).normal(size=(3, 5, 4))
    probs = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    expected = np.exp(logits.mean(0)) / np.exp(logits.mean(0)).sum(1, keepdims=True)
    assert combine.geometric(probs) == pytest.approx(expected, abs=1e-12)


def test_a_zero_is_a_veto_and_a_row_of_vetoes_is_refused():
    probs = np.array([[[0.0, 0.5, 0.5]], [[0.5, 0.5, 0.0]]])
    assert combine.geometric(probs).tolist() == [[0.0, 1.0, 0.0]]
    with pytest.raises(EnsembleError, match=r"every class of row 0 is given probability 0 by some member"):
        combine.geometric(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]))


def test_votes_are_shares_and_ties_go_to_the_lowest_class():
    probs = np.array([[[0.6, 0.4]], [[0.5, 0.5]], [[0.1, 0.9]]])
    assert combine.vote(probs) == pytest.approx(np.array([[2 / 3, 1 / 3]]))


def test_the_mixture_splits_variance_with_ddof_0():
    found = combine.mixture([[0.0], [2.0]], [[1.0], [3.0]])
    assert (found.mean[0], found.aleatoric[0], found.epistemic[0], found.variance[0]) == (1.0, 2.0, 1.0, 3.0)
    assert combine.mixture([[0.0], [2.0]]).variance[0] == 1.0


@given(st.integers(2, 7), st.permutations(range(7)), st.integers(0, 50))
def test_the_order_of_members_never_changes_a_byte(count, order, seed):
    probs, _ = classes(count, 9, 3, seed=seed)
    mean, var, _ = values(count, 9, seed=seed)
    shuffled = [i for i in order if i < count]
    for rule in (combine.mean, combine.geometric, combine.vote):
        assert rule(probs).tobytes() == rule(probs[shuffled]).tobytes()
    before, after = uncertainty.entropy_split(probs), uncertainty.entropy_split(probs[shuffled])
    assert before.epistemic.tobytes() == after.epistemic.tobytes()
    assert before.aleatoric.tobytes() == after.aleatoric.tobytes()
    ours, theirs = combine.mixture(mean, var), combine.mixture(mean[shuffled], var[shuffled])
    assert ours.variance.tobytes() == theirs.variance.tobytes()


def test_plain_summation_would_show_the_order():
    """The negative control of the test above: without sorting, the bytes do differ."""
    probs, _ = classes(7, 50, 3)
    assert probs.mean(axis=0).tobytes() != probs[::-1].mean(axis=0).tobytes()


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 100))
def test_total_entropy_is_aleatoric_plus_epistemic(members, count, seed):
    probs, _ = classes(members, 20, count, seed=seed)
    found = uncertainty.entropy_split(probs)
    assert np.abs(found.total - found.aleatoric - found.epistemic).max() < 1e-12
    pool = probs.mean(0)
    assert found.total == pytest.approx(-(pool * np.log(pool)).sum(1), abs=1e-12)


def test_entropies_survive_zeros_and_agreement_has_no_epistemic_part():
    found = uncertainty.entropy_split(np.array([[[1.0, 0.0]], [[1.0, 0.0]]]))
    assert (found.total[0], found.aleatoric[0], found.epistemic[0]) == (0, 0, 0)
    split = uncertainty.entropy_split(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert split.epistemic[0] == pytest.approx(np.log(2), abs=1e-15)
    assert split.variation_ratio[0] == 0.5


def test_the_most_disputed_come_first_and_agreement_is_not_disputed():
    assert uncertainty.most_disputed([0.1, 0.0, 0.3, 0.1], most=4).tolist() == [2, 0, 3]


def test_disagreement_and_kappa_equal_scikit_learn():
    probs, _ = classes(4, 150, 3)
    top = probs.argmax(2)
    found = diversity.of_classes(probs)
    for i in range(4):
        for j in range(4):
            assert found.disagreement[i, j] == pytest.approx((top[i] != top[j]).mean(), abs=1e-12)
            assert found.kappa[i, j] == pytest.approx(cohen_kappa_score(top[i], top[j]), abs=1e-9)
    pairs = [found.kappa[i, j] for i in range(4) for j in range(i)]
    assert found.mean_of(found.kappa) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_kappa_does_not_exist_for_two_constants():
    always = np.tile([0.9, 0.1], (2, 5, 1))
    assert np.isnan(diversity.of_classes(always).kappa).all()


@given(st.integers(2, 6), st.integers(0, 100))
def test_the_identities_hold(members, seed):
    probs, targets = classes(members, 30, 4, seed=seed)
    mean, _, numbers = values(members, 30, seed=seed)
    for found in (
        diversity.brier_identity(probs, targets),
        diversity.nll_identity(probs, targets),
        diversity.mse_identity(mean, numbers),
    ):
        assert abs(found.residual) < 1e-12
        assert found.gap > 0
    assert diversity.brier_identity(probs, targets).ensemble == score.brier(combine.mean(probs), targets)


def test_the_brier_identity_fails_for_another_combination():
    """The negative control: the geometric mean is no minimiser of squared distance, so its residual shows."""
    probs, targets = classes()
    found = diversity.brier_identity(probs, targets)
    other = score.brier(combine.geometric(probs), targets)
    assert abs(other - (found.members_mean - found.gap)) > 1e-4
