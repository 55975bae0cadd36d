"""The split of uncertainty, disagreement of members, and what averaging gains by arithmetic alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predicted import brier_of, classes, values
from sklearn.metrics import cohen_kappa_score

from sweep.ensemble.assess import agreement, entropy_split, mean_of, most_disputed, variance_split


def test_variance_is_split_with_ddof_0():
    means = np.array([[0.0], [2.0]])
    found = variance_split(means, np.array([[1.0], [3.0]]))
    assert (found.aleatoric[0], found.epistemic[0], found.total[0]) == (2.0, 1.0, 3.0)
    assert variance_split(means, None).total[0] == 1.0


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 100))
def test_total_entropy_is_aleatoric_plus_epistemic(members, count, seed):
    probs, _ = classes(members, 20, count, seed=seed)
    found = entropy_split(probs)
    assert np.abs(found.total - found.aleatoric - found.epistemic).max() < 1e-12
    pool = probs.mean(0)
    assert found.total == pytest.approx(-(pool * np.log(pool)).sum(1), abs=1e-12)


def test_entropies_survive_zeros_and_agreement_has_no_epistemic_part():
    found = entropy_split(np.array([[[1.0, 0.0]], [[1.0, 0.0]]]))
    assert (found.total[0], found.aleatoric[0], found.epistemic[0]) == (0, 0, 0)
    split = entropy_split(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert split.epistemic[0] == pytest.approx(np.log(2), abs=1e-15)
    assert split.variation_ratio[0] == 0.5


def test_the_most_disputed_come_first_and_agreement_is_not_disputed():
    assert most_disputed(np.array([0.1, 0.0, 0.3, 0.1])).tolist() == [2, 0, 3]
    assert most_disputed(np.arange(1.0, 20.0)).tolist() == [*range(18, 8, -1)]


def test_disagreement_and_kappa_equal_scikit_learn():
    top = classes(4, 150, 3)[0].argmax(2)
    disagreement, kappa = agreement(top, 3)
    for i in range(4):
        for j in range(4):
            assert disagreement[i, j] == pytest.approx((top[i] != top[j]).mean(), abs=1e-12)
            assert kappa[i, j] == pytest.approx(cohen_kappa_score(top[i], top[j]), abs=1e-9)
    assert mean_of(kappa) == pytest.approx(np.mean([kappa[i, j] for i in range(4) for j in range(i)]), abs=1e-12)


def test_kappa_does_not_exist_for_two_constants():
    assert np.isnan(agreement(np.zeros((2, 5), dtype=int), 2)[1]).all()


@given(st.integers(2, 6), st.integers(0, 100))
def test_the_gain_in_brier_and_mse_is_the_members_spread(members, seed):
    """Krogh & Vedelsby 1995: why such a gain is never negative, and no evidence."""
    probs, targets = classes(members, 30, 4, seed=seed)
    gain = np.mean([brier_of(p, targets) for p in probs]) - brier_of(probs.mean(0), targets)
    assert gain == pytest.approx(probs.var(axis=0).sum(axis=1).mean(), abs=1e-12)
    mean, _, numbers = values(members, 30, seed=seed)
    gain = ((mean - numbers) ** 2).mean() - ((mean.mean(0) - numbers) ** 2).mean()
    assert gain == pytest.approx(mean.var(axis=0).mean(), abs=1e-12)
