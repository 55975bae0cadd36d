"""The answers of a directory's members to single examples: which of them depend on the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.ensemble.gather import choose, matched
from sweep.ensemble.members import Classes
from sweep.errors import StatisticsError
from sweep.evaluation.items import shared
from sweep.stats import agreement
from sweep.stats.agreement import Abstention, Churn, Votes
from sweep.stats.sample import Ints
from sweep.store import Store


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
    """Churn between two configurations on the examples that both have, and the examples with the most of it."""

    churn: Churn
    examples: int
    only_a: int
    only_b: int


def answers(store: Store, which: Mapping[str, Any], *, level: float = 0.95) -> Answers:
    """Return the answers of the members of one variant and task. which: arguments of `ensemble.gather.gather`.

    StatisticsError for predictions that are no classes; EnsembleError as in `ensemble.gather`.
    """
    chosen = choose(store, variant=which.get("variant"), task=which.get("task"), members=which.get("members"))
    held = matched(store, chosen, which.get("split", "test"), bool(which.get("allow_missing")))
    if not isinstance(held, Classes):
        raise StatisticsError(
            "these predictions are numbers, not classes: members never agree on a number exactly",
            hint="`sweep ensemble` has the disagreement of regressions",
        )
    labels = held.probs.argmax(axis=2)
    votes = agreement.votes(labels, level)
    order = np.lexsort((votes.share, -votes.unequal))
    return Answers(
        chosen.variant, chosen.task, held.split, held.labels, held.missing, held.ids, held.targets, labels, votes,
        agreement.abstention(votes, held.targets, level), order[votes.unequal[order] > 0],
    )  # fmt: skip


def between(a: Answers, b: Answers, level: float = 0.95) -> Difference:
    """Return the churn between two configurations, beside the churn between the seeds of each.

    StatisticsError where they share no example.
    """
    at_a, at_b = shared(a.ids, b.ids, "example")
    same = [(i, b.members.index(label)) for i, label in enumerate(a.members) if label in b.members]
    churn = agreement.churn(a.labels[:, at_a], b.labels[:, at_b], level, same=same)
    return Difference(churn, at_a.size, len(a.ids) - at_a.size, len(b.ids) - at_a.size)
