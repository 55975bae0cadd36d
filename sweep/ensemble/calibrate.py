"""Calibration: one parameter of confidence, fitted on examples other than the scored ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from sweep.ensemble.score import Diagram
from sweep.errors import EnsembleError
from sweep.stats.sample import Floats, Ints

FLOOR = -700.0  # log of the smallest probability that differs from zero; keeps 0 · log 0 out of the arithmetic
RANGE = 100.0  # temperatures lie between 1/RANGE and RANGE, because without errors the best one would be 0


def root(slope: Callable[[float], tuple[float, float]], start: float = 1.0) -> float:
    """Return x between 1/RANGE and RANGE where slope(x), given with its derivative, rises through 0.

    It takes Newton's steps within a bracket. If they leave it or shrink too slowly, as along a tail, an end of the
    range is tried, or the bracket is halved. Without a root, an end of the range is returned.
    """
    low, high, x, last = 1.0 / RANGE, RANGE, start, math.inf
    for _ in range(200):
        value, rise = slope(x)
        low, high = (low, x) if value > 0 else (x, high)
        if value == 0 or low >= high:
            return x
        step = value / rise if rise > 0 else math.inf
        moved, end = x - step, low if value > 0 else high
        if not low < moved < high or abs(step) >= last / 2:
            moved = end if end in (1.0 / RANGE, RANGE) else math.sqrt(low * high)
        last = abs(moved - x)
        if last <= 1e-7 * x:  # a step squares the error
            return moved
        x = moved
    return x


def logits(probs: Floats) -> Floats:
    """Return log-probabilities (examples, classes), shifted so that the largest of each example is 0."""
    with np.errstate(divide="ignore"):
        found: Floats = np.maximum(np.log(probs), FLOOR)
    found -= found.max(axis=-1, keepdims=True)
    return found


def temperature(probs: Floats, targets: Ints, start: float = 1.0) -> float:
    """Return the T that minimises the NLL of softmax(log p / T) (Guo 2017, sec. 4.2), which is convex in 1/T.

    probs (examples, classes), targets (examples,). T above 1 means that the predictions were overconfident.
    """
    return fitted(logits(probs), targets, start)


def fitted(z: Floats, targets: Ints, start: float = 1.0) -> float:
    """Return the same T from `logits`."""
    at = float(z[np.arange(len(targets)), targets].mean())

    def slope(inverse: float) -> tuple[float, float]:
        power = np.exp(inverse * z)
        total = power.sum(axis=1)
        power *= z
        mean = power.sum(axis=1) / total
        square = np.einsum("ec,ec->e", power, z) / total
        return float(mean.mean()) - at, float((square - mean * mean).mean())

    return 1.0 / root(slope, 1.0 / start)


def softmax(z: Floats, inverse: npt.ArrayLike = 1.0) -> Floats:
    """Return the softmax over classes of inverse * logits; inverse: 1/T, alone or one per example."""
    power: Floats = z * np.asarray(inverse, dtype=np.float64)[..., None]
    np.exp(power, out=power)
    power /= power.sum(axis=-1, keepdims=True)
    return power


def scaled(probs: Floats, temperature: float) -> Floats:
    """Return softmax(log p / T) over the last axis; T = 1 returns the input, except for rounding."""
    return softmax(logits(probs), 1.0 / temperature)


def variance_scale(mean: Floats, var: Floats, targets: Floats) -> float:
    """Return the factor on all variances (members, examples) with the least mixture NLL."""
    square = (targets - mean) ** 2 / var
    base = -0.5 * np.log(var)

    def slope(inverse: float) -> tuple[float, float]:
        logs = base - 0.5 * inverse * square
        weights = np.exp(logs - logsumexp(logs, axis=0))
        mean = (weights * square).sum(axis=0)
        spread = (weights * square * square).sum(axis=0) - mean * mean
        return 0.5 * float(mean.mean()) - 0.5 / inverse, 0.5 / inverse**2 - 0.25 * float(spread.mean())

    return 1.0 / root(slope)


@dataclass(frozen=True)
class Fold:
    """Fit on `fit` (rows of the fitting examples), apply to `apply` (rows of the scored examples)."""

    fit: Ints
    apply: Ints


def folds(examples: int, *, seed: int = 0) -> tuple[Fold, ...]:
    """Split the scored examples at random; each part is calibrated by a fit on the others.

    There are five parts below 2,000 examples, because each counts; from there on, halves are enough for one parameter.
    """
    if examples < 2:
        raise EnsembleError(f"{examples} example cannot be cross-fitted", hint="save predictions for val")
    count = min(5 if examples < 2000 else 2, examples)
    part = np.random.default_rng(seed).permutation(examples) % count
    return tuple(Fold(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(count))


def by_fold(fit: Callable[[Fold, int], float], parts: Sequence[Fold]) -> tuple[Floats, tuple[float, ...]]:
    """Return the parameter of every scored example, and those of the folds."""
    used = tuple(fit(fold, k) for k, fold in enumerate(parts))
    out = np.empty(sum(len(fold.apply) for fold in parts))
    for fold, value in zip(parts, used, strict=True):
        out[fold.apply] = value
    return out, used


@dataclass(frozen=True)
class Calibration:
    """The effect of calibrating the pooled ensemble, on examples that it was not fitted on.

    fitted_on: the split; folds: how many parts of the scored split were cross-fitted, 0 on another split. served: the
    value a deployed ensemble uses; used: the values behind the scores, one or one per fold. before, after: metric to
    value, smaller is better; predicted: the calibrated probabilities (examples, classes). The last three are None in
    regression.
    """

    parameter: Literal["temperature", "variance scale"]
    fitted_on: str
    folds: int
    served: float
    used: tuple[float, ...]
    before: dict[str, float]
    after: dict[str, float]
    diagram_before: Diagram | None = None
    diagram_after: Diagram | None = None
    predicted: Floats | None = None

    @property
    def worse(self) -> tuple[str, ...]:
        """Return the scores that the calibration made worse."""
        return tuple(name for name, value in self.before.items() if not self.after[name] <= value)

    @property
    def at_bound(self) -> bool:
        """Return whether a fit ended at an end of its range, without a minimum."""
        return any(not 1.001 / RANGE < value < RANGE / 1.001 for value in (self.served, *self.used))

    @property
    def recommended(self) -> bool:
        """Return whether the calibrated predictions are the ones to use."""
        return not self.worse and not self.at_bound
