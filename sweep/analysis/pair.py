"""Two arms on one metric: every statistic of the pair, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep import stats
from sweep.analysis.arms import Arm, folds_of, ratio_of
from sweep.analysis.comparison import Looks, Pair, Side, Verdict
from sweep.analysis.examples import examples_of
from sweep.analysis.planning import planned
from sweep.analysis.remarks import Remark
from sweep.goals import Goal
from sweep.stats.compare import differences
from sweep.stats.ranks import Reading
from sweep.stats.sample import mean, unit

Floats = npt.NDArray[np.float64]
MOST = 100_000  # pairs of one comparison
EQUIVALENCE = 0.90  # level of the interval behind two one-sided tests at .05
MOST_PERMUTED = 30  # pairs; with more, enumerating the arrangements takes minutes
MOST_COMPARED = 30  # arms of a task: 435 pairs; `sweep compare` finds the best of more


def seeds_of(a: Arm, b: Arm, metric: str, *, paired: bool, failed: bool = False) -> tuple[list[int], list[int]]:
    """Return the seeds of both arms that have a number; in paired designs those that have one in both.

    failed: include failed seeds. An ok seed without the metric is never included.
    """
    first, second = (
        [
            seed for seed, state in arm.states.items()
            if seed in arm.values.get(metric, {}) or (failed and state == "failed")
        ]
        for arm in (a, b)
    )  # fmt: skip
    if paired:
        first = second = sorted({*first} & {*second})
    return first, second


def outcomes(a: Arm, b: Arm, metric: str, *, paired: bool, failed: bool = False) -> tuple[Floats, Floats]:
    """Return the numbers of `seeds_of`, NaN for each failed seed; in paired designs position i is the same seed."""
    first, second = seeds_of(a, b, metric, paired=paired, failed=failed)
    return a.outcomes(metric, first), b.outcomes(metric, second)


def pair(
    a: Arm,
    b: Arm,
    metric: str,
    goal: Goal | None,
    *,
    paired: bool,
    level: float,
    each: float,
    margin: float | None,
    rng: np.random.Generator,
    permute: bool,
) -> Pair:
    """Return everything about a pair that does not depend on other pairs. each: the level of simultaneous intervals."""
    first, second = outcomes(a, b, metric, paired=paired)
    both = min(first.size, second.size) > 1
    folds = folds_of(a, b)
    looks, resplit = looks_of(a, b), bool(folds) or "split" in (*a.vary, *b.vary)
    ratio = ratio_of((a, b), "equivalence" if margin is not None else "")
    found, again = (difference_of(a, b, metric, paired=paired, level=one) for one in (level, each))
    equal = difference_of(a, b, metric, paired=paired, level=EQUIVALENCE) if margin is not None else None
    interval, simultaneous = found.interval if found else None, again.interval if again else None
    sequenced = bool(looks and paired and first.size and not resplit)
    if sequenced:
        gaps = differences(first, second)
        interval, simultaneous = stats.sequence_interval(gaps, level), stats.sequence_interval(gaps, each)
    better, wins = _orders(a, b, metric, goal, paired, level)
    failing = a.failed + b.failed > 0
    permutation = None
    if both and permute and not resplit:  # splits that share data are not exchangeable
        permutation = stats.sign_flip_test(first, second, rng) if paired else stats.permutation_test(first, second, rng)
    return Pair(
        metric=metric, task=a.task, a=_side(a, metric, goal, level), b=_side(b, metric, goal, level), paired=paired,
        difference=found, interval=interval, simultaneous=simultaneous, sequenced=sequenced, p_holm=None,
        permutation=permutation, superiority=better, wins=wins, reading=None if resplit else _reading(better),
        effect=stats.hedges_g(first, second, paired=paired, level=level, ratio=ratio)
        if both and not folds and (ratio is not None or not resplit) else None,
        equivalence=stats.equivalence(equal, margin) if equal is not None and margin is not None else None,
        failures=stats.failure_difference(a.failed, a.ended, b.failed, b.ended, level)
        if failing and a.ended and b.ended else None,
        examples=_examples(a, b, metric, paired, level) if permute and both else None,
        looks=looks, resplit=resplit, ratio=ratio, folds=folds,
    )  # fmt: skip


def difference_of(a: Arm, b: Arm, metric: str, *, paired: bool, level: float) -> stats.Difference | None:
    """Return the difference of two arms with the interval of their design; None if one has no value."""
    first, second = seeds_of(a, b, metric, paired=paired)
    if not (first and second):
        return None
    ratio = ratio_of((a, b))
    if folds_of(a, b) and ratio is not None:
        return stats.fold_difference(a.table(metric, first), b.table(metric, second), ratio, paired=paired, level=level)
    found = stats.difference(a.outcomes(metric, first), b.outcomes(metric, second), paired=paired, level=level)
    return found if ratio is None else stats.over_splits(found, ratio, level)


def tested(pair: Pair) -> float | None:
    """Return the p value that Holm adjusts; None if it does not account for interim looks."""
    if pair.difference is None or pair.interval is None or pair.sequenced:
        return None
    return pair.difference.p


def judged(pair: Pair, a: Arm, b: Arm, p_holm: float | None, *, level: float) -> Pair:
    """Return the pair with Holm's p over the whole family, the verdict and a plan."""
    pair = replace(pair, p_holm=p_holm)
    pair = replace(pair, verdict=_verdict(pair, level))
    return replace(pair, planned=planned(pair, a, b, level=level))


def _verdict(pair: Pair, level: float) -> Verdict:
    found, sure = pair.difference, pair.simultaneous
    if found is None or sure is None or sure.low == sure.high or found.attainable > 1 - level:
        return "none"
    apart = sure.low > 0 or sure.high < 0 if pair.sequenced else pair.p_holm is not None and pair.p_holm <= 1 - level
    return ("a" if found.estimate > 0 else "b") if apart else "none"


def looks_of(a: Arm, b: Arm) -> Looks:
    """Return the interim looks that a plain interval of these arms does not account for."""
    extensions = max(a.extensions, b.extensions) if a.store is b.store else a.extensions + b.extensions
    return Looks(extensions, a.ordered or b.ordered)


def _orders(
    a: Arm, b: Arm, metric: str, goal: Goal | None, paired: bool, level: float
) -> tuple[stats.Superiority | None, stats.WinRate | None]:
    """Return P(A better than B) over independent seeds and wins over the same seeds, with failed seeds ranked worst.

    For a metric without a direction, "better" means "larger", and failures have no rank.
    """
    if a.failed + b.failed and goal is None:
        return None, None
    all_a, all_b = outcomes(a, b, metric, paired=False, failed=True)
    if not (all_a.size and all_b.size):
        return None, None
    options: dict[str, Any] = {"higher_is_better": goal != "min", "level": level}
    first, second = outcomes(a, b, metric, paired=True, failed=True)
    wins = stats.win_rate(first, second, **options) if paired and first.size else None
    return stats.superiority(all_a, all_b, **options), wins


def _reading(found: stats.Superiority | None) -> Reading | None:
    if found is None:
        return None
    if found.probability >= 0.5:
        return stats.reading(found.interval, found.probability, found.m, found.n)
    return stats.reading(stats.mirrored(found.interval), 1 - found.probability, found.m, found.n)


def _side(arm: Arm, metric: str, goal: Goal | None, level: float) -> Side:
    made = arm.summary(metric, level)
    known = {key: getattr(made, key, None) for key in ("mean", "sd", "low", "high")}
    return Side(
        name=arm.name, planned=len(arm.states), ok=arm.count("ok"), lost=arm.count("lost"),
        failed=None if arm.adopted and not arm.failed else arm.failed,
        pending=arm.count("pending", "running", "stopped"), missing=arm.missing(metric), n=made.n if made else 0,
        best=None if goal is None else getattr(made, goal, None), extensions=arm.extensions, **known,
    )  # fmt: skip


def _examples(a: Arm, b: Arm, metric: str, paired: bool, level: float) -> stats.TwoWay | None:
    """Return the difference over seeds AND examples, if both arms kept predictions for the same test set."""
    first, second = (examples_of(arm.store, arm.members, metric) for arm in (a, b))
    if isinstance(first, Remark) or isinstance(second, Remark) or not np.array_equal(first.ids, second.ids):
        return None
    if not paired:
        return stats.two_way_difference(first.scores, second.scores, level)
    shared = [seed for seed in first.seeds if seed in second.seeds]
    if len(shared) < 2:
        return None
    one, other = (found.scores[[found.seeds.index(seed) for seed in shared]] for found in (first, second))
    return stats.two_way_interval(one - other, level)


def best_of(
    values: Mapping[str, Floats], planned: Sequence[int], goal: Goal | None, *, paired: bool, level: float
) -> dict[str, bool]:
    """Return the arms of a task that Holm over all pairs does not separate from the best mean.

    Each maps to whether its difference from the best is constant, so that nothing can be tested. Empty if this is
    unknown: with failures (the mean of finished runs would reward failing), with missing values, with one arm or one
    seed, or without a direction. values: one finite number per finished seed of each arm, by seed. planned: the number
    of seeds that each arm plans.
    """
    whole = all(its.size == n > 1 and unit(its) == 1 for its, n in zip(values.values(), planned, strict=True))
    if goal is None or not whole or len(values) < 2:
        return {}
    kept = stats.not_separated(values, higher_is_better=goal == "max", paired=paired, level=level)
    best = (max if goal == "max" else min)(values, key=lambda name: mean(values[name]))
    return {
        name: name != best and stats.difference(values[name], values[best], paired=paired).constant
        for name in sorted(kept)
    }
