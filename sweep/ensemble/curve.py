"""The size curve: what a random ensemble of k of these members is expected to score, for every k.

Scores that are quadratic in the prediction (Brier, MSE, CRPS) have the expectation over all k-subsets in
closed form; the others are averaged over subsets that are walked by adding one member at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from sweep.ensemble import score
from sweep.ensemble.combine import Floats, Ints
from sweep.ensemble.contest import contests
from sweep.ensemble.shared import Shared, shared
from sweep.ensemble.subsets import Bools, Walk, columns, walked
from sweep.errors import EnsembleError


@dataclass(frozen=True)
class SizeCurve:
    """Entry k - 1 is for k members: value, its standard error over seeds, and the band low to high.

    The band is the delete-one jackknife with Student's t on M - 1 degrees of freedom; at k = M it uses the
    ensembles of all members but one. It is NaN below 3 members. method says how the expectation was taken; noise is
    the standard error of value that comes of scoring some subsets only, 0 where it is the exact expectation.
    """

    metric: str
    value: Floats
    error: Floats
    low: Floats
    high: Floats
    method: str
    level: float
    noise: Floats

    @property
    def members(self) -> int:
        return len(self.value)


def enough(curve: SizeCurve, margin: float) -> int:
    """Return the smallest k from which on the curve stays within margin (in the metric's unit) of all M members.

    Raises: EnsembleError for a margin that is negative, or that twice the noise of the sampled sizes exceeds.
    """
    if not margin >= 0:
        raise EnsembleError(f"the margin is {margin}", hint="give a margin of 0 or more, in the metric's unit")
    least = 2.0 * float(np.max(curve.noise, initial=0.0))
    if margin < least:
        raise EnsembleError(
            f"the margin {margin:g} is below what the sampled subsets can tell in {curve.metric}: "
            f"{least:.2g}, twice their standard error",
            hint=f"give a margin of {least:.1g} or more",
        )
    far = np.flatnonzero(~(np.abs(curve.value - curve.value[-1]) <= margin))
    return int(far[-1]) + 2 if far.size else 1


def class_curves(
    probs: npt.ArrayLike, targets: npt.ArrayLike, *, seed: int = 0, level: float = 0.95
) -> tuple[SizeCurve, ...]:
    """Accuracy, NLL and Brier of averaged probabilities (members, examples, classes)."""
    return curves(shared(probs), np.asarray(targets), seed=seed, level=level)


def curves(of: Shared, targets: Ints, *, seed: int = 0, level: float = 0.95) -> tuple[SizeCurve, ...]:
    """The same from what is shared with other parts of an assessment."""
    brier = _brier_products(of, targets)
    parts, settled = contests(of, targets, columns(of.count))
    raw = walked([(one.rows, one.score) for one in parts], np.add, of.count, 2, seed)
    right = (settled + raw.values[:, 0]) / len(targets)
    nll = np.log(raw.chosen.sum(axis=1)) - raw.values[:, 1] / len(targets)
    walk = Walk(raw.chosen, np.stack([right, nll], axis=1), raw.method, raw.exact)
    with np.errstate(divide="ignore"):
        own = np.stack([(of.top == targets).mean(axis=1), -np.log(of.at(targets)).mean(axis=1)], axis=1)
    return (
        _walked("accuracy", walk, 0, own[:, 0], brier, level),
        _walked("nll", walk, 1, own[:, 1], brier, level),
        _closed("brier", brier, level),
    )


def value_curves(
    mean: npt.ArrayLike,
    var: npt.ArrayLike | None,
    targets: npt.ArrayLike,
    *,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[SizeCurve, ...]:
    """RMSE, MSE, CRPS, and with variances NLL, of the Gaussian mixture (members, examples)."""
    m, t = np.asarray(mean, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    residual = m - t
    square = residual @ residual.T / len(t)
    crps = _crps_products(m, np.zeros(m.shape) if var is None else np.asarray(var, dtype=np.float64), t)
    logs = None if var is None else score.log_density(m, var, t)

    step = columns(len(m))
    parts = [] if logs is None else [(logs[:, at : at + step].T, _summed) for at in range(0, len(t), step)]
    walk = walked(parts, np.logaddexp, len(m), 1, seed)
    root = Walk(walk.chosen, np.sqrt(_quadratic(square, walk.chosen))[:, None], walk.method, walk.exact)
    curves = [
        _walked("rmse", root, 0, np.sqrt(np.diag(square)), square, level),
        _closed("mse", square, level),
        _closed("crps", crps, level),
    ]
    if logs is not None:
        nll = np.log(walk.chosen.sum(axis=1))[:, None] - walk.values / len(t)
        curves.append(
            _walked("nll", Walk(walk.chosen, nll, walk.method, walk.exact), 0, -logs.mean(axis=1), crps, level)
        )
    return tuple(curves)


def _summed(rows: Floats) -> Floats:
    return np.asarray(rows.sum(axis=0, keepdims=True))


def _brier_products(of: Shared, targets: Ints) -> Floats:
    """(members, members): mean over examples of (p_i - y)·(p_j - y); a subset's Brier averages its pairs."""
    products = np.zeros((of.count, of.count))
    step = max(1, 2**20 // (of.count * of.by_class.shape[1]))  # a bounded copy, not a second array of the input's size
    for start in range(0, len(targets), step):
        part = of.by_class[:, :, start : start + step].copy()
        part[:, targets[start : start + step], np.arange(part.shape[2])] -= 1.0
        flat = part.reshape(of.count, -1)
        products += flat @ flat.T
    return products / len(targets)


def _crps_products(m: Floats, v: Floats, t: Floats) -> Floats:
    """(members, members): a subset's mixture CRPS averages its pairs (Grimit 2006, eq. 5, rearranged)."""
    own = score.absolute_normal(t - m, v).mean(axis=1)
    pairs = np.zeros((len(m), len(m)))
    for i in range(len(m)):
        pairs[i, i:] = score.absolute_normal(m[i] - m[i:], v[i] + v[i:]).mean(axis=1)
        pairs[i:, i] = pairs[i, i:]
    return np.asarray((own[:, None] + own[None, :] - pairs) / 2.0)


def crps_without(mean: npt.ArrayLike, var: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """(members,): mixture CRPS of the ensembles that lack each member; NaN below 2 members."""
    m, t = np.asarray(mean, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    _, without = _expected(_crps_products(m, np.asarray(var, dtype=np.float64), t))
    return without[:, -2] if len(m) > 1 else np.full(len(m), np.nan)


def _expected(products: Floats) -> tuple[Floats, Floats]:
    """Expectation over all k-subsets of the mean over pairs: (M,) with all members, (M, M) without member i.

    E_k = (1/k) · mean of the diagonal + (1 - 1/k) · mean of the rest, which for Brier equals
    Brier(p̄_M) + (1/k)(1 - k/M) · Σ_c S²_c. Entries without meaning (size M without a member) are NaN.
    """
    count = len(products)
    size = np.arange(1, count + 1)
    diagonal, total = np.diag(products), products.sum()
    rest = total - diagonal.sum()
    full = _blend(diagonal.mean(), rest / max(count * (count - 1), 1), size)
    without = np.full((count, count), np.nan)
    if count > 1:
        row = products.sum(axis=1) - diagonal
        left = (diagonal.sum() - diagonal) / (count - 1)
        between = (rest - 2.0 * row) / max((count - 1) * (count - 2), 1)
        without[:, :-1] = _blend(left[:, None], between[:, None], size[:-1])
    return full, without


def _blend(own: npt.ArrayLike, between: npt.ArrayLike, size: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(np.asarray(own) / size + np.asarray(between) * (1.0 - 1.0 / size), dtype=np.float64)


def _closed(metric: str, products: Floats, level: float) -> SizeCurve:
    full, without = _expected(products)
    return _banded(metric, full, without, "closed form over all subsets", level, np.zeros(len(full)))


def _banded(metric: str, full: Floats, without: Floats, method: str, level: float, noise: Floats) -> SizeCurve:
    count = len(full)
    replicas = without.copy()
    if count > 1:
        # No ensemble of M members lacks one of the M; the plug-in replica is the ensemble of the others.
        replicas[:, -1] = without[:, -2]
    error = np.full(count, np.nan)
    if count >= 3:
        with np.errstate(invalid="ignore"):
            spread = replicas - replicas.mean(axis=0)
            error = np.sqrt((count - 1) / count * (spread**2).sum(axis=0))
    with np.errstate(invalid="ignore"):
        half = error * float(stdtrit(count - 1, 0.5 + level / 2)) if count >= 3 else error
        return SizeCurve(metric, full, error, full - half, full + half, method, level, noise)


def _quadratic(products: Floats, chosen: Bools) -> Floats:
    """(subsets,): each subset's mean over its pairs."""
    weights = chosen / chosen.sum(axis=1, keepdims=True)
    # No product of BLAS: how that rounds depends on how many threads share it.
    return np.asarray(np.maximum((np.einsum("si,ij->sj", weights, products) * weights).sum(axis=1), 0.0))


def _walked(metric: str, walk: Walk, column: int, own: Floats, products: Floats, level: float) -> SizeCurve:
    """Average the scored subsets by size, with and without each member.

    own (members,) and products (members, members) are control variates: two scores of the same subsets whose
    expectations are known exactly. What sampled subsets got by luck in those is subtracted.
    """
    count = walk.chosen.shape[1]
    values = walk.values[:, column]
    sizes = walk.chosen.sum(axis=1)
    full, without, noise = np.full(count, np.nan), np.full((count, count), np.nan), np.zeros(count)
    with np.errstate(invalid="ignore"):
        known, known_without = _known(own, products)
    controls = None
    if not walk.exact.all() and bool(np.isfinite(values).all() and np.isfinite(own).all()):
        controls = np.stack([walk.chosen @ own / sizes, _quadratic(products, walk.chosen)], axis=1)
    with np.errstate(invalid="ignore"):
        for size in range(1, count + 1):
            rows = np.flatnonzero(sizes == size)
            adjusted, shift = values[rows], np.zeros(count)
            if controls is not None and not walk.exact[size - 1]:
                luck = controls[rows] - known[size - 1]
                slope = np.linalg.lstsq(luck - luck.mean(axis=0), adjusted - adjusted.mean(), rcond=1e-9)[0]
                adjusted = adjusted - luck @ slope
                shift = (known_without[:, size - 1] - known[size - 1]) @ slope
            full[size - 1] = adjusted.mean()
            if not walk.exact[size - 1]:
                noise[size - 1] = adjusted.std(ddof=1) / np.sqrt(len(rows))
            outside = ~walk.chosen[rows]
            taken = outside.sum(axis=0)
            sums = np.where(outside, adjusted[:, None], 0.0).sum(axis=0)
            without[:, size - 1] = np.where(taken > 0, sums / np.maximum(taken, 1) + shift, np.nan)
    return _banded(metric, full, without, walk.method, level, noise)


def _known(own: Floats, products: Floats) -> tuple[Floats, Floats]:
    """Exact expectations of the two controls: (M sizes, 2) and, without member i, (M, M sizes, 2)."""
    count = len(own)
    full, without = _expected(products)
    flat = np.repeat(own.mean(), count)
    left = np.repeat(((own.sum() - own) / max(count - 1, 1))[:, None], count, axis=1)
    return np.stack([flat, full], axis=1), np.stack([left, without], axis=2)
