"""What a prediction is worth: proper scores, calibration error, ranking, as pure functions on arrays.

Classification takes probs (examples, classes) and targets (examples,) of class indices. Regression takes a
uniform Gaussian mixture, mean and var (members, examples), and targets (examples,); one member is M = 1.
Lower is better except for accuracy and AUROC. Logarithms are natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, ndtr

from sweep.ensemble.combine import Floats, Ints, member_mean
from sweep.errors import EnsembleError
from sweep.stats import clopper_pearson

BINS = 15
DIAGRAM_BINS = 10


def accuracy(probs: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Share of examples whose top class is the target; ties go to the lowest class."""
    p, t = _pair(probs, targets)
    return float((p.argmax(axis=1) == t).mean())


def nll_each(probs: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """(examples,): -log of the target's probability; inf where that is 0."""
    p, t = _pair(probs, targets)
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(p[np.arange(len(t)), t]), dtype=np.float64)


def nll(probs: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Mean negative log-likelihood in nats."""
    return float(nll_each(probs, targets).mean())


def brier_each(probs: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """(examples,): squared distance to the one-hot target, summed over classes (Brier 1950): 0 to 2."""
    p, t = _pair(probs, targets)
    return brier_by_class(p.T, p[np.arange(len(t)), t])


def brier_by_class(by_class: Floats, at: Floats) -> Floats:
    """(examples,): the same from (classes, examples) and the target's probabilities (examples,)."""
    return np.asarray(np.einsum("ce,ce->e", by_class, by_class) - at * at + (1.0 - at) ** 2, dtype=np.float64)


def brier(probs: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Mean Brier score, summed over classes."""
    return float(brier_each(probs, targets).mean())


@dataclass(frozen=True)
class Reliability:
    """Equal-width right-closed bins of the top label's confidence; empty bins hold NaN."""

    edges: Floats
    count: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo 2017, eq. 3): |accuracy - confidence|, weighted by count."""
        filled = self.count > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gaps * self.count[filled]).sum() / self.count.sum())


def reliability(probs: npt.ArrayLike, targets: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """The reliability diagram's numbers: a confidence on an edge belongs to the bin below it."""
    p, t = _pair(probs, targets)
    return reliability_of(p.max(axis=1), p.argmax(axis=1) == t, bins)


def reliability_of(confidence: Floats, right: npt.NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """(examples,) twice: the top class's probability, and whether that class is the target."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins).astype(np.int64)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(index, confidence, minlength=bins) / count
        mean_accuracy = np.bincount(index[right], minlength=bins) / count
    return Reliability(edges, count, mean_confidence, mean_accuracy)


def ece(probs: npt.ArrayLike, targets: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error of the top label. Biased upwards on few examples, so it gets no interval."""
    return reliability(probs, targets, bins).ece


def auroc(probs: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """One-vs-rest area under the ROC curve, averaged over classes (macro); ties count half.

    Raises EnsembleError when a class has no example, or every example is of one class.
    """
    p, t = _pair(probs, targets)
    return auroc_by_class(np.ascontiguousarray(p.T), t)


def auroc_by_class(by_class: Floats, targets: Ints) -> float:
    """The same from (classes, examples)."""
    t = targets
    counts = np.bincount(t, minlength=len(by_class))
    absent = np.flatnonzero((counts == 0) | (counts == len(t)))
    if absent.size:
        kind = "has no example" if counts[absent[0]] == 0 else "is the only class"
        raise EnsembleError(f"no AUROC: class {absent[0]} {kind} in this split")
    areas = []
    for cls, values in enumerate(by_class):
        positive = t == cls
        mine, rest = np.sort(values[positive]), values[~positive]
        # What lies below all positives is counted, not sorted: with good models that is most of the rest.
        near = np.sort(rest[rest >= mine[0]])
        below = np.searchsorted(near, mine, side="left") + np.searchsorted(near, mine, side="right")
        pairs = mine.size * rest.size
        areas.append((float(below.sum()) + 2.0 * mine.size * (rest.size - near.size)) / (2.0 * pairs))
    return math.fsum(areas) / len(areas)


@dataclass(frozen=True)
class Diagram:
    """A reliability diagram over bins of equal mass: confidence and accuracy in each, and its interval.

    edges (bins + 1,): right-closed, quantiles of the confidences; count, confidence, accuracy, low, high (bins,):
    low to high is the Clopper-Pearson interval of the accuracy. Tied confidences share a bin, so there may be
    fewer bins than were asked for, and none is empty.
    """

    edges: Floats
    count: Ints
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    level: float


def diagram(probs: npt.ArrayLike, targets: npt.ArrayLike, bins: int = DIAGRAM_BINS, level: float = 0.95) -> Diagram:
    """Return the reliability diagram of the top class: probs (examples, classes), targets (examples,)."""
    p, t = _pair(probs, targets)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == t
    edges = np.unique(np.quantile(confidence, np.linspace(0.0, 1.0, bins + 1), method="inverted_cdf"))
    if len(edges) < 2:
        edges = np.array([0.0, edges[0]])
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)
    count = np.bincount(index, minlength=len(edges) - 1).astype(np.int64)
    hits = np.bincount(index[right], minlength=len(count)).astype(np.int64)
    limits = [clopper_pearson(int(k), int(n), level) for k, n in zip(hits, count, strict=True)]
    return Diagram(
        edges, count, np.bincount(index, confidence, minlength=len(count)) / count, hits / count,
        np.array([one.low for one in limits]), np.array([one.high for one in limits]), level,
    )  # fmt: skip


@dataclass(frozen=True)
class RiskCoverage:
    """Error rate (risk) among the most confident k examples, for each coverage k/n."""

    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """AURC: mean risk over all coverages (Geifman 2019); 0 is perfect."""
        return float(self.risk.mean())


def risk_coverage(probs: npt.ArrayLike, targets: npt.ArrayLike) -> RiskCoverage:
    """Abstain on the least confident first. Tied confidences enter in expectation over their order."""
    p, t = _pair(probs, targets)
    return risk_of(p.max(axis=1), p.argmax(axis=1) == t)


def risk_of(confidence: Floats, right: npt.NDArray[np.bool_]) -> RiskCoverage:
    """(examples,) twice: the top class's probability, and whether that class is the target."""
    order = np.argsort(-confidence)  # in whatever order tied ones come: they share one expectation
    falling = confidence[order]
    group = np.concatenate([[0], np.cumsum(falling[1:] != falling[:-1])])
    expected = (np.bincount(group, ~right[order]) / np.bincount(group))[group]
    rank = np.arange(1, len(order) + 1, dtype=np.float64)
    return RiskCoverage(rank / len(order), np.cumsum(expected) / rank)


def mse(mean: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Mean squared error of point predictions (examples,)."""
    m, t = np.asarray(mean, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if m.shape != t.shape or m.ndim != 1:
        raise EnsembleError(f"means of shape {m.shape} and targets of shape {t.shape} do not match")
    return float(((m - t) ** 2).mean())


def rmse(mean: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Root of the mean squared error, in the target's unit."""
    return math.sqrt(mse(mean, targets))


def log_density(mean: npt.ArrayLike, var: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """(members, examples): log density of each member's Gaussian at the target."""
    m, v, t = _mixture(mean, var, targets)
    return np.asarray(-0.5 * (np.log(2.0 * math.pi * v) + (t - m) ** 2 / v), dtype=np.float64)


def mixture_nll_each(mean: npt.ArrayLike, var: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """(examples,): -log of the mixture's density at the target; not that of the moment-matched Gaussian."""
    logs = np.sort(log_density(mean, var, targets), axis=0)
    return np.asarray(math.log(logs.shape[0]) - logsumexp(logs, axis=0), dtype=np.float64)


def mixture_nll(mean: npt.ArrayLike, var: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Mean negative log-likelihood of the uniform Gaussian mixture in nats."""
    return float(mixture_nll_each(mean, var, targets).mean())


def absolute_normal(mean: npt.ArrayLike, var: npt.ArrayLike) -> Floats:
    """E|X| for X normal(mean, var): what a Gaussian CRPS is made of (Grimit 2006, eq. 6); var may be 0."""
    m, v = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(var, dtype=np.float64))
    sd = np.sqrt(v)
    z = np.divide(m, sd, out=np.zeros(m.shape), where=sd > 0)
    smooth = 2.0 * sd * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) + m * (2.0 * ndtr(z) - 1.0)
    return np.asarray(np.where(sd > 0, smooth, np.abs(m)), dtype=np.float64)


def mixture_crps_each(mean: npt.ArrayLike, var: npt.ArrayLike | None, targets: npt.ArrayLike) -> Floats:
    """(examples,): CRPS of the uniform Gaussian mixture in closed form (Grimit 2006, eq. 5), target's unit.

    var None takes members as points: E|X - y| - E|X - X'| / 2 over the members.
    """
    m, v, t = _mixture(mean, var, targets)
    members = m.shape[0]
    spread = np.zeros(t.shape)
    order = np.lexsort((v, m), axis=0)
    m, v = np.take_along_axis(m, order, axis=0), np.take_along_axis(v, order, axis=0)
    for i in range(members):
        pairs = absolute_normal(m[i] - m[i:], v[i] + v[i:])
        spread += pairs[0] + 2.0 * pairs[1:].sum(axis=0)
    return np.asarray(member_mean(absolute_normal(t - m, v)) - spread / (2.0 * members**2), dtype=np.float64)


def mixture_crps(mean: npt.ArrayLike, var: npt.ArrayLike | None, targets: npt.ArrayLike) -> float:
    """Mean continuous ranked probability score of the uniform Gaussian mixture."""
    return float(mixture_crps_each(mean, var, targets).mean())


def _pair(probs: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Floats, Ints]:
    p = np.asarray(probs, dtype=np.float64)
    t = np.asarray(targets)
    if p.ndim != 2 or t.shape != p.shape[:1] or not len(t):
        raise EnsembleError(
            f"probabilities of shape {p.shape} and targets of shape {t.shape} do not match",
            hint="expected (examples, classes) and (examples,)",
        )
    if t.dtype.kind not in "iu" or t.min() < 0 or t.max() >= p.shape[1]:
        raise EnsembleError(
            f"targets are not class indices 0..{p.shape[1] - 1} (dtype {t.dtype})",
            hint="save targets as integers",
        )
    return p, t.astype(np.int64, copy=False)


def _mixture(mean: npt.ArrayLike, var: npt.ArrayLike | None, targets: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    m, t = np.asarray(mean, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    v = np.zeros(m.shape) if var is None else np.asarray(var, dtype=np.float64)
    if m.ndim != 2 or v.shape != m.shape or t.shape != m.shape[1:] or not len(t):
        raise EnsembleError(
            f"means {m.shape}, variances {v.shape} and targets {t.shape} do not match",
            hint="expected (members, examples) twice and (examples,)",
        )
    return m, v, t
