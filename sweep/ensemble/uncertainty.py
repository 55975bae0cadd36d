"""How unsure an ensemble is of each example, and in which way: noisy data, or members that differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from sweep.ensemble.combine import Floats, Ints, member_mean, mixture, shares, vote
from sweep.ensemble.shared import Shared, shared

FLOOR = -745.0  # below the log of the smallest positive number: 0 · log 0 is 0


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
    return split(shared(probs))


def split(of: Shared) -> Uncertainty:
    """The same from what is shared with other parts of an assessment."""
    with np.errstate(divide="ignore"):
        centre = np.maximum(np.log(of.pool.T), FLOOR)
    entropy, divergence = np.empty(of.top.shape), np.empty(of.top.shape)
    logs = np.empty(centre.shape)
    for i, one in enumerate(of.by_class):  # one member at a time: its numbers stay in the cache
        np.maximum(of.logs[i], FLOOR, out=logs)
        np.einsum("ce,ce->e", one, logs, out=entropy[i])
        logs -= centre
        np.einsum("ce,ce->e", one, logs, out=divergence[i])
    return Uncertainty(
        entr(of.pool).sum(axis=1),
        np.maximum(-member_mean(entropy), 0.0),
        np.maximum(member_mean(divergence), 0.0),
        1.0 - shares(of.top, of.pool.shape[1]).max(axis=1),
    )


def variance_split(mean: npt.ArrayLike, var: npt.ArrayLike | None) -> Uncertainty:
    """(members, examples): variance = mean of variances + variance of means (Lakshminarayanan 2017, 2.4)."""
    parts = mixture(mean, var)
    return Uncertainty(parts.variance, parts.aleatoric, parts.epistemic)


def variation_ratio(probs: npt.ArrayLike) -> Floats:
    """(members, examples, classes) to (examples,): 1 - share of the most voted class (Freeman 1965)."""
    return np.asarray(1.0 - vote(probs).max(axis=1), dtype=np.float64)


def most_disputed(epistemic: npt.ArrayLike, most: int = 10) -> Ints:
    """Rows with the largest epistemic part, most disputed first; equal ones in row order; never a zero."""
    values = np.asarray(epistemic, dtype=np.float64)
    order = np.argsort(-values, kind="stable")[:most]
    return order[values[order] > 0].astype(np.int64)
