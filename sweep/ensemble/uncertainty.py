"""How unsure an ensemble is of each example, and in which way: noisy data, or members that differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import entr, rel_entr

from sweep.ensemble.combine import Floats, Ints, member_mean, mixture


@dataclass(frozen=True)
class Uncertainty:
    """An entry an example; total = aleatoric + epistemic. Entropies in nats, or variances in squared units.

    variation_ratio: share of members that did not vote for the most voted class (None in regression).
    aleatoric is None when regression members give no variance; total then is the epistemic part alone.
    """

    total: Floats
    aleatoric: Floats | None
    epistemic: Floats
    variation_ratio: Floats | None = None


def entropy_split(probs: npt.ArrayLike) -> Uncertainty:
    """(members, examples, classes): entropy of the mean = mean entropy + mutual information (Depeweg 2018).

    The mutual information is computed on its own, as the mean divergence of members from their mean, so that
    the identity is a check and the difference of two close numbers cannot turn negative.
    """
    array = np.sort(np.asarray(probs, dtype=np.float64), axis=0)
    centre = member_mean(array)
    total: Floats = entr(centre).sum(axis=1)
    aleatoric = np.zeros(len(centre))
    epistemic = np.zeros(len(centre))
    for member in array:  # one member at a time keeps the peak memory at the input's size
        aleatoric += entr(member).sum(axis=1)
        epistemic += rel_entr(member, centre).sum(axis=1)
    members = array.shape[0]
    return Uncertainty(total, aleatoric / members, np.maximum(epistemic / members, 0.0), variation_ratio(probs))


def variance_split(mean: npt.ArrayLike, var: npt.ArrayLike | None) -> Uncertainty:
    """(members, examples): variance = mean of variances + variance of means (Lakshminarayanan 2017, 2.4)."""
    parts = mixture(mean, var)
    return Uncertainty(parts.variance, parts.aleatoric, parts.epistemic)


def variation_ratio(probs: npt.ArrayLike) -> Floats:
    """(members, examples, classes) to (examples,): 1 - share of the most voted class (Freeman 1965)."""
    array = np.asarray(probs)
    top = array.argmax(axis=2)
    votes = np.stack([(top == cls).sum(axis=0) for cls in range(array.shape[2])])
    return np.asarray(1.0 - votes.max(axis=0) / array.shape[0], dtype=np.float64)


def most_disputed(epistemic: npt.ArrayLike, most: int = 10) -> Ints:
    """Rows with the largest epistemic part, most disputed first; equal ones in row order; never a zero."""
    values = np.asarray(epistemic, dtype=np.float64)
    order = np.argsort(-values, kind="stable")[:most]
    return order[values[order] > 0].astype(np.int64)
