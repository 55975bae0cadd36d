"""Scores of predictions: proper scores, calibration error and ranking, as pure functions on arrays.

Classes: probs (…, examples, classes) and targets (examples,) of class indices. Values: a uniform mixture of Gaussians,
mean and var (members, examples), and targets (examples,). Lower is better, except for accuracy and AUROC. Logarithms
are natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, ndtr

from sweep.stats import clopper_pearson
from sweep.stats.sample import Floats, Ints

BINS = 15
DIAGRAM_BINS = 10


@dataclass(frozen=True)
class Judged:
    """Predictions compared with targets, (…, examples) each.

    right: the top class is the target. confidence, at: the probability of the top class, and of the target. Among
    tied classes the lowest is the top one, as in `argmax`.
    """

    right: npt.NDArray[np.bool_]
    confidence: Floats
    at: Floats
    brier: Floats

    @cached_property
    def nll(self) -> Floats:
        """Return -log of the target's probability; inf if that is 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(self.at))

    @property
    def each(self) -> dict[str, Floats]:
        """Return the proper scores and the accuracy of each example, by name."""
        return {"accuracy": self.right.astype(np.float64), "nll": self.nll, "brier": self.brier}

    @property
    def means(self) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in self.each.items()}

    @property
    def possible(self) -> bool:
        """Return whether no target has probability 0, which would stay 0 at every temperature."""
        return bool((self.at > 0).all())


def judged(probs: Floats, targets: Ints) -> Judged:
    """Compare probabilities (…, examples, classes) with the targets, class indices (examples,)."""
    top = probs.argmax(axis=-1)
    at = probs[..., np.arange(len(targets)), targets]
    square = np.einsum("...c,...c->...", probs, probs)
    confidence = np.take_along_axis(probs, top[..., None], -1)[..., 0]
    return Judged(top == targets, confidence, at, square - 2.0 * at + 1.0)


def of_classes(probs: Floats, targets: Ints) -> dict[str, float]:
    """Return the scores of probabilities (examples, classes); AUROC is NaN if a class has no example or all."""
    found = judged(probs, targets)
    return {**found.means, "ece": ece(found), "auroc": auroc(probs, targets), "aurc": risk_coverage(found).area}


def ece(found: Judged) -> float:
    """Return the expected calibration error (Guo 2017, eq. 3) over equal bins; it is biased on few examples."""
    index = _binned(found.confidence, np.linspace(0.0, 1.0, BINS + 1))
    gaps = np.bincount(index, found.right - found.confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(index))


def _binned(confidence: Floats, edges: Floats) -> npt.NDArray[np.intp]:
    """Return the bin of each confidence; bins are closed on the right, the first on both sides."""
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def auroc(probs: Floats, targets: Ints) -> float:
    """Return the one-vs-rest area under the ROC curve, averaged over classes (macro); ties count half.

    NaN if a class has no example, or every example is of one class.
    """
    counts = np.bincount(targets, minlength=probs.shape[1])
    if ((counts == 0) | (counts == len(targets))).any():
        return math.nan
    areas = []
    for cls, values in enumerate(np.ascontiguousarray(probs.T)):
        mine, rest = np.sort(values[targets == cls]), values[targets != cls]
        # Values below all positives are only counted, not sorted, because with good models they are most of the rest.
        near = np.sort(rest[rest >= mine[0]])
        below = np.searchsorted(near, mine, side="left") + np.searchsorted(near, mine, side="right")
        areas.append((float(below.sum()) / mine.size + 2.0 * (rest.size - near.size)) / (2.0 * rest.size))
    return math.fsum(areas) / len(areas)


@dataclass(frozen=True)
class Diagram:
    """A reliability diagram over bins of equal mass: confidence and accuracy in each, and its interval.

    edges (bins + 1,): right-closed, quantiles of the confidences; count, confidence, accuracy, low, high (bins,):
    low to high is the Clopper-Pearson interval of the accuracy. Tied confidences share a bin, so there may be
    fewer than DIAGRAM_BINS, and none is empty.
    """

    edges: Floats
    count: Ints
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    level: float


def diagram(found: Judged, level: float = 0.95) -> Diagram:
    """Return the reliability diagram of the top class."""
    edges = np.unique(np.quantile(found.confidence, np.linspace(0.0, 1.0, DIAGRAM_BINS + 1), method="inverted_cdf"))
    if len(edges) < 2:
        edges = np.array([0.0, edges[0]])
    index = _binned(found.confidence, edges)
    count = np.bincount(index, minlength=len(edges) - 1).astype(np.int64)
    hits = np.bincount(index[found.right], minlength=len(count)).astype(np.int64)
    limits = [clopper_pearson(int(k), int(n), level) for k, n in zip(hits, count, strict=True)]
    confidence = np.bincount(index, found.confidence, minlength=len(count)) / count
    low, high = np.array([(one.low, one.high) for one in limits]).T
    return Diagram(edges, count, confidence, hits / count, low, high, level)


@dataclass(frozen=True)
class RiskCoverage:
    """Error rate (risk) among the most confident k examples, for each coverage k/n."""

    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """Return the AURC, the mean risk over all coverages (Geifman 2019); 0 is perfect."""
        return float(self.risk.mean())


def risk_coverage(found: Judged) -> RiskCoverage:
    """Abstain on the least confident first. Tied confidences enter in expectation over their order."""
    order = np.argsort(-found.confidence)  # in any order for ties, which share one expectation
    falling = found.confidence[order]
    group = np.concatenate([[0], np.cumsum(falling[1:] != falling[:-1])])
    expected = (np.bincount(group, ~found.right[order]) / np.bincount(group))[group]
    rank = np.arange(1, len(order) + 1, dtype=np.float64)
    return RiskCoverage(rank / len(order), np.cumsum(expected) / rank)


def of_values(mean: Floats, var: Floats | None, targets: Floats) -> dict[str, float]:
    """Return the scores of the uniform Gaussian mixture (members, examples); with variances also its NLL."""
    mse = float(((mean.mean(axis=0) - targets) ** 2).mean())
    found = {"rmse": math.sqrt(mse), "mse": mse, "crps": float(mixture_crps(mean, var, targets).mean())}
    return found if var is None else {**found, "nll": float(mixture_nll(mean, var, targets).mean())}


def log_density(mean: Floats, var: Floats, targets: Floats) -> Floats:
    """Return the log density of each member's Gaussian at the target, (members, examples)."""
    return -0.5 * (np.log(2.0 * math.pi * var) + (targets - mean) ** 2 / var)


def mixture_nll(mean: Floats, var: Floats, targets: Floats) -> Floats:
    """Return -log of the mixture's density at each target; not that of the moment-matched Gaussian."""
    return np.asarray(math.log(len(mean)) - logsumexp(log_density(mean, var, targets), axis=0))


def absolute_normal(mean: Floats, var: Floats) -> Floats:
    """Return E|X| for X normal(mean, var), the part of a Gaussian CRPS (Grimit 2006, eq. 6); var may be 0."""
    sd = np.sqrt(var)
    z = np.divide(mean, sd, out=np.zeros(mean.shape), where=sd > 0)
    smooth = 2.0 * sd * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) + mean * (2.0 * ndtr(z) - 1.0)
    return np.where(sd > 0, smooth, np.abs(mean))


def mixture_crps(mean: Floats, var: Floats | None, targets: Floats) -> Floats:
    """Return the CRPS of the uniform Gaussian mixture for each example, in closed form (Grimit 2006, eq. 5).

    It has the unit of the target. Without var, members are points: E|X - y| - E|X - X'| / 2 over the members.
    """
    var = np.zeros(mean.shape) if var is None else var
    spread = np.zeros(targets.shape)
    for i in range(len(mean)):
        pairs = absolute_normal(mean[i] - mean[i:], var[i] + var[i:])
        spread += pairs[0] + 2.0 * pairs[1:].sum(axis=0)
    return np.asarray(absolute_normal(targets - mean, var).mean(axis=0) - spread / (2.0 * len(mean) ** 2))
