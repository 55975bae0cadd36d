"""The types of an overview of a run directory: numbers and codes, unrounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sweep.analysis.remarks import Remark
from sweep.goals import Goal, split_of
from sweep.shared_files import Shared
from sweep.variants import Variant

if TYPE_CHECKING:
    from sweep.stats import Band, Method
    from sweep.stats.items import ItemMean
    from sweep.store import Member


@dataclass(frozen=True)
class ResultRule:
    """The rule that chose the reported value of ok runs, and the first and last epoch that it chose."""

    rule: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True)
class Counts:
    """Counts of runs: planned = ok + failed + lost + pending.

    Among the pending, `running` are at work now, and `stopped` were asked to end. adopted: the runs were made
    elsewhere, so a missing one may have failed there, or never have been run.
    """

    planned: int
    ok: int
    failed: int
    lost: int
    pending: int
    running: int = 0
    stopped: int = 0
    adopted: bool = False


def counts_of(members: Iterable[Member], *, adopted: bool = False) -> Counts:
    """Count runs by status; running and stopped ones are pending until they end."""
    found = Counter(member.status for member in members)
    return Counts(
        planned=found.total(), ok=found["ok"], failed=found["failed"], lost=found["lost"],
        pending=found["pending"] + found["running"] + found["stopped"],
        running=found["running"], stopped=found["stopped"], adopted=adopted,
    )  # fmt: skip


@dataclass(frozen=True)
class OfCell:
    """A fact about one variant of one task. label: the name of both, "" if there is only one cell."""

    task: str
    variant: str
    label: str


@dataclass(frozen=True)
class OverSeeds:
    """One metric over the seeds of one configuration.

    n seeds have a value; missing, planned, ok, lost and pending count seeds, whose repeats are averaged. sd and the
    limits of a t interval, low and high, are None if n < 2, and everything is None if n = 0.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    missing: int
    planned: int
    ok: int
    lost: int
    pending: int

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class Row(OverSeeds, OfCell):
    """One metric of one variant of one task over its seeds; `method` is also the reason if there is no interval.

    failure_low and failure_high bound the failure rate of seeds that ended (Clopper-Pearson). `over`: "finished seeds"
    if some failed. `best`: a table may set the variant in bold, because Holm over all pairs of its task does not
    separate it from the best mean of the primary metric. `constant`: the same, but its distance from that mean is equal
    on every seed, so nothing can be tested.
    """

    metric: str
    goal: Goal | None
    primary: bool
    min: float | None
    max: float | None
    failed: int
    failure_low: float
    failure_high: float
    level: float
    method: Method
    over: Literal["seeds", "finished seeds"]
    best: bool = False
    constant: bool = False

    @property
    def adopted(self) -> bool:
        """Return whether the failure rate has no bound because failures of runs made elsewhere are unknown."""
        return self.failure_high == 1 and self.ok > 0


@dataclass(frozen=True)
class Cause:
    """A run without a result, and why. `log` is relative to the run directory; "" if there is none."""

    key: str
    task: str
    variant: str
    seed: int
    repeat: int
    status: str
    kind: str
    phase: str
    message: str
    exception: str
    where: str
    attempts: int
    log: str


@dataclass(frozen=True)
class Score:
    """One metric of an ensemble beside the mean of its members. difference = ensemble - members_mean."""

    metric: str
    goal: Goal | None
    ensemble: float
    members_mean: float
    difference: float
    by_construction: bool  # averaging cannot make it worse than the members' mean, so it is no evidence


@dataclass(frozen=True)
class Together(OfCell):
    """The ensemble of the ok members of one variant and task; `reason`: why there are no scores."""

    split: str
    members: int
    planned: int
    examples: int
    scores: tuple[Score, ...] = ()
    reason: Remark | None = None


@dataclass(frozen=True)
class Spread(OfCell):
    """The spread of the seeds of one variant and task in the primary metric, and its causes.

    vary: what the seeds vary; empty means everything. sd_low, sd_high: chi-square. best: the best seed. inflation: how
    far the best is expected to lie from the mean by chance; expected: the best value expected by chance.
    training_variance: Jordan's estimate of the part of observed_variance that would remain on infinite test data; not
    clipped, so it may be negative. true_*: the mean over seeds AND examples. repeat_*: spread of repeats of one seed.
    None if it cannot be computed; `reason`: why single examples cannot be used.
    """

    metric: str
    vary: tuple[str, ...]
    seeds: int
    sd: float
    sd_low: float
    sd_high: float
    level: float
    best: float | None
    inflation: float
    expected: float | None = None
    examples: int | None = None
    observed_variance: float | None = None
    training_variance: float | None = None
    true_mean: float | None = None
    true_low: float | None = None
    true_high: float | None = None
    true_method: Method | None = None
    repeat_sd: float | None = None
    repeat_low: float | None = None
    repeat_high: float | None = None
    mostly_chance: bool = False  # less than half of the variance would remain on infinite test data
    reason: Remark | None = None


@dataclass(frozen=True)
class Median(OfCell):
    """The median of the primary metric over all ended seeds of one variant and task, failed ones ranked worst.

    seeds: those that finished with a value or failed. median, low and high are infinite on the bad side if
    they fall on a failed seed; low and high are None if no exact interval exists. sd: of the finished seeds.
    """

    metric: str
    level: float
    seeds: int
    failed: int
    median: float
    sd: float | None
    low: float | None = None
    high: float | None = None
    ranks: tuple[int, int] | None = None  # the order statistics that low and high are
    coverage: float | None = None


@dataclass(frozen=True)
class Curve:
    """A curve with pointwise limits, which are NaN if no interval exists."""

    at: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, band: Band) -> Curve:
        return cls(*(tuple(each.tolist()) for each in (band.at, band.value, band.low, band.high)))


@dataclass(frozen=True)
class OverTasks:
    """Normalised scores of the seeds of one variant that finished in all of these tasks. metric: as it was logged."""

    variant: str
    label: str
    metric: str
    tasks: int
    level: float
    seeds: int


@dataclass(frozen=True)
class Across(OverTasks):
    """Normalised scores over tasks at the end of training. reason: why there is no number, or no interval.

    profile: the share of runs with a score above each threshold.
    """

    planned: int
    mean: float | None = None
    mean_low: float | None = None
    mean_high: float | None = None
    iqm: float | None = None
    iqm_low: float | None = None
    iqm_high: float | None = None
    method: Method | None = None
    reason: Remark | None = None
    profile: Curve | None = None


@dataclass(frozen=True)
class Improvement:
    """The probability that a run of `a` scores higher than a run of `b` on the same task, averaged over the tasks."""

    a: str
    b: str
    tasks: int
    seeds: tuple[int, int]
    probability: float
    low: float | None
    high: float | None
    level: float
    method: Method | None


@dataclass(frozen=True)
class Reached:
    """The first step at which a curve reaches a threshold, and those at which its upper and lower limits do.

    Infinity means never; NaN means that the curve has no limits.
    """

    threshold: float
    step: float
    earliest: float
    latest: float


@dataclass(frozen=True)
class Progress(OverTasks):
    """Normalised scores over tasks at each step of training. reason: why there is no number.

    curve: interquartile mean over the runs at every `stride`th step. area: interquartile mean of the mean heights of
    the curves of runs.
    """

    curve: Curve | None = None
    stride: int = 1
    area: float | None = None
    area_low: float | None = None
    area_high: float | None = None
    method: Method | None = None
    reached: tuple[Reached, ...] = ()
    reason: Remark | None = None


@dataclass(frozen=True)
class Scored(OfCell):
    """The mean over one set of items in one variant and task, with its intervals over seeds, items and both.

    lacking: planned seeds without these scores.
    """

    name: str
    mean: ItemMean
    lacking: int


@dataclass(frozen=True)
class Environment:
    """A machine with its software, on which runs were made.

    differences from the most used one: (field, its value there, its value here). verdict: what to expect of equal runs
    here and there ("answer"), and the "fields" that decided; empty for the most used one.
    """

    id: str
    runs: int
    differences: tuple[tuple[str, str, str], ...]
    fields: Mapping[str, Any]
    verdict: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Overview:
    """A run directory in numbers, made by `sweep.analysis.overview`.

    remarks: warnings; asides: notes.
    """

    name: str
    directory: str
    primary: str
    level: float
    counts: Counts
    rows: tuple[Row, ...]
    causes: tuple[Cause, ...]
    together: tuple[Together, ...]
    result_rules: tuple[ResultRule, ...]
    mode: str
    device: str
    threads: int
    seeds: tuple[int, ...]
    repeats: int
    extensions: int
    until: Mapping[str, Any]
    seed_log: tuple[Mapping[str, Any], ...]
    stamp: Mapping[str, Any]
    environments: tuple[Environment, ...]
    versions: Mapping[str, str]
    remarks: tuple[Remark, ...]
    asides: tuple[Remark, ...]
    seconds: float
    spreads: tuple[Spread, ...] = ()
    medians: tuple[Median, ...] = ()
    across: tuple[Across, ...] = ()
    improvements: tuple[Improvement, ...] = ()
    progress: tuple[Progress, ...] = ()  # empty if histories were not read
    items: tuple[Scored, ...] = ()
    vary: tuple[str, ...] = ()
    ratio: float | None = None  # n_test/n_train, if every seed or every fold has its own split
    folds: int = 0
    variants: Mapping[str, Variant] = field(default_factory=dict)  # by folder, in planned order
    identical: tuple[tuple[str, ...], ...] = ()  # runs of different seeds that gave exactly the same result
    shared: tuple[Shared, ...] = ()  # files below the launch folder that several runs wrote
    changed: tuple[str, ...] = ()  # runs during which the program or its data changed
    group_by: tuple[str, ...] = ()

    @property
    def primary_rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.primary)

    @property
    def called(self) -> dict[tuple[str, str], str]:
        """Return the label of each (task, variant)."""
        return {(row.task, row.variant): row.label for row in self.rows}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics in the order of the report: the primary one, then test, val, train, the rest."""
        return tuple(dict.fromkeys(row.metric for row in self.rows))


def by_split(metrics: Sequence[str], primary: str) -> list[str]:
    """Return the metrics with the primary one first, then by split (test, val, train, others) and name."""
    order = ("test", "val", "train", "")
    return sorted(metrics, key=lambda m: (m != primary, order.index(split_of(m)), m))
