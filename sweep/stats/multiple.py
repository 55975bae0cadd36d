"""Many configurations at once: every pair, Holm's p values, Bonferroni's intervals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy.typing as npt

from sweep.errors import StatisticsError
from sweep.stats.compare import Difference, difference
from sweep.stats.sample import check_level, mean, sample


@dataclass(frozen=True)
class Pair:
    """One of several pairs. `difference` carries the unadjusted p and the Bonferroni interval."""

    first: str
    second: str
    difference: Difference
    p_holm: float | None


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p values in the given order (Holm 1979), each at most 1.

    None (no test existed) stays None and still counts as one of the comparisons made.
    """
    for value in p:
        if value is not None and not 0 <= value <= 1:
            raise StatisticsError(f"{value!r} is no p value")
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(p) - rank)))
        adjusted[i] = largest
    return adjusted


def bonferroni_level(level: float, comparisons: int) -> float:
    """Level of each of several intervals for all to hold at `level` together: 1 - (1 - level)/comparisons."""
    if comparisons < 1:
        raise StatisticsError(f"{comparisons} comparisons")
    return 1 - check_level(level) / comparisons


def all_pairs(arms: Mapping[str, npt.ArrayLike], *, paired: bool, level: float = 0.95) -> list[Pair]:
    """Every pair of configurations in their given order, Holm over all of them.

    arms: name -> shape (n,), in paired designs position i the same seed in all. Intervals are simultaneous
    (Bonferroni): Holm has none of its own. StatisticsError for fewer than two arms.
    """
    if len(arms) < 2:
        raise StatisticsError(f"{len(arms)} configuration cannot be compared", hint="name a second one")
    names = list(itertools.combinations(arms, 2))
    each = bonferroni_level(level, len(names))
    found = [difference(arms[a], arms[b], paired=paired, level=each) for a, b in names]
    adjusted = holm([pair.p for pair in found])
    return [Pair(a, b, pair, p) for (a, b), pair, p in zip(names, found, adjusted, strict=True)]


def not_separated(
    arms: Mapping[str, npt.ArrayLike], *, higher_is_better: bool, paired: bool, level: float = 0.95
) -> frozenset[str]:
    """The best mean and every configuration that Holm over all pairs does not separate from it.

    This is what a table may set in bold. A pair without a test (one seed, nothing varies), or with so few seeds that
    the exact test cannot reach the level (`attainable`), is not separated.
    """
    means = {name: mean(sample(values, name=name)) for name, values in arms.items()}
    if not means:
        raise StatisticsError("no configurations to compare")
    best = (max if higher_is_better else min)(means, key=lambda name: means[name])
    if len(arms) == 1:
        return frozenset(arms)
    alpha = check_level(level)
    apart = {
        pair.second if pair.first == best else pair.first
        for pair in all_pairs(arms, paired=paired, level=level)
        if best in (pair.first, pair.second)
        and pair.p_holm is not None
        and pair.p_holm <= alpha
        and pair.difference.attainable <= alpha
    }
    return frozenset(arms) - apart
