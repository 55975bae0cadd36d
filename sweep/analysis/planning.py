"""Planning: how many seeds to train. An estimate, never evidence about the pair."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count

from sweep.analysis.arms import Arm
from sweep.analysis.comparison import Pair, Planned
from sweep.errors import StatisticsError
from sweep.number import number
from sweep.stats import attainable, seeds_for_difference, seeds_for_half_width
from sweep.stats.planning import upper
from sweep.stats.stopping import EXTRA

POWER = 0.8
UPPER = 0.8
SLACK = 3  # a rule that looks after every seed needs up to this many times the seeds of one look
LEAST_CAP = 16


def planned(pair: Pair, a: Arm, b: Arm, *, level: float) -> Planned | None:
    """Return the number of seeds to show this difference or the margin or, if it is shown, to halve both intervals.

    None if seeds share data, as with splits and folds of one data set: more seeds alone do not narrow an interval.
    """
    found, spread = pair.difference, _upper(pair)
    if found is None or not found.error or pair.failures is not None or spread is None or pair.resplit:
        return None
    if pair.verdict == "none":
        margin = pair.equivalence.margin if pair.equivalence is not None else None
        wanted = abs(found.estimate) if margin is None else margin
        if not wanted:
            return None
        made = Planned("difference" if margin is None else "margin", wanted, spread, None, each=not found.paired)
        try:
            n = seeds_for_difference(spread, wanted, paired=found.paired, power=POWER, level=level)
            n = max(n, _least(paired=found.paired, level=level))
        except StatisticsError:
            return made
        if _is_rule(a, b, pair):
            return _until(replace(made, seeds=n), a, f"{pair.metric}: {a.variant} > {b.variant}", SLACK * n)
        made = replace(made, seeds=n, both=True)
        return made if b.adopted else _until(made, a, f"{pair.metric} ± {number(wanted / 2, digits=2)}", n)
    if pair.interval is None or found.paired:
        return None
    width = pair.interval.half_width / 2
    try:
        n = seeds_for_half_width(spread, width, level)
    except StatisticsError:
        return Planned("half-width", width, spread, None)
    return _until(Planned("half-width", width, spread, n), a, f"{pair.metric} ± {number(width, digits=2)}", n)


def _least(*, paired: bool, level: float) -> int:
    """Return the smallest number of seeds with which the exact test can reach the level."""
    return next(n for n in count(2) if attainable(n, None if paired else n) <= 1 - level)


def _is_rule(a: Arm, b: Arm, pair: Pair) -> bool:
    """Return whether a stopping rule can order the two arms. It cannot name groups of variants."""
    real = {cell["variant"] for cell in a.store.manifest.experiment["cells"]}
    named = {a.members[0].variant, b.members[0].variant} <= real and ">" not in a.variant + b.variant
    return a.store is b.store and pair.paired and named


def _upper(pair: Pair) -> float | None:
    """Return the upper 80 % limit of the sd of the difference."""
    found = pair.difference
    if found is None or not found.error:
        return None
    if found.paired:
        return upper(found.error * math.sqrt(found.n_a), found.n_a - 1, UPPER)
    limits = [upper(side.sd, side.n - 1, UPPER) for side in (pair.a, pair.b) if side.sd is not None]
    return max(limits, default=None)


def _until(made: Planned, arm: Arm, rule: str, n: int) -> Planned:
    """Return a plan with the stopping rule that trains n seeds of an arm."""
    if arm.adopted:  # there is nothing to train
        return made
    return replace(made, directory=arm.directory, rule=rule, max_seeds=max(n + EXTRA, LEAST_CAP, len(arm.seeds)))
