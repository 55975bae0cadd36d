"""Confidence made honest with one parameter, fitted on examples other than those it is scored on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from sweep.ensemble import score
from sweep.ensemble.combine import Floats, Ints
from sweep.errors import EnsembleError

FLOOR = -700.0  # log of the smallest probability told from zero; keeps 0 · log 0 out of the arithmetic
STEPS = 6  # of Newton's before L-BFGS is asked
CACHED = 2**14  # logits that are summed up at a time: with what comes of them, they stay in the cache of a core
CLEAR = 1e-6  # the least curvature of a minimum, per unit of log T squared
RANGE = 100.0  # temperatures lie between 1/RANGE and RANGE: without errors in the data the best one is 0


def temperature(probs: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """T that minimises the NLL of softmax(log p / T) (Guo 2017, sec. 4.2), by L-BFGS on 1/T.

    probs (examples, classes), targets (examples,). Above 1 the predictions were overconfident. The problem is
    convex in 1/T; T is held within 1/100 and 100. Where the minimum is a clear one, Newton's steps bring what
    L-BFGS found to rounding.
    """
    p, t = np.asarray(probs, dtype=np.float64), np.asarray(targets)
    with np.errstate(divide="ignore"):
        logits = shifted(np.log(p.T))
    return _by_lbfgs(logits, float(logits[t, np.arange(len(t))].mean()))


def temperature_near(start: float, logits: Floats, targets: Ints) -> float:
    """The same T from `shifted` logits (classes, examples), when one is known to lie near: in two or three passes.

    L-BFGS is asked where Newton's steps from there do not meet a minimum soon.
    """
    at = float(logits[targets, np.arange(len(targets))].mean())
    found = _by_newton(logits, at, 1.0 / start)
    return _by_lbfgs(logits, at) if found is None else 1.0 / found


def shifted(logs: Floats) -> Floats:
    """Log-probabilities (classes, examples) as logits whose largest is 0 in every example, contiguous, a copy."""
    logits = np.maximum(logs, FLOOR, order="C")
    logits -= logits.max(axis=0)
    return logits


def _by_lbfgs(logits: Floats, at: float) -> float:
    def loss(inverse: float) -> tuple[float, float]:
        power = np.exp(inverse * logits)
        total = power.sum(axis=0)
        slope = np.einsum("ce,ce->e", power, logits) / total
        return float(np.log(total).mean()) - inverse * at, float(slope.mean()) - at

    found = _minimise(loss)
    polished = _by_newton(logits, at, found)
    return 1.0 / (found if polished is None else polished)


def _by_newton(logits: Floats, at: float, inverse: float) -> float | None:
    """1/T from a start, by Halley's rule on the slope of the NLL; None without a clear minimum near by."""
    step = max(1, CACHED // len(logits))
    parts = [logits[:, start : start + step] for start in range(0, logits.shape[1], step)]
    for _ in range(STEPS):
        mean, bend, twist = np.sum([_moments(part, inverse) for part in parts], axis=0) / logits.shape[1]
        slope = mean - at
        if not bend * inverse**2 > CLEAR:
            return None
        move = -2.0 * slope * bend / (2.0 * bend**2 - slope * twist)
        if not abs(move) < inverse / 2:
            return None
        inverse += move
        if not 1.0 / RANGE < inverse < RANGE:
            return None
        if abs(move) < 1e-5 * inverse:  # each step cubes the error
            return float(inverse)
    return None


def _moments(logits: Floats, inverse: float) -> tuple[float, float, float]:
    """Sums over examples of the mean and the second and third central moment of logits under softmax.

    Those around zero would cancel where an example is almost certain.
    """
    power = logits * inverse
    np.exp(power, out=power)
    total = power.sum(axis=0)
    mean = np.einsum("ce,ce->e", power, logits) / total
    apart = logits - mean
    power *= apart
    second = np.einsum("ce,ce->e", power, apart)
    apart *= apart
    third = np.einsum("ce,ce->e", power, apart)
    return float(mean.sum()), float((second / total).sum()), float((third / total).sum())


def scaled(probs: npt.ArrayLike, temperature: float) -> Floats:
    """softmax(log p / T) over the last axis; T = 1 gives the input back, but for rounding."""
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(np.asarray(probs, dtype=np.float64)), FLOOR) / temperature
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits


def variance_scale(mean: npt.ArrayLike, var: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Factor on all variances (members, examples) with the least mixture NLL, by L-BFGS on its inverse."""
    m, v = np.asarray(mean, dtype=np.float64), np.asarray(var, dtype=np.float64)
    square = (np.asarray(targets, dtype=np.float64) - m) ** 2 / v
    base = -0.5 * np.log(v)

    def loss(inverse: float) -> tuple[float, float]:
        logs = base - 0.5 * inverse * square
        total = logsumexp(logs, axis=0)
        slope = (np.exp(logs - total) * square).sum(axis=0)
        value = -float(total.mean()) - 0.5 * float(np.log(inverse))
        return value, 0.5 * float(slope.mean()) - 0.5 / inverse

    return 1.0 / _minimise(loss)


def _minimise(loss: Callable[[float], tuple[float, float]]) -> float:
    from scipy.optimize import minimize

    def fun(x: Floats) -> tuple[float, Floats]:
        value, slope = loss(float(x[0]))
        return value, np.array([slope])

    found = minimize(
        fun,
        np.ones(1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1.0 / RANGE, RANGE)],
        # One parameter needs one correction; more would go through threaded BLAS, many times slower here.
        options={"ftol": 1e-13, "gtol": 1e-8, "maxcor": 1},
    )
    return float(found.x[0])


def losses(logits: Floats, targets: Ints, inverse: npt.ArrayLike) -> tuple[Floats, Floats]:
    """(examples,) NLL and Brier score of softmax(inverse * logits): `shifted` logits, 1/T alone or an example."""
    power: Floats = np.multiply(logits, inverse)
    np.exp(power, out=power)
    power /= power.sum(axis=0)
    at = power[targets, np.arange(len(targets))]
    with np.errstate(divide="ignore"):
        return -np.log(at), score.brier_by_class(power, at)


@dataclass(frozen=True)
class Fold:
    """Fit on `fit` (rows of the fitting examples), apply to `apply` (rows of the scored examples)."""

    fit: Ints
    apply: Ints


def folds(examples: int, *, seed: int = 0) -> tuple[Fold, ...]:
    """Random parts of the scored examples; each is calibrated by what the others say.

    Five parts below 2,000 examples, where each counts; from there on halves are plenty for one parameter.
    """
    if examples < 2:
        raise EnsembleError(f"{examples} example cannot be cross-fitted", hint="save predictions for val")
    count = min(5 if examples < 2000 else 2, examples)
    part = np.random.default_rng(seed).permutation(examples) % count
    return tuple(Fold(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(count))


def temper(
    probs: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    val: tuple[Floats, Ints] | None = None,
    parts: tuple[Fold, ...] | None = None,
) -> tuple[Floats, tuple[float, ...]]:
    """Calibrated (examples, classes) and the temperatures: one from val, else one a fold (cross-fitted)."""
    p, t = np.asarray(probs, dtype=np.float64), np.asarray(targets)
    if val is not None:
        found = temperature(*val)
        return scaled(p, found), (found,)
    out, used = np.empty_like(p), []
    for fold in parts if parts is not None else folds(len(t)):
        used.append(temperature(p[fold.fit], t[fold.fit]))
        out[fold.apply] = scaled(p[fold.apply], used[-1])
    return out, tuple(used)


@dataclass(frozen=True)
class Calibration:
    """What calibrating the pooled ensemble did, on examples it was not fitted on.

    parameter: "temperature" or "variance scale"; served: the value a deployed ensemble uses; used:
    those behind the scores (one from val, or one a fold). before, after: metric to value, smaller is better;
    predicted: the calibrated probabilities (examples, classes). The last three are None in regression.
    """

    parameter: str
    source: str
    served: float
    used: tuple[float, ...]
    before: dict[str, float]
    after: dict[str, float]
    diagram_before: score.Diagram | None = None
    diagram_after: score.Diagram | None = None
    predicted: Floats | None = None

    @property
    def worse(self) -> tuple[str, ...]:
        """The scores that are worse for it."""
        return tuple(name for name, value in self.before.items() if not self.after[name] <= value)

    @property
    def helps(self) -> bool:
        """True where no score is worse for it."""
        return not self.worse

    @property
    def at_bound(self) -> bool:
        """True where a fit ended at the end of its range, without a minimum."""
        return any(not 1.001 / RANGE < value < RANGE / 1.001 for value in (self.served, *self.used))

    @property
    def recommended(self) -> bool:
        """True where the calibrated predictions are the ones to use."""
        return self.helps and not self.at_bound
