"""The types of a comparison: numbers and codes, unrounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sweep import stats
from sweep.analysis.model import OverSeeds
from sweep.analysis.remarks import Remark
from sweep.goals import Goal
from sweep.stats.planning import expected_best
from sweep.stats.ranks import Reading

Verdict = Literal["a", "b", "none"]


@dataclass(frozen=True)
class Side(OverSeeds):
    """One configuration of a pair. failed: None if runs were adopted and the number of failures is unknown."""

    name: str
    failed: int | None
    best: float | None
    extensions: int

    @property
    def inflation(self) -> float | None:
        """Return how far the best of n seeds is expected to lie from their mean by chance, in units of the metric."""
        return None if self.sd is None or self.n < 2 else expected_best(self.n) * self.sd


@dataclass(frozen=True)
class Looks:
    """Interim looks at results: the number of extensions, and whether a stopping rule that compares chose the seeds."""

    extensions: int = 0
    by_rule: bool = False

    def __bool__(self) -> bool:
        return self.extensions > 0 or self.by_rule


@dataclass(frozen=True)
class Planned:
    """The number of seeds needed to show the difference `wanted`, or to estimate both means to ± `wanted`.

    spread: the sd that the plan assumes. seeds: None if more than a million are needed. each: `seeds` is per arm.
    rule: the stopping rule of a valid sequential design, with the most seeds it may take in `directory`; "" if
    nothing can be trained there. both: the other arm needs the rule too.
    """

    aim: Literal["difference", "margin", "half-width"]
    wanted: float
    spread: float
    seeds: int | None
    each: bool = False
    both: bool = False
    directory: str = ""
    rule: str = ""
    max_seeds: int = 0


@dataclass(frozen=True)
class Pair:
    """A against B on one metric of one task; every difference is A - B.

    difference: t over finished seeds; None if an arm has no value. interval: the one that counts, at the level of the
    comparison. It is that of `difference` or, if `sequenced`, the confidence sequence: seeds were added after results
    existed, and the design is paired. simultaneous: the same at the Bonferroni level over all pairs. p_holm: over all
    pairs; None with the sequence, because p values do not account for its looks. reading: the interpretation of
    P(A > B) or, if that is below a half, of P(B > A). looks: those that only the sequence accounts for.
    resplit: every seed has its own split of the same data, or the data are cut into `folds`; ratio: n_test/n_train in
    that case, if known.
    verdict: "a" or "b" if the mean of that arm is shown to be larger, else "none".
    """

    metric: str
    task: str
    a: Side
    b: Side
    paired: bool
    difference: stats.Difference | None
    interval: stats.Interval | None
    simultaneous: stats.Interval | None
    sequenced: bool
    p_holm: float | None
    permutation: stats.Permutation | None
    superiority: stats.Superiority | None
    wins: stats.WinRate | None
    reading: Reading | None
    effect: stats.Effect | None
    equivalence: stats.Equivalence | None
    failures: stats.RateDifference | None
    examples: stats.TwoWay | None
    looks: Looks
    resplit: bool
    ratio: float | None
    folds: int = 0
    verdict: Verdict = "none"
    planned: Planned | None = None


@dataclass(frozen=True)
class Exploratory:
    """The difference of a pair in another metric, with an unadjusted interval. Exploratory only."""

    metric: str
    task: str
    a: str
    b: str
    goal: Goal | None
    difference: stats.Difference


@dataclass(frozen=True)
class Check:
    """One requirement of a gate, applied to one candidate."""

    requirement: str
    base: str
    candidate: str
    task: str
    paired: bool
    decision: stats.Decision
    looks: Looks
    adopted: bool  # the number of failed runs is unknown


@dataclass(frozen=True)
class Design:
    """The way in which pairs were made. shared: the numbers of seeds that both sides plan, if some are left out."""

    kind: Literal["bounds", "no seeds", "as asked", "other seeds", "mostly shared", "same seeds", "shared seeds"]
    shared: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The result of `sweep.analysis.compare`."""

    metric: str
    goal: Goal | None
    level: float
    paired: bool
    design: Design
    arms: tuple[str, ...]
    pairs: tuple[Pair, ...]
    exploratory: tuple[Exploratory, ...]
    checks: tuple[Check, ...]
    remarks: tuple[Remark, ...]
    lacking: Mapping[str, Sequence[int]]  # by directory, seeds that pairs leave out because they are not planned there
    seed: int  # of the generator that draws permutations if there are too many to enumerate

    @property
    def code(self) -> int:
        """Return the exit code of the gate: 0 passed (or nothing was required), 1 contradicted, 4 undecided."""
        codes = {check.decision.code for check in self.checks}
        return 1 if 1 in codes else 4 if 4 in codes else 0
