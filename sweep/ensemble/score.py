"""Score predictions: proper scores, calibration error and ranking, as pure functions on arrays.

Classes: probs (…, examples, classes) and targets (examples,) of class indices. Values: a uniform mixture of Gaussians,
mean and var (members, examples), and targets (examples,). Lower is better but for accuracy and AUROC. Logarithms are
natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, ndtr

from sweep.stats import clopper_pearson

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 15
DIAGRAM_BINS = 10


@dataclass(frozen=True)
class Judged:
    """(…, examples): whether the top class is the target, its probability, the target's, and the Brier score.

    Of tied classes the lowest is the top one, as in `argmax`.
    """

    right: npt.NDArray[np.bool_]
    confidence: Floats
    at: Floats
    brier: Floats

    @cached_property
    def nll(self) -> Floats:
        """-log of the target's probability; inf where that is 0."""
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
        """Return whether no target was given probability 0, of which no temperature makes a likelihood."""
        return bool((self.at > 0).all())


def judged(probs: npt.ArrayLike, targets: npt.ArrayLike) -> Judged:
    """Hold probabilities (…, examples, classes) against the targets, class indices (examples,)."""
    p, t = np.asarray(probs, dtype=np.float64), np.asarray(targets)
    top = p.argmax(axis=-1)
    at = p[..., np.arange(len(t)), t]
    square = np.einsum("...c,...c->...", p, p)
    return Judged(top == t, np.take_along_axis(p, top[..., None], -1)[..., 0], at, square - 2.0 * at + 1.0)


def of_classes(probs: npt.ArrayLike, targets: npt.ArrayLike) -> dict[str, float]:
    """Return the scores of probabilities (examples, classes); AUROC is NaN where a class has no example or all."""
    found = judged(probs, targets)
    return {
        **found.means,
        "ece": ece(found),
        "auroc": auroc(np.asarray(probs, dtype=np.float64), np.asarray(targets)),
        "aurc": risk_coverage(found).area,
    }


def ece(found: Judged) -> float:
    """Expected calibration error (Guo 2017, eq. 3) over equal bins closed on the right. Biased on few examples."""
    index = _binned(found.confidence, np.linspace(0.0, 1.0, BINS + 1))
    gaps = np.bincount(index, found.right - found.confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(index))


def _binned(confidence: Floats, edges: Floats) -> npt.NDArray[np.intp]:
    """Return the bin of each confidence; bins are closed on the right, the first on both sides."""
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)


def auroc(probs: Floats, targets: Ints) -> float:
    """One-vs-rest area under the ROC curve, averaged over classes (macro); ties count half.

    NaN when a class has no example, or every example is of one class.
    """
    counts = np.bincount(targets, minlength=probs.shape[1])
    if ((counts == 0) | (counts == len(targets))).any():
        return math.nan
    areas = []
    for cls, values in enumerate(np.ascontiguousarray(probs.T)):
        mine, rest = np.sort(values[targets == cls]), values[targets != cls]
        # What lies below all positives is counted, not sorted: with good models that is most of the rest.
        near = np.sort(rest[rest >= mine[0]])
        below = np.searchsorted(near, mine, side="left") + np.searchsorted(near, mine, side="right")
        areas.append((float(below.sum()) / mine.size + 2.0 * (rest.size - near.size)) / (2.0 * rest.size))
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
        """AURC: mean risk over all coverages (Geifman 2019); 0 is perfect."""
        return float(self.risk.mean())


def risk_coverage(found: Judged) -> RiskCoverage:
    """Abstain on the least confident first. Tied confidences enter in expectation over their order."""
    order = np.argsort(-found.confidence)  # in whatever order tied ones come: they share one expectation
    falling = found.confidence[order]
    group = np.concatenate([[0], np.cumsum(falling[1:] != falling[:-1])])
    expected = (np.bincount(group, ~found.right[order]) / np.bincount(group))[group]
    rank = np.arange(1, len(order) + 1, dtype=np.float64)
    return RiskCoverage(rank / len(order), np.cumsum(expected) / rank)


def of_values(mean: npt.ArrayLike, var: npt.ArrayLike | None, targets: npt.ArrayLike) -> dict[str, float]:
    """Return the scores of the uniform Gaussian mixture (members, examples); with variances its NLL as well."""
    m, v, t = _mixture(mean, var, targets)
    mse = float(((m.mean(axis=0) - t) ** 2).mean())
    found = {"rmse": math.sqrt(mse), "mse": mse, "crps": float(mixture_crps(m, v, t).mean())}
    return found if var is None else {**found, "nll": float(mixture_nll(m, v, t).mean())}


def log_density(mean: npt.ArrayLike, var: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """(members, examples): log density of each member's Gaussian at the target."""
    m, v, t = _mixture(mean, var, targets)
    return np.asarray(-0.5 * (np.log(2.0 * math.pi * v) + (t - m) ** 2 / v), dtype=np.float64)


def mixture_nll(mean: npt.ArrayLike, var: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """(examples,): -log of the mixture's density at the target; not that of the moment-matched Gaussian."""
    logs = log_density(mean, var, targets)
    return np.asarray(math.log(logs.shape[0]) - logsumexp(logs, axis=0), dtype=np.float64)


def absolute_normal(mean: npt.ArrayLike, var: npt.ArrayLike) -> Floats:
    """E|X| for X normal(mean, var): what a Gaussian CRPS is made of (Grimit 2006, eq. 6); var may be 0."""
    m, v = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(var, dtype=np.float64))
    sd = np.sqrt(v)
    z = np.divide(m, sd, out=np.zeros(m.shape), where=sd > 0)
    smooth = 2.0 * sd * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) + m * (2.0 * ndtr(z) - 1.0)
    return np.asarray(np.where(sd > 0, smooth, np.abs(m)), dtype=np.float64)


def mixture_crps(mean: npt.ArrayLike, var: npt.ArrayLike | None, targets: npt.ArrayLike) -> Floats:
    """(examples,): CRPS of the uniform Gaussian mixture in closed form (Grimit 2006, eq. 5), target's unit.

    var None takes members as points: E|X - y| - E|X - X'| / 2 over the members.
    """
    m, v, t = _mixture(mean, var, targets)
    spread = np.zeros(t.shape)
    for i in range(len(m)):
        pairs = absolute_normal(m[i] - m[i:], v[i] + v[i:])
        spread += pairs[0] + 2.0 * pairs[1:].sum(axis=0)
    return np.asarray(absolute_normal(t - m, v).mean(axis=0) - spread / (2.0 * len(m) ** 2), dtype=np.float64)


def _mixture(mean: npt.ArrayLike, var: npt.ArrayLike | None, targets: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    m, t = np.asarray(mean, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    return m, np.zeros(m.shape) if var is None else np.asarray(var, dtype=np.float64), t
