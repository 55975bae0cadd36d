"""What several parts of an assessment read off the same probabilities, computed once for all of them.

The classes come before the examples here: a maximum or a sum over ten classes is then ten passes over whole rows,
several times as fast as ten thousand reductions of ten numbers each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats, Ints, mean


@dataclass(frozen=True)
class Shared:
    """pool (examples, classes): the average; by_class, logs (members, classes, examples), -inf for a 0.

    top, confidence (members, examples): each member's top class, the lowest of tied ones, and its probability.
    """

    pool: Floats
    by_class: Floats
    logs: Floats
    top: Ints
    confidence: Floats

    @property
    def count(self) -> int:
        return len(self.by_class)

    def at(self, targets: npt.NDArray[np.int64]) -> Floats:
        """(members, examples): the probability of the target."""
        return self.by_class[:, targets, np.arange(len(targets))]


def shared(probs: npt.ArrayLike) -> Shared:
    """(members, examples, classes): everything that is needed more than once."""
    p = np.asarray(probs, dtype=np.float64)
    pool = mean(p)
    by_class = np.ascontiguousarray(p.transpose(0, 2, 1))
    logs = np.empty_like(by_class)
    top = np.empty((len(p), p.shape[1]), dtype=np.int64)
    confidence = np.empty(top.shape)
    for i, one in enumerate(by_class):
        with np.errstate(divide="ignore"):
            np.log(one, out=logs[i])
        top[i], confidence[i] = tops(one)
    return Shared(pool, by_class, logs, top, confidence)


def tops(by_class: Floats) -> tuple[Ints, Floats]:
    """(classes, examples): the top class, the lowest of tied ones as in argmax, and its value."""
    best = by_class.max(axis=0)
    top = np.zeros(len(best), dtype=np.int64)
    for cls in range(len(by_class) - 1, 0, -1):
        np.copyto(top, cls, where=by_class[cls] == best)
    np.copyto(top, 0, where=by_class[0] == best)
    return top, best
