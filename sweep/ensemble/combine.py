"""Many members become one prediction.

Every sum over members runs over sorted values: floating-point addition does not commute across an order,
and the order in which seeds finished must never change a byte of a result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from sweep.errors import EnsembleError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def member_mean(values: npt.ArrayLike) -> Floats:
    """(members, ...) to (...): the mean over members in float64, the same bytes in any member order."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[0] == 0:
        raise EnsembleError("there is no member to average", hint="give at least one member")
    total: Floats = np.sort(array, axis=0).sum(axis=0)
    return np.asarray(total / array.shape[0], dtype=np.float64)


def mean(probs: npt.ArrayLike) -> Floats:
    """(members, examples, classes) to (examples, classes): the float64 average of probabilities (default)."""
    return member_mean(_three(probs))


def geometric(probs: npt.ArrayLike) -> Floats:
    """(members, examples, classes) to (examples, classes): softmax of the mean log-probability (logit mean).

    A probability of exactly zero is a veto. Raises EnsembleError when vetoes leave a row without any class.
    """
    with np.errstate(divide="ignore"):
        return folded(member_mean(np.log(_three(probs))))


def folded(logs: Floats) -> Floats:
    """(examples, classes) mean log-probabilities to the geometric mean; see `geometric`."""
    empty = np.flatnonzero(~(logs > -np.inf).any(axis=1))
    if empty.size:
        raise EnsembleError(
            f"every class of row {empty[0]} is given probability 0 by some member, "
            f"so its geometric mean does not exist ({empty.size} such rows)",
            hint="use the arithmetic mean",
        )
    return np.asarray(np.exp(logs - logsumexp(logs, axis=1, keepdims=True)), dtype=np.float64)


def vote(probs: npt.ArrayLike) -> Floats:
    """(members, examples, classes) to (examples, classes): the share of members whose top class it is.

    A member's tie and a tied vote both go to the lowest class, as in `numpy.argmax`.
    """
    array = _three(probs)
    return shares(array.argmax(axis=2), array.shape[2])


def shares(top: Ints, classes: int) -> Floats:
    """(members, examples) top classes to (examples, classes): the share of members that chose each."""
    members, examples = top.shape
    cells = top + classes * np.arange(examples)
    votes = np.bincount(cells.ravel(), minlength=examples * classes).reshape(examples, classes)
    return np.asarray(votes / members, dtype=np.float64)


@dataclass(frozen=True)
class Mixture:
    """A uniform mixture of Gaussians, an entry an example: mean, and its variance in two parts."""

    mean: Floats
    aleatoric: Floats | None
    epistemic: Floats

    @property
    def variance(self) -> Floats:
        return self.epistemic if self.aleatoric is None else self.aleatoric + self.epistemic


def mixture(mean: npt.ArrayLike, var: npt.ArrayLike | None = None) -> Mixture:
    """(members, examples) means and variances to the uniform mixture (Lakshminarayanan 2017, 2.4).

    aleatoric: mean of the variances (None when members give none); epistemic: variance of the means, ddof 0.
    """
    means = np.sort(np.asarray(mean, dtype=np.float64), axis=0)
    centre = member_mean(means)
    spread = member_mean((means - centre) ** 2)
    return Mixture(centre, None if var is None else member_mean(var), spread)


def _three(probs: npt.ArrayLike) -> Floats:
    array = np.asarray(probs, dtype=np.float64)
    if array.ndim != 3:
        raise EnsembleError(f"probabilities of shape {array.shape}", hint="expected (members, examples, classes)")
    return array
