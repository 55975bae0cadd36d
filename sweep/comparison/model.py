"""A comparison as data: everything its text, tables and JSON say, computed once, unrounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sweep.goals import Goal
from sweep.stats import (
    Decision,
    Difference,
    Effect,
    Equivalence,
    Interval,
    Permutation,
    RateDifference,
    Superiority,
    TwoWay,
    WinRate,
)
from sweep.stats.planning import expected_best
from sweep.store import atomic

FORMAT = 1


@dataclass(frozen=True)
class Side:
    """One configuration of a pair: its seeds, and the metric over those that converged, with its Student t interval.

    failed: None where runs were adopted, of which nobody knows how many failed.
    """

    name: str
    planned: int
    ok: int
    failed: int | None
    lost: int
    pending: int
    missing: int
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    best: float | None
    extensions: int

    @property
    def inflation(self) -> float | None:
        """By how much the best of n seeds exceeds their mean by chance alone, in units of the metric."""
        return None if self.sd is None or self.n < 2 else expected_best(self.n) * self.sd


@dataclass(frozen=True)
class Pair:
    """A against B on one metric of one task; every difference is A - B.

    difference: t over what `over` names; None where an arm has no value. interval: the one that counts, at
    the comparison's level: that of `difference`, or the confidence sequence where seeds were added after
    results existed and the design is paired. simultaneous: the same at Bonferroni's level over all pairs.
    p_holm: over all pairs; None with the sequence, whose looks no p value has paid for. stamp: what the
    interval does not account for. others: what all that stands beside `interval` does not account for: "" unless
    seeds were added after results existed. verdict: "a" or "b" where a mean is shown to be larger, else "none".
    """

    metric: str
    task: str
    a: Side
    b: Side
    paired: bool
    over: str
    difference: Difference | None
    interval: Interval | None
    simultaneous: Interval | None
    p_holm: float | None
    permutation: Permutation | None
    superiority: Superiority | None
    wins: WinRate | None
    reading: str
    effect: Effect | None
    equivalence: Equivalence | None
    failures: RateDifference | None
    examples: TwoWay | None
    stamp: str
    others: str
    verdict: str
    sentence: str
    plan: tuple[str, ...]


@dataclass(frozen=True)
class Exploratory:
    """Another metric of a pair: its difference with an unadjusted interval, for looking, not for claiming."""

    metric: str
    task: str
    a: str
    b: str
    goal: Goal | None
    difference: Difference


@dataclass(frozen=True)
class Check:
    """One requirement held against one candidate."""

    requirement: str
    base: str
    candidate: str
    task: str
    paired: bool
    decision: Decision
    stamp: str


@dataclass(frozen=True)
class Comparison:
    """Made by `sweep.comparison.compare`; `to_json` carries every number unrounded with its method."""

    metric: str
    goal: Goal | None
    level: float
    paired: bool
    why: str
    arms: tuple[str, ...]
    pairs: tuple[Pair, ...]
    exploratory: tuple[Exploratory, ...]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    next: tuple[str, ...]
    seed: int  # of the generator that draws permutations where there are too many to count

    @property
    def code(self) -> int:
        """What a gate answers: 0 all passed (or nothing was required), 1 one is contradicted, 4 undecided."""
        codes = {check.decision.code for check in self.checks}
        return 1 if 1 in codes else 4 if 4 in codes else 0


def to_json(found: Comparison) -> Mapping[str, Any]:
    """The comparison as plain data for strict JSON."""
    body = {"format": FORMAT, **asdict(found), "exit_code": found.code}
    for pair, made in zip(found.pairs, body["pairs"], strict=True):
        made["a"]["expected_inflation"], made["b"]["expected_inflation"] = pair.a.inflation, pair.b.inflation
    plain: Mapping[str, Any] = atomic.strict(body)
    return plain
