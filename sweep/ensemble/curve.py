"""The size curve: the expected score of a random ensemble of k of these members, for every k.

Scores that are quadratic in the prediction (Brier, MSE, CRPS) have the expectation over all k-subsets in closed form.
For other scores, all subsets of a size are scored if there are few, else the prefixes of balanced random orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from itertools import chain
from math import comb, log
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from sweep.ensemble import score
from sweep.errors import EnsembleError
from sweep.stats.sample import Floats, Ints

Bools = npt.NDArray[np.bool_]

FEW = 256  # largest number of subsets of one size that are all scored: every size of 10 members, 5 sizes of 20
ORDERS = 64


@dataclass(frozen=True)
class SizeCurve:
    """Entry k - 1 is for k members: value, its standard error over seeds, and the band low to high.

    The band is the delete-one jackknife with Student's t on M - 1 degrees of freedom; at k = M it uses the
    ensembles of all members but one. It is NaN below 3 members. method: how the expectation was taken, in "closed form"
    or over "subsets"; noise: the standard error of value from scoring only some subsets, 0 if it is the exact
    expectation.
    """

    metric: str
    value: Floats
    error: Floats
    low: Floats
    high: Floats
    method: Literal["closed form", "subsets"]
    level: float
    noise: Floats

    @property
    def members(self) -> int:
        return len(self.value)


def enough(curve: SizeCurve, margin: float) -> int:
    """Return the smallest k from which the curve stays within margin (in the metric's unit) of all M members.

    Raises: EnsembleError for a margin that is negative, or less than twice the noise of the sampled sizes.
    """
    if not margin >= 0:
        raise EnsembleError(f"the margin is {margin}", hint="give a margin of 0 or more, in the metric's unit")
    least = 2.0 * float(np.max(curve.noise, initial=0.0))
    if margin < least:
        raise EnsembleError(
            f"the margin {margin:g} is below what the sampled subsets resolve in {curve.metric} "
            f"({least:.2g}, twice their standard error)",
            hint=f"give a margin of {least:.1g} or more",
        )
    far = np.flatnonzero(~(np.abs(curve.value - curve.value[-1]) <= margin))
    return int(far[-1]) + 2 if far.size else 1


def class_curves(probs: npt.ArrayLike, targets: npt.ArrayLike, *, level: float = 0.95) -> tuple[SizeCurve, ...]:
    """Return the curves of accuracy, NLL and Brier of averaged probabilities (members, examples, classes)."""
    p, t = np.asarray(probs, dtype=np.float64), np.asarray(targets)
    rows = np.arange(len(t))
    # Classes first: a maximum over ten classes is then ten passes over whole rows.
    by_class = np.ascontiguousarray(p.transpose(0, 2, 1))

    def scores(summed: Floats, size: int) -> tuple[float, float]:
        at, best = summed[t, rows], summed.max(axis=0)
        right = at == best
        if np.count_nonzero(summed == best) > len(t):  # ties go to the lowest class
            right = summed.argmax(axis=0) == t
        with np.errstate(divide="ignore"):
            return float(right.mean()), log(size) - float(np.log(at).mean())

    walk = walked(by_class, np.add, scores)
    flat, mean = by_class.reshape(len(p), -1), by_class[:, t, rows].mean(axis=1)
    products = flat @ flat.T / len(t) - mean[:, None] - mean[None, :] + 1.0  # mean of (p_i - y)·(p_j - y)
    return _averaged("accuracy", walk, 0, level), _averaged("nll", walk, 1, level), _closed("brier", products, level)


def value_curves(mean: Floats, var: Floats | None, targets: Floats, *, level: float = 0.95) -> tuple[SizeCurve, ...]:
    """Return the curves of RMSE, MSE, CRPS and, with variances, NLL of the Gaussian mixture (members, examples)."""
    residual = mean - targets
    square = residual @ residual.T / len(targets)
    crps = _crps_products(mean, np.zeros(mean.shape) if var is None else var, targets)
    root = walked(residual, np.add, lambda summed, size: (float(np.sqrt(np.mean(summed**2)) / size),))
    curves = [
        _averaged("rmse", root, 0, level),
        _closed("mse", square, level),
        _closed("crps", crps, level),
    ]
    if var is not None:
        logs = score.log_density(mean, var, targets)
        walk = walked(logs, np.logaddexp, lambda joined, size: (log(size) - float(joined.mean()),))
        curves.append(_averaged("nll", walk, 0, level))
    return tuple(curves)


@dataclass(frozen=True)
class Walk:
    """The scored subsets: chosen (subsets, members), values (subsets, metrics).

    exact (members,): entry k - 1 is true if the mean over subsets of size k has no noise.
    """

    chosen: Bools
    values: Floats
    exact: Bools


def walked(parts: Floats, join: np.ufunc, scores: Callable[[Floats, int], tuple[float, ...]]) -> Walk:
    """Score all subsets of members (members, …) for sizes with few subsets, else the prefixes of balanced orders.

    join: merges two members, np.add or np.logaddexp; scores: takes the merged members and their number.
    """
    count = len(parts)
    sizes = range(1, count + 1)
    few = {size for size in sizes if comb(count, size) <= FEW}
    chosen, values = [], []
    for subset, joined in chain(_every(parts, join, few), _prefixes(parts, join, few)):
        chosen.append(np.bincount(subset, minlength=count).astype(bool))
        values.append(scores(joined, len(subset)))
    return Walk(np.array(chosen), np.array(values), np.isin(sizes, [*few]))


def _every(
    parts: Floats, join: np.ufunc, sizes: Set[int], inside: tuple[int, ...] = (), joined: Floats | None = None
) -> Iterator[tuple[Ints, Floats]]:
    """Yield every subset of these sizes that holds `inside` and later members, with its members merged."""
    for member in range(inside[-1] + 1 if inside else 0, len(parts)):
        size = len(inside) + 1
        if sizes.isdisjoint(range(size, size + len(parts) - member)):
            return
        grown = parts[member] if joined is None else join(joined, parts[member])
        if size in sizes:
            yield np.array((*inside, member)), grown
        yield from _every(parts, join, sizes, (*inside, member), grown)


def _prefixes(parts: Floats, join: np.ufunc, without: Set[int]) -> Iterator[tuple[Ints, Floats]]:
    """Yield the prefixes of balanced orders `without` these sizes, with their members merged, in place."""
    count = len(parts)
    if len(without) == count:
        return
    for order in orders_of(count):
        joined = parts[order[0]].copy()
        for size, member in enumerate(order, 1):
            joined = join(joined, parts[member], out=joined) if size > 1 else joined
            if size not in without:
                yield order[:size], joined


def orders_of(count: int, seed: int = 0) -> Ints:
    """Return about ORDERS orders (orders, count): rotations of random ones, each member equally often in each place.

    They are less noisy than independent orders.
    """
    rng = np.random.default_rng(seed)
    bases = [rng.permutation(count) for _ in range(max(1, ORDERS // count))]
    starts = np.arange(min(count, ORDERS)) * count // min(count, ORDERS)
    return np.concatenate([base[(starts[:, None] + np.arange(count)) % count] for base in bases])


def _crps_products(m: Floats, v: Floats, t: Floats) -> Floats:
    """Return (members, members) whose mean over a subset is its mixture CRPS (Grimit 2006, eq. 5, rearranged)."""
    own = score.absolute_normal(t - m, v).mean(axis=1)
    pairs = np.zeros((len(m), len(m)))
    for i in range(len(m)):
        pairs[i, i:] = score.absolute_normal(m[i] - m[i:], v[i] + v[i:]).mean(axis=1)
        pairs[i:, i] = pairs[i, i:]
    return np.asarray((own[:, None] + own[None, :] - pairs) / 2.0)


def crps_without(mean: Floats, var: Floats, targets: Floats) -> Floats:
    """Return the mixture CRPS of the ensembles that each lack one member, (members,)."""
    return _expected(_crps_products(mean, var, targets))[1][:, -2]


def _expected(products: Floats) -> tuple[Floats, Floats]:
    """Return the expected mean over pairs of all k-subsets: (M,) with all members, (M, M) without member i.

    E_k = (1/k) · mean of the diagonal + (1 - 1/k) · mean of the rest, which for Brier equals
    Brier(p̄_M) + (1/k)(1 - k/M) · Σ_c S²_c. Undefined entries (size M without a member) are NaN.
    """
    count = len(products)
    size = np.arange(1, count + 1)
    diagonal = np.diag(products)
    rest = products.sum() - diagonal.sum()
    row = products.sum(axis=1) - diagonal
    left = (diagonal.sum() - diagonal) / (count - 1)
    between = (rest - 2.0 * row) / max((count - 1) * (count - 2), 1)
    without = _blend(left[:, None], between[:, None], size)
    without[:, -1] = np.nan
    return _blend(diagonal.mean(), rest / (count * (count - 1)), size), without


def _blend(own: npt.ArrayLike, between: npt.ArrayLike, size: Ints) -> Floats:
    return np.asarray(np.asarray(own) / size + np.asarray(between) * (1.0 - 1.0 / size), dtype=np.float64)


def _closed(metric: str, products: Floats, level: float) -> SizeCurve:
    full, without = _expected(products)
    return _banded(metric, full, without, "closed form", level, np.zeros(len(full)))


def jackknife(replicas: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the delete-one standard error of (members, …) replicas that each lack a member, and half its interval.

    Student's t on M - 1 degrees of freedom (Efron 1982, ch. 3). NaN below 3 members, where replicas are single members.
    """
    count = len(replicas)
    if count < 3:
        nothing = np.full(replicas.shape[1:], np.nan)
        return nothing, nothing
    spread = replicas - replicas.mean(axis=0)
    error = np.sqrt((count - 1) / count * (spread**2).sum(axis=0))
    return error, error * float(stdtrit(count - 1, 0.5 + level / 2))


def _banded(
    metric: str, full: Floats, without: Floats, method: Literal["closed form", "subsets"], level: float, noise: Floats
) -> SizeCurve:
    with np.errstate(invalid="ignore"):
        # No ensemble of M members lacks one of the M; the plug-in replica is the ensemble of the others.
        error, half = jackknife(np.concatenate([without[:, :-1], without[:, -2:-1]], axis=1), level)
        return SizeCurve(metric, full, error, full - half, full + half, method, level, noise)


def _averaged(metric: str, walk: Walk, column: int, level: float) -> SizeCurve:
    """Average the scored subsets by size, with and without each member."""
    count = walk.chosen.shape[1]
    values, sizes = walk.values[:, column], walk.chosen.sum(axis=1)
    full, without, noise = np.full(count, np.nan), np.full((count, count), np.nan), np.zeros(count)
    with np.errstate(invalid="ignore", divide="ignore"):
        for size in range(1, count + 1):
            mine, outside = values[sizes == size], ~walk.chosen[sizes == size]
            full[size - 1] = mine.mean()
            without[:, size - 1] = np.where(outside, mine[:, None], 0.0).sum(axis=0) / outside.sum(axis=0)
            if not walk.exact[size - 1]:
                noise[size - 1] = mine.std(ddof=1) / np.sqrt(len(mine))
    return _banded(metric, full, without, "subsets", level, noise)
