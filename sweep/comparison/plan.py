"""How many seeds a budget should hold. An estimate for planning, never evidence about the pair."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sweep.comparison.arms import Arm
from sweep.comparison.model import Pair
from sweep.errors import StatisticsError
from sweep.number import number, percent
from sweep.report.commands import resume
from sweep.report.words import shown
from sweep.stats import seeds_for_difference, seeds_for_half_width
from sweep.stats.planning import upper
from sweep.stats.stopping import EXTRA

POWER = 0.8
UPPER = 0.8
SLACK = 3  # a rule that looks after every seed needs up to so many times the seeds of one look
LEAST_CAP = 16


def planned(pair: Pair, a: Arm, b: Arm, *, level: float) -> Iterator[str]:
    """Sentences, the last a command where one can help: seeds to see this difference, or to know both means better."""
    found = pair.difference
    if found is None or not found.error or pair.failures is not None:
        return
    spread = _upper(pair)
    if spread is None:
        return
    sd = number(spread, digits=3)
    try:
        if pair.verdict == "none":
            wanted = pair.equivalence.margin if pair.equivalence is not None else abs(found.estimate)
            if not wanted:
                return
            n = seeds_for_difference(spread, wanted, paired=found.paired, power=POWER, level=level)
            what = "the margin" if pair.equivalence is not None else "as large as the one observed"
            each = "seeds" if found.paired else "seeds each"
            yield (
                f"planning estimate, not evidence: {n} {each} would show a difference of {number(wanted, digits=3)}"
                f" ({what}) with {percent(POWER)} power, for an sd of {sd} (upper {percent(UPPER)} limit)"
            )
            if not (a.adopted or b.adopted):
                yield _command(pair, a, b, n, wanted)
        elif pair.interval is not None and not found.paired:
            width = pair.interval.half_width / 2
            n = seeds_for_half_width(spread, width, level)
            yield (
                f"planning estimate, not evidence: {n} seeds would give each mean a half-width of"
                f" {number(width, digits=3)}, for an sd of {sd} (upper {percent(UPPER)} limit)"
            )
            if not a.adopted:
                yield _until(a, f"{pair.metric} ± {number(width, digits=2)}", n)
    except StatisticsError:
        yield "planning estimate, not evidence: more than a million seeds would be needed"


def _upper(pair: Pair) -> float | None:
    """Upper 80 % limit of the sd that the difference is measured against."""
    found = pair.difference
    if found is None or not found.error:
        return None
    if found.paired:
        return upper(found.error * math.sqrt(found.n_a), found.n_a - 1, UPPER)
    limits = [upper(side.sd, side.n - 1, UPPER) for side in (pair.a, pair.b) if side.sd is not None]
    return max(limits, default=None)


def _command(pair: Pair, a: Arm, b: Arm, n: int, wanted: float) -> str:
    real = {cell["variant"] for cell in a.store.manifest.experiment["cells"]}
    # Groups of variants are no variants: a rule cannot name them.
    if a.store is b.store and pair.paired and {a.members[0].variant, b.members[0].variant} <= real:
        return _until(a, f"{pair.metric}: {a.members[0].variant} > {b.members[0].variant}", SLACK * n)
    return _until(a, f"{pair.metric} ± {number(wanted / 2, digits=2)}", n, f", and the same for {shown(b.name)}")


def _until(arm: Arm, rule: str, n: int, also: str = "") -> str:
    most = max(n + EXTRA, LEAST_CAP, len(arm.seeds))
    words = resume(arm.store.manifest, arm.directory, until=rule, max_seeds=most)
    return f"valid sequential design{also}: {words}"
