"""Answers of members to single examples: how far they agree, and which depend on the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval, clopper_pearson, t_interval
from sweep.stats.sample import Floats, Ints


@dataclass(frozen=True)
class Votes:
    """Of each example (N,): the label with the most votes, its share of the votes, and the share of unequal pairs.

    Of labels with equally many votes the lowest counts. arbitrary: the share of examples on which members differ.
    """

    label: Ints
    share: Floats
    unequal: Floats
    members: int
    arbitrary: float
    interval: Interval


@dataclass(frozen=True)
class Abstention:
    """Answering only where the majority has at least `share` of the votes: coverage and accuracy there, (K,) each.

    low, high: Clopper-Pearson limits of the accuracy over the answered examples.
    """

    share: Floats
    coverage: Floats
    accuracy: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Churn:
    """Share of examples on which one member of A and one of B differ, beside two of A and two of B.

    excess: between minus the mean of the two within, with its interval over examples, for these members.
    """

    between: float
    within_a: float
    within_b: float
    excess: float
    interval: Interval | None


def votes(labels: npt.ArrayLike, level: float = 0.95) -> Votes:
    """Count the votes of M members on N examples. labels: shape (M, N), class indices from 0.

    Interval of the arbitrary share: Clopper-Pearson over examples, for these members.
    """
    table = np.asarray(labels, dtype=np.int64)
    counted = _counted(table, int(table.max()) + 1)
    members, n = table.shape
    winner = counted.argmax(axis=1)
    share = counted[np.arange(n), winner] / members
    differ = int((share < 1).sum())
    return Votes(winner, share, _unequal(counted), members, differ / n, clopper_pearson(differ, n, level))


def abstention(found: Votes, targets: npt.ArrayLike, level: float = 0.95) -> Abstention:
    """Return coverage and accuracy at each share of votes that occurs, the strictest first. targets: shape (N,)."""
    right = found.label == np.asarray(targets)
    levels = np.unique(found.share)[::-1]
    answered = [found.share >= wanted for wanted in levels]
    limits = [clopper_pearson(int(right[chosen].sum()), int(chosen.sum()), level) for chosen in answered]
    return Abstention(
        levels,
        np.array([chosen.mean() for chosen in answered]),
        np.array([right[chosen].mean() for chosen in answered]),
        np.array([limit.low for limit in limits]),
        np.array([limit.high for limit in limits]),
    )


def churn(a: npt.ArrayLike, b: npt.ArrayLike, level: float = 0.95, *, same: Sequence[tuple[int, int]] = ()) -> Churn:
    """Compare the answers of two configurations. a: (M, N) and b: (M', N), the same examples in the same order.

    All pairs of members count, so that the churn that seeds alone cause can be set beside it. same: (row of A, row of
    B) with one seed, which are left out: they may agree because of it.
    Interval: Student t over examples of the per-example excess. StatisticsError where all pairs share a seed.
    """
    first, second = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    classes = int(max(first.max(), second.max())) + 1
    one, two = _counted(first, classes), _counted(second, classes)
    alike = (one * two).sum(axis=1) - sum((first[i] == second[j]).astype(np.float64) for i, j in same)
    pairs = len(first) * len(second) - len(same)
    if not pairs:
        raise StatisticsError("no two members with different seeds")
    between = 1 - alike / pairs
    within = _unequal(one), _unequal(two)
    excess = between - (within[0] + within[1]) / 2
    return Churn(
        float(between.mean()), float(within[0].mean()), float(within[1].mean()), float(excess.mean()),
        t_interval(excess, level),
    )  # fmt: skip


def _counted(table: Ints, classes: int) -> Floats:
    """Return (N, classes): the number of members that chose each class."""
    n = table.shape[1]
    flat = np.bincount((table + np.arange(n) * classes).reshape(-1), minlength=n * classes)
    return flat.reshape(n, classes).astype(np.float64)


def _unequal(counted: Floats) -> Floats:
    """Return for each example the share of pairs of members whose labels differ."""
    members = counted[0].sum()
    return np.asarray(1 - (counted * (counted - 1)).sum(axis=1) / (members * (members - 1)))
