"""Scores of items (questions, problems, tasks of an agent) under several seeds, and answers to single examples.

A table has one row per seed and one column per item. Three intervals answer three questions: over seeds, for these
items; over items, for these seeds; over both. Items that share a source (questions about one text) are clusters, and
count as one draw each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.interval import Interval, clopper_pearson, t_interval
from sweep.stats.sample import Floats, Ints, check_level, sample, variance
from sweep.stats.variance import scores, two_way_difference, two_way_interval

POWER = 0.8
MOST = 1_000_000_000  # no plan names more seeds or items than this


@dataclass(frozen=True)
class ItemMean:
    """A mean over items. An interval is None if one seed, or one item or cluster, leaves no spread."""

    mean: float
    over_seeds: Interval | None
    over_items: Interval | None
    over_both: Interval | None
    seeds: int
    items: int
    clusters: int

    @property
    def widest(self) -> Interval | None:
        """Return the interval with the widest scope: over both, else over items, else over seeds."""
        return self.over_both or self.over_items or self.over_seeds


@dataclass(frozen=True)
class Needed:
    """The least number of seeds (for these items) and of items (for these seeds) that decides; None if none does."""

    seeds: int | None
    items: int | None


def by_cluster(values: npt.ArrayLike, clusters: npt.ArrayLike | None) -> Floats:
    """Return (seeds, clusters), one column per cluster, with the mean of all items.

    values: shape (seeds, items). clusters: shape (items,), equal labels form a cluster; None: each item is its own. A
    column is the mean plus the cluster's sum of deviations times clusters/items, so that the variance over columns is
    the cluster-robust one (Liang & Zeger 1986) for clusters of unequal sizes too.
    """
    table = np.asarray(values, dtype=np.float64)
    if clusters is None:
        return table
    labels = np.asarray(clusters)
    if labels.shape != table.shape[1:]:
        raise StatisticsError(f"there are {labels.size} cluster labels for {table.shape[1]} items")
    _, place = np.unique(labels, return_inverse=True)
    count = int(place.max()) + 1
    centre = float(table.mean())
    sums = np.zeros((len(table), count))
    np.add.at(sums.T, place, (table - centre).T)
    columns: Floats = centre + sums * (count / table.shape[1])
    return columns


def item_mean(values: npt.ArrayLike, clusters: npt.ArrayLike | None = None, level: float = 0.95) -> ItemMean:
    """Return the mean over items with its intervals over seeds, over items (or clusters) and over both.

    values: shape (seeds, items), finite; repeats are averaged beforehand. Over seeds: Student t of the seeds' means.
    Over items: Student t of the items' (clusters') means over these seeds. Over both: `two_way_interval`.
    """
    table = np.asarray(values, dtype=np.float64)
    columns = by_cluster(table, clusters)
    seeds, count = columns.shape
    both = two_way_interval(columns, level).interval if min(seeds, count) > 1 else None
    return ItemMean(
        float(table.mean()), t_interval(table.mean(axis=1), level), t_interval(columns.mean(axis=0), level), both,
        seeds, table.shape[1], count,
    )  # fmt: skip


def pass_at(right: npt.ArrayLike, tries: npt.ArrayLike, k: int) -> Floats:
    """Return, for each item, the chance that at least one of k tries is right: 1 - C(n-c, k)/C(n, k).

    right, tries: shape (items,), c right ones of n tries. Unbiased for 1 - (1-p)^k (Chen et al. 2021).
    Raises StatisticsError unless 1 <= k <= every n.
    """
    c, n = _counts(right, tries, k)
    return 1 - _ratio(n - c, n, k)


def pass_all(right: npt.ArrayLike, tries: npt.ArrayLike, k: int) -> Floats:
    """Return, for each item, the chance that all of k tries are right, "pass^k": C(c, k)/C(n, k).

    Unbiased for p^k. Arguments and errors as in `pass_at`.
    """
    c, n = _counts(right, tries, k)
    return _ratio(c, n, k)


def _counts(right: npt.ArrayLike, tries: npt.ArrayLike, k: int) -> tuple[Floats, Floats]:
    c, n = sample(right, name="right"), sample(tries, name="tries")
    if k < 1 or k > n.min():
        raise StatisticsError(f"k is {k}, but the item with the fewest tries has {n.min():g}")
    if c.shape != n.shape or (c < 0).any() or (c > n).any():
        raise StatisticsError("an item must have between 0 and all of its tries right")
    return c, n


def _ratio(part: Floats, whole: Floats, k: int) -> Floats:
    """Return C(part, k) / C(whole, k), as a product that neither overflows nor rounds much."""
    steps = np.arange(k)
    return np.asarray(np.prod(np.maximum(part[:, None] - steps, 0) / (whole[:, None] - steps), axis=1))


def flips(values: npt.ArrayLike) -> Floats:
    """Return, for each item, the chance that a try in one seed and a try in another differ.

    values: shape (seeds, items), the share of right tries in each seed, from 0 to 1; at least two seeds. The mean of
    p (1-q) + q (1-p) over all pairs of seeds; with one try each, the share of pairs of seeds that differ.
    """
    table = np.asarray(values, dtype=np.float64)
    runs, total = len(table), table.sum(axis=0)
    both = (total**2 - (table**2).sum(axis=0)) / 2  # the sum of p q over pairs
    chance: Floats = ((runs - 1) * total - 2 * both) / math.comb(runs, 2)
    return chance


def needed(gaps: npt.ArrayLike, clusters: npt.ArrayLike | None = None, level: float = 0.95) -> Needed:
    """Return how many seeds or items would decide a paired difference of the observed size, with power .8.

    gaps: shape (seeds, items), A minus B for the same seed and item. By the two-way components of variance and the
    normal approximation, σ_s²/R + σ_i²/n + σ_e²/(R n) must fall to (mean / (z_{1-α/2} + z_.8))².
    """
    table = scores(by_cluster(gaps, clusters))
    runs, n = table.shape
    noise = float(table.var(axis=0, ddof=1).mean())
    seed_part = max(variance(table.mean(axis=1)) - noise / n, 0.0)
    item_part = max(float(table.mean(axis=0).var(ddof=1)) - noise / runs, 0.0)
    reach = special.ndtri(1 - check_level(level) / 2) + special.ndtri(POWER)
    wanted = (float(table.mean()) / reach) ** 2
    scale = 1.0 if clusters is None else np.asarray(gaps).shape[1] / n
    items = _least(wanted - seed_part / runs, item_part + noise / runs)
    return Needed(
        _least(wanted - item_part / n, seed_part + noise / n),
        None if items is None else min(math.ceil(items * scale), MOST),
    )


def unpaired(
    a: npt.ArrayLike, b: npt.ArrayLike, clusters: npt.ArrayLike | None = None, level: float = 0.95
) -> Interval | None:
    """Return the interval of mean A minus mean B for the same items and different seeds, over seeds and items.

    a: shape (seeds, items), b: (seeds', items). `two_way_difference`, with clusters as in `by_cluster`. None if one
    seed or one item (cluster) leaves no spread.
    """
    one, two = by_cluster(a, clusters), by_cluster(b, clusters)
    if min(len(one), len(two), one.shape[1]) < 2:
        return None
    return two_way_difference(one, two, level).interval


def _least(room: float, spread: float) -> int | None:
    """Return the least m with spread/m <= room, or None."""
    if room <= 0 or spread / room > MOST:
        return None
    return max(math.ceil(spread / room), 1)


def averaged(
    ids: Sequence[npt.NDArray[np.generic]], values: Sequence[npt.ArrayLike]
) -> tuple[npt.NDArray[np.generic], Floats, Ints]:
    """Return (ids, table, tries), with repeats of an item averaged within their seed, and columns sorted by id.

    ids, values: one array per seed, an id once per try. tries: shape (seeds, items).
    Raises StatisticsError if seeds have different items, because their means are not comparable.
    """
    first = np.unique(ids[0])
    rows, counts = [], []
    for number, (own, score) in enumerate(zip(ids, values, strict=True)):
        distinct, place = np.unique(own, return_inverse=True)
        if distinct.shape != first.shape or (distinct != first).any():
            odd = np.setxor1d(distinct.astype(str), first.astype(str))
            what = repr(str(odd[0])) if odd.size else f"ids of the kind {distinct.dtype}, not {first.dtype}"
            raise StatisticsError(f"run {number + 1} of {len(ids)} has different items from the first: {what}")
        tries = np.bincount(place)
        rows.append(np.bincount(place, weights=sample(score)) / tries)
        counts.append(tries)
    return first, np.stack(rows), np.stack(counts)


def share(
    per_item: Floats, clusters: npt.ArrayLike | None = None, level: float = 0.95
) -> tuple[float, Interval | None]:
    """Return the mean of a share known for each item, and its Student t interval over items (clusters)."""
    return float(per_item.mean()), t_interval(by_cluster(per_item[None, :], clusters)[0], level)


# Answers of members to single examples: how far they agree, and which depend on the seed


@dataclass(frozen=True)
class Votes:
    """For each example (N,): the label with the most votes, its share of the votes, and the share of unequal pairs.

    In a tie the lowest label counts. arbitrary: the share of examples on which members differ.
    """

    label: Ints
    share: Floats
    unequal: Floats
    members: int
    arbitrary: float
    interval: Interval


@dataclass(frozen=True)
class Abstention:
    """Answering only if the majority has at least `share` of the votes: coverage and accuracy there, (K,) each.

    low, high: Clopper-Pearson limits of the accuracy over the answered examples.
    """

    share: Floats
    coverage: Floats
    accuracy: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Churn:
    """Share of examples on which a member of A and one of B differ, beside that within A and within B.

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
    counted = _tally(table, int(table.max()) + 1)
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

    All pairs of members count, so that the churn can be compared with that caused by seeds alone. same: pairs (row of
    A, row of B) with the same seed. They are left out because they may agree for that reason.
    Interval: Student t over examples of the per-example excess. Raises StatisticsError if all pairs share a seed.
    """
    first, second = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    classes = int(max(first.max(), second.max())) + 1
    one, two = _tally(first, classes), _tally(second, classes)
    alike = (one * two).sum(axis=1) - sum((first[i] == second[j]).astype(np.float64) for i, j in same)
    pairs = len(first) * len(second) - len(same)
    if not pairs:
        raise StatisticsError("there are no two members with different seeds")
    between = 1 - alike / pairs
    within = _unequal(one), _unequal(two)
    excess = between - (within[0] + within[1]) / 2
    return Churn(
        float(between.mean()), float(within[0].mean()), float(within[1].mean()), float(excess.mean()),
        t_interval(excess, level),
    )  # fmt: skip


def _tally(table: Ints, classes: int) -> Floats:
    """Return (N, classes): the number of members that chose each class."""
    n = table.shape[1]
    flat = np.bincount((table + np.arange(n) * classes).reshape(-1), minlength=n * classes)
    return flat.reshape(n, classes).astype(np.float64)


def _unequal(counted: Floats) -> Floats:
    """Return, for each example, the share of pairs of members whose labels differ."""
    members = counted[0].sum()
    return np.asarray(1 - (counted * (counted - 1)).sum(axis=1) / (members * (members - 1)))
