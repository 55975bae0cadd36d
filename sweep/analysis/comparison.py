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
    """One configuration of a pair. failed: None where runs were adopted and the number of failures is unknown."""

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
    """Interim looks at results: the number of extensions, and whether a rule that compares chose the seeds."""

    extensions: int = 0
    by_rule: bool = False

    def __bool__(self) -> bool:
        return self.extensions > 0 or self.by_rule


@dataclass(frozen=True)
class Planned:
    """The number of seeds that is needed to show the difference `wanted`, or to estimate both means to ± `wanted`.

    spread: the sd of the plan. seeds: None where more than a million would be needed. each: this number in each arm.
    rule: the stopping rule of a valid sequential design, and the most seeds it may take in `directory`; "" where
    nothing can be trained there. both: the other arm needs the rule as well.
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

    difference: t over seeds, finished ones where some failed; None where an arm has no value. interval: the one
    that counts, at the comparison's level: that of `difference`, or with `sequenced` the confidence sequence, where
    seeds were added after results existed and the design is paired. simultaneous: the same at Bonferroni's level over
    all pairs. p_holm: over all pairs; None with the sequence, whose looks no p value has paid for. reading: of
    P(A > B), or where that is below a half of P(B > A). looks: what nothing but the sequence accounts for.
    resplit: every seed has its own split of the same data, or the data are cut into `folds`; ratio: then
    n_test/n_train, where it is known.
    verdict: "a" or "b" where a mean is shown to be larger, else "none".
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
    """Another metric of a pair: its difference with an unadjusted interval. Exploratory."""

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
    adopted: bool  # nothing is known of runs that failed


@dataclass(frozen=True)
class Design:
    """The way in which pairs were made. shared: how many seeds both sides of a pair plan, if some are left out."""

    kind: Literal["bounds", "no seeds", "as asked", "other seeds", "mostly shared", "same seeds", "shared seeds"]
    shared: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Made by `sweep.analysis.compare`."""

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
    lacking: Mapping[str, Sequence[int]]  # by directory, the seeds that the pairs leave out for want of them there
    seed: int  # of the generator that draws permutations where there are too many to count

    @property
    def code(self) -> int:
        """Return the exit code of the gate: 0 passed (or nothing was required), 1 contradicted, 4 undecided."""
        codes = {check.decision.code for check in self.checks}
        return 1 if 1 in codes else 4 if 4 in codes else 0
