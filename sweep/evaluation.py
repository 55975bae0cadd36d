"""Scores of items and answers to single examples, over the seeds of a directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.ensemble.gather import choose, matched
from sweep.ensemble.members import Classes
from sweep.errors import StatisticsError
from sweep.stats import items as over
from sweep.stats.interval import Interval
from sweep.stats.items import Abstention, Churn, ItemMean, Needed, Votes
from sweep.stats.sample import Floats, Ints
from sweep.store import Member, Store
from sweep.store.names import SCORES
from sweep.store.scores import Scores


@dataclass(frozen=True)
class Pass:
    """The chance that at least one of k tries is right (`at`) and that all are (`all`), with intervals over items."""

    k: int
    at: float
    at_interval: Interval | None
    all: float
    all_interval: Interval | None


@dataclass(frozen=True)
class Items:
    """One set of items in one variant and task.

    seeds: those of the rows of `table` (seeds, items); ids (items,); planned, failed: numbers of seeds. tries: least
    number of tries at an item in one seed. binary: all scores are 0 or 1. passes: over the tries of a seed, or over the
    seeds if each tried once; empty unless binary. flip: chance that a try in one seed and one in another differ; None
    if not binary, or with one seed.
    """

    name: str
    variant: str
    task: str
    seeds: tuple[int, ...]
    planned: int
    failed: int
    ids: npt.NDArray[Any]
    table: Floats
    clusters: npt.NDArray[Any] | None
    tries: int
    binary: bool
    mean: ItemMean
    passes: tuple[Pass, ...]
    flip: float | None
    flip_interval: Interval | None


@dataclass(frozen=True)
class Compared:
    """A minus B, paired by item. paired: seeds are paired too. interval is over seeds and items."""

    difference: float
    interval: Interval | None
    items: int
    only_a: int
    only_b: int
    seeds: tuple[int, int]
    paired: bool
    needed: Needed | None


def names(store: Store, members: Iterable[Member] | None = None) -> list[str]:
    """Return the names of the sets of items that runs of a directory saved, sorted. members: as for `items`."""
    runs = store.scan() if members is None else members
    return sorted({name for member in runs for name in store.scored(member)})


def items(
    store: Store, name: str, *, ks: Sequence[int] = (), level: float = 0.95, members: Iterable[Member] | None = None
) -> list[Items]:
    """Return one result per variant and task whose finished runs saved scores under this name.

    ks: numbers of tries for the passes; default 1 and the largest possible. members: those of `store.scan()`,
    to save scanning again.
    Raises StatisticsError if seeds have different items, or k is more than the tries.
    """
    cells: dict[tuple[str, str], list[Member]] = {}
    for member in store.scan() if members is None else members:
        cells.setdefault((member.task, member.variant), []).append(member)
    found = []
    for (task, variant), its in sorted(cells.items()):
        wanting = {m.seed for m in its if m.folds and m.status != "ok"}  # an incomplete seed lacks items
        having = [m for m in its if m.status == "ok" and store.has(m, SCORES.format(name=name))]
        having = [m for m in having if m.seed not in wanting]
        if having:
            found.append(_cell(store, name, task, variant, its, having, ks, level))
    if not found:
        known = ", ".join(names(store)) or "none"
        raise StatisticsError(f"no finished run saved scores of {name!r}", hint=f"scores that were saved: {known}")
    return found


def _cell(
    store: Store, name: str, task: str, variant: str, members: Sequence[Member], having: Sequence[Member],
    ks: Sequence[int], level: float,
) -> Items:  # fmt: skip
    by_seed: dict[int, list[Scores]] = {}
    for member in sorted(having, key=lambda m: (m.seed, m.repeat)):
        held = store.scores(member, name)
        if held is not None:
            by_seed.setdefault(member.seed, []).append(held)
    ids = [np.concatenate([each.ids for each in held]) for held in by_seed.values()]
    scores = [np.concatenate([each.score for each in held]) for held in by_seed.values()]
    distinct, table, tries = over.averaged(ids, scores)
    clusters = _clusters(next(iter(by_seed.values()))[0])
    binary = bool(np.isin(np.concatenate(scores), (0, 1)).all())
    flip = over.share(over.flips(table), clusters, level) if binary and len(table) > 1 else (None, None)
    states: dict[int, set[str]] = {}
    for member in members:
        states.setdefault(member.seed, set()).add(member.status)
    return Items(
        name, variant, task, tuple(by_seed), len(states), sum("failed" in each for each in states.values()),
        distinct, table, clusters, int(tries.min()), binary, over.item_mean(table, clusters, level),
        tuple(_passes(table, tries, clusters, ks, level)) if binary else (), *flip,
    )  # fmt: skip


def _clusters(held: Scores) -> npt.NDArray[Any] | None:
    """Return the cluster of each item, items sorted by id."""
    if held.cluster is None:
        return None
    return np.asarray(held.cluster[np.unique(held.ids, return_index=True)[1]])


def _passes(
    table: Floats, tries: npt.NDArray[np.int64], clusters: npt.NDArray[Any] | None, ks: Sequence[int], level: float
) -> list[Pass]:
    right = np.rint(table * tries)
    if tries.min() == 1:  # the seeds are the tries
        right, tries = right.sum(axis=0, keepdims=True), tries.sum(axis=0, keepdims=True)
    made = []
    for k in ks or sorted({1, int(tries.min())}):
        at = np.mean([over.pass_at(c, n, k) for c, n in zip(right, tries, strict=True)], axis=0)
        every = np.mean([over.pass_all(c, n, k) for c, n in zip(right, tries, strict=True)], axis=0)
        made.append(Pass(k, *over.share(at, clusters, level), *over.share(every, clusters, level)))
    return made


def shared(a: npt.NDArray[Any], b: npt.NDArray[Any], what: str) -> tuple[Ints, Ints]:
    """Return the places in `a` and in `b` of the ids that both have. Raises: StatisticsError if there are none."""
    both, at_a, at_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    if not both.size:
        raise StatisticsError(f"the two have no {what}s in common", hint="use the same ids in both")
    return at_a, at_b


def compare(a: Items, b: Items, level: float = 0.95) -> Compared:
    """Compare two results by the items that both have, and by seed if both have the same seeds.

    Raises StatisticsError if they share no item.
    """
    at_a, at_b = shared(a.ids, b.ids, "item")
    one, two = a.table[:, at_a], b.table[:, at_b]
    known = [each.clusters[at] for each, at in ((a, at_a), (b, at_b)) if each.clusters is not None]
    clusters = known[0] if known else None
    paired = a.seeds == b.seeds
    if paired:
        gaps = one - two
        found = over.item_mean(gaps, clusters, level)
        interval = found.widest
        plan = over.needed(gaps, clusters, level) if min(gaps.shape) > 1 and found.clusters > 1 else None
    else:
        interval, plan = over.unpaired(one, two, clusters, level), None
    return Compared(
        float(one.mean() - two.mean()), interval, at_a.size, len(a.ids) - at_a.size, len(b.ids) - at_a.size,
        (len(one), len(two)), paired, plan,
    )  # fmt: skip


# The answers of members to single examples


@dataclass(frozen=True)
class Answers:
    """labels (members, examples) in the order of `members` and `ids`; targets (examples,).

    arbitrary: places of the examples on which most pairs of members differ, the most arbitrary first.
    """

    variant: str
    task: str
    split: str
    members: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    ids: npt.NDArray[Any]
    targets: Ints
    labels: Ints
    votes: Votes
    abstention: Abstention
    arbitrary: Ints


@dataclass(frozen=True)
class Difference:
    """Churn between two configurations on the examples that both have, and the examples with the most churn."""

    churn: Churn
    examples: int
    only_a: int
    only_b: int


def answers(store: Store, which: Mapping[str, Any], *, level: float = 0.95) -> Answers:
    """Return the answers of the members of one variant and task. which: arguments of `ensemble.gather.gather`.

    Raises StatisticsError for predictions that are not classes, EnsembleError as in `ensemble.gather`.
    """
    chosen = choose(store, variant=which.get("variant"), task=which.get("task"), members=which.get("members"))
    held = matched(store, chosen, which.get("split", "test"), bool(which.get("allow_missing")))
    if not isinstance(held, Classes):
        raise StatisticsError(
            "these predictions are numbers, not classes, and members hardly ever agree exactly on a number",
            hint="`sweep ensemble` shows the disagreement of regressions",
        )
    labels = held.probs.argmax(axis=2)
    votes = over.votes(labels, level)
    order = np.lexsort((votes.share, -votes.unequal))
    return Answers(
        chosen.variant, chosen.task, held.split, held.labels, held.missing, held.ids, held.targets, labels, votes,
        over.abstention(votes, held.targets, level), order[votes.unequal[order] > 0],
    )  # fmt: skip


def between(a: Answers, b: Answers, level: float = 0.95) -> Difference:
    """Return the churn between two configurations, beside the churn between the seeds of each.

    Raises StatisticsError if they share no example.
    """
    at_a, at_b = shared(a.ids, b.ids, "example")
    same = [(i, b.members.index(label)) for i, label in enumerate(a.members) if label in b.members]
    churn = over.churn(a.labels[:, at_a], b.labels[:, at_b], level, same=same)
    return Difference(churn, at_a.size, len(a.ids) - at_a.size, len(b.ids) - at_a.size)
