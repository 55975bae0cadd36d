"""Who wins an example when members are averaged, asked of thousands of subsets: only what can still turn is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats, Ints
from sweep.ensemble.shared import Shared

LEAST = 1e-300  # products of probabilities stay above this, far from where they lose digits


@dataclass(frozen=True)
class Contest:
    """Some examples, each with the same number of classes that may beat its target in some subset of members.

    rows (columns, members): the target's probabilities (examples,), then those of the rivals (rivals, examples).
    lower (rivals, examples): whether the rival comes before the target, which ties go to. group: how many
    summed probabilities can be multiplied without underflow.
    """

    rows: Floats
    lower: npt.NDArray[np.bool_]
    group: int

    def score(self, sums: Floats) -> Floats:
        """(columns, subsets) sums over members to (2, subsets): examples won, and the sum of log sums of targets."""
        rivals, examples = self.lower.shape
        at, found = sums[:examples], np.zeros((2, sums.shape[1]))
        if rivals:
            others = sums[examples:].reshape(rivals, examples, -1)
            best = others.max(axis=0) if rivals > 1 else others[0]
            found[0] = (at > best).sum(axis=0)
            if (tied := at == best).any():
                first = ~((others == best) & self.lower[:, :, None]).any(axis=0)
                found[0] += (tied & first).sum(axis=0)
        # The logarithm of a product is the sum of logarithms, and a logarithm costs as much as many products.
        product, group = at, self.group
        while group > 1 and len(product) % 2 == 0:
            half, group = len(product) // 2, group // 2
            product = product[:half] * product[half:]
        with np.errstate(divide="ignore"):
            np.log(product).sum(axis=0, out=found[1])
        return found


def contests(of: Shared, targets: Ints, columns: int) -> tuple[tuple[Contest, ...], int]:
    """All examples in parts of about so many columns, and how many of those without rivals are always right.

    A class that every member puts below the target never wins, and an example with one that every member puts
    above it is never right: averages preserve both.
    """
    at = of.at(targets)
    reach = np.zeros(of.by_class.shape[1:], dtype=bool)
    above = np.ones(of.by_class.shape[1:], dtype=bool)
    for one, mine in zip(of.by_class, at, strict=True):
        reach |= one >= mine
        above &= one > mine
    reach[targets, np.arange(len(targets))] = False
    rivals, lost = reach.sum(axis=0), above.any(axis=0)
    settled = int(np.count_nonzero((rivals == 0) & ~lost))
    rivals[lost] = 0
    # 1, 2, 4, ... rivals; one is listed twice where there are fewer, which no maximum notices.
    width = np.where(rivals > 0, 2 ** np.ceil(np.log2(np.maximum(rivals, 1))).astype(np.int64), 0)
    least = float(at.min(initial=1.0, where=at > 0))
    group = next(many for many in (8, 4, 2, 1) if many == 1 or least**many > LEAST)
    found = []
    for wide in np.unique(width).tolist():
        where = np.flatnonzero(width == wide)
        step = max(8, columns // (1 + wide) // 8 * 8)
        for start in range(0, len(where), step):
            part = where[start : start + step]
            ranked = np.argsort(~reach[:, part], axis=0, kind="stable")
            classes = np.take_along_axis(ranked, np.arange(wide)[:, None] % np.maximum(rivals[part], 1), axis=0)
            rows = np.concatenate([at[:, None, part], of.by_class[:, classes, part]], axis=1).reshape(of.count, -1)
            found.append(Contest(np.ascontiguousarray(rows.T), classes < targets[part], group))
    return tuple(found), settled
