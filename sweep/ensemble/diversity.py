"""How much members differ from one another, and the identities that tie this to what the ensemble gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.ensemble import score
from sweep.ensemble.combine import Floats, Ints, member_mean
from sweep.ensemble.shared import Shared, shared


@dataclass(frozen=True)
class Diversity:
    """Pairwise (members, members) matrices and their means over the M(M-1)/2 pairs.

    disagreement: share of examples with different top classes; kappa: Cohen's, 1 on identical members, NaN
    for a pair that both always say the same single class. Regression has rms_difference of the means instead.
    """

    disagreement: Floats | None = None
    kappa: Floats | None = None
    rms_difference: Floats | None = None

    def mean_of(self, matrix: Floats) -> float:
        """Mean over pairs."""
        pairs = matrix[np.triu_indices(len(matrix), 1)]
        return float(pairs.mean()) if len(pairs) else float("nan")


def of_classes(probs: npt.ArrayLike) -> Diversity:
    """(members, examples, classes): disagreement and kappa of the top classes (Cohen 1960)."""
    array = np.asarray(probs)
    return of_votes(array.argmax(axis=2), array.shape[2])


def of_votes(top: Ints, classes: int) -> Diversity:
    """(members, examples) top classes: the same."""
    members, examples = top.shape
    same = np.zeros((members, members))
    chance = np.zeros((members, members))
    kind = np.float32 if examples < 2**24 else np.float64  # either counts without rounding
    for cls in range(classes):
        said = top == cls
        each = said.astype(kind)
        same += each @ each.T
        share = np.count_nonzero(said, axis=1) / examples
        chance += np.outer(share, share)
    same /= examples
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(chance < 1.0, (same - chance) / (1.0 - chance), np.nan)
    return Diversity(disagreement=1.0 - same, kappa=kappa)


def of_values(means: npt.ArrayLike) -> Diversity:
    """(members, examples): root mean squared difference of two members' predictions."""
    array = np.asarray(means, dtype=np.float64)
    rows = [np.sqrt(((array - one) ** 2).mean(axis=1)) for one in array]
    return Diversity(rms_difference=np.stack(rows))


@dataclass(frozen=True)
class Identity:
    """ensemble = members_mean - gap, where the gap is a measure of diversity that is never negative."""

    metric: str
    members_mean: float
    gap: float
    ensemble: float

    @property
    def residual(self) -> float:
        """How far the arithmetic is from the identity; rounding only."""
        return self.ensemble - (self.members_mean - self.gap)


def brier_identity(probs: npt.ArrayLike, targets: npt.ArrayLike) -> Identity:
    """Brier(mean) = mean Brier - mean squared distance of members from their mean (Krogh & Vedelsby 1995)."""
    return brier_gap(shared(probs), np.asarray(targets))


def brier_gap(of: Shared, targets: Ints) -> Identity:
    """The same from what is shared with other parts of an assessment."""
    centre = np.ascontiguousarray(of.pool.T)
    singles, spread = np.empty(of.count), np.empty(of.count)
    apart = np.empty(centre.shape)
    for i, (one, at) in enumerate(zip(of.by_class, of.at(targets), strict=True)):
        singles[i] = score.brier_by_class(one, at).mean()
        np.subtract(one, centre, out=apart)
        spread[i] = np.einsum("ce,ce->e", apart, apart).mean()
    return Identity("brier", float(member_mean(singles)), float(member_mean(spread)), score.brier(of.pool, targets))


def nll_identity(probs: npt.ArrayLike, targets: npt.ArrayLike) -> Identity:
    """NLL(mean) = mean NLL - Jensen gap: the mean of log(mean p) - mean(log p) at the targets."""
    return nll_gap(shared(probs), np.asarray(targets))


def nll_gap(of: Shared, targets: Ints) -> Identity:
    """The same from what is shared with other parts of an assessment."""
    at = of.at(targets)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(at)
        gap = float((np.log(member_mean(at)) - member_mean(logs)).mean())
    return Identity("nll", float(member_mean(-logs.mean(axis=1))), gap, score.nll(of.pool, targets))


def mse_identity(means: npt.ArrayLike, targets: npt.ArrayLike) -> Identity:
    """MSE(mean) = mean MSE - mean variance of the members' means (Krogh & Vedelsby 1995, eq. 7)."""
    array = np.asarray(means, dtype=np.float64)
    centre = member_mean(array)
    singles = np.array([score.mse(one, targets) for one in array])
    spread = np.array([float(((one - centre) ** 2).mean()) for one in array])
    return Identity("mse", float(member_mean(singles)), float(member_mean(spread)), score.mse(centre, targets))
