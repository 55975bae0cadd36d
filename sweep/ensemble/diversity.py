"""How much members differ from one another, and the identities that tie this to what the ensemble gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.ensemble import score
from sweep.ensemble.combine import Floats, Ints, mean, member_mean


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
    members, examples, classes = array.shape
    top: Ints = array.argmax(axis=2)
    same = np.zeros((members, members))
    chance = np.zeros((members, members))
    for cls in range(classes):
        said = (top == cls).astype(np.float64)
        same += said @ said.T
        share = said.sum(axis=1) / examples
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
    array = np.asarray(probs, dtype=np.float64)
    centre = mean(array)
    singles = np.array([score.brier(one, targets) for one in array])
    spread = np.array([float(((one - centre) ** 2).sum(axis=1).mean()) for one in array])
    return Identity("brier", float(member_mean(singles)), float(member_mean(spread)), score.brier(centre, targets))


def nll_identity(probs: npt.ArrayLike, targets: npt.ArrayLike) -> Identity:
    """NLL(mean) = mean NLL - Jensen gap: the mean of log(mean p) - mean(log p) at the targets."""
    array = np.asarray(probs, dtype=np.float64)
    at = array[:, np.arange(array.shape[1]), np.asarray(targets)]
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = float((np.log(member_mean(at)) - member_mean(np.log(at))).mean())
    singles = np.array([score.nll(one, targets) for one in array])
    return Identity("nll", float(member_mean(singles)), gap, score.nll(mean(array), targets))


def mse_identity(means: npt.ArrayLike, targets: npt.ArrayLike) -> Identity:
    """MSE(mean) = mean MSE - mean variance of the members' means (Krogh & Vedelsby 1995, eq. 7)."""
    array = np.asarray(means, dtype=np.float64)
    centre = member_mean(array)
    singles = np.array([score.mse(one, targets) for one in array])
    spread = np.array([float(((one - centre) ** 2).mean()) for one in array])
    return Identity("mse", float(member_mean(singles)), float(member_mean(spread)), score.mse(centre, targets))
