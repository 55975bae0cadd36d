"""The middle of all finished seeds, failed ones ranked worst: what stays defined when some of them diverge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sweep import aggregate
from sweep.number import number, percent, places
from sweep.report.model import Median
from sweep.report.words import plural, shown
from sweep.stats import summarise, worst_rank_median
from sweep.store import Member


def medians(
    members: Sequence[Member], metric: str, label: Mapping[tuple[str, str], str], *, goal: str | None, level: float
) -> Iterator[Median]:
    """The median of `metric` in every variant and task over seeds that converged with a value or failed.

    Nothing for a cell where seeds failed and no direction says which rank is the worst.
    """
    cells: dict[tuple[str, str], list[Member]] = {cell: [] for cell in label}
    for member in members:
        cells[member.task, member.variant].append(member)
    for (task, variant), its in cells.items():
        failed = {m.seed for m in its if m.status == "failed"}
        kept = [(m.seed, m.record.metrics.get(metric, math.nan)) for m in aggregate.counted(its) if m.record]
        seeds, values = [seed for seed, _ in kept], np.array([value for _, value in kept], dtype=np.float64)
        _, numbers = aggregate.values_by_seed(seeds, values)
        if not numbers.size + len(failed) or (failed and goal is None):
            continue
        ranked = np.concatenate([numbers, np.full(len(failed), math.nan)])
        found = worst_rank_median(ranked, higher_is_better=goal != "min", level=level)
        interval = found.interval
        yield Median(
            task=task, variant=variant, label=label[task, variant], metric=metric, seeds=found.n, failed=found.failed,
            median=found.estimate, low=interval.low if interval else None, high=interval.high if interval else None,
            level=level, method=interval.method if interval else f"no interval exists for {plural(found.n, 'seed')}",
            sentence=_sentence(label[task, variant], metric, found.failed, found.estimate, numbers,
                               (interval.low, interval.high) if interval else None, level, found.n),
        )  # fmt: skip


def _sentence(
    label: str, metric: str, failed: int, estimate: float, numbers: aggregate.Floats,
    limits: tuple[float, float] | None, level: float, seeds: int,
) -> str:  # fmt: skip
    scale = places(summarise(numbers).sd) if numbers.size else None

    def said(value: float) -> str:
        return number(value, scale) if math.isfinite(value) else "a failed seed"

    of = f"{shown(label)}: " if label else ""
    ranked = f", {failed} failed ranked worst" if failed else ""
    around = f"no {percent(level)} CI exists"
    if limits is not None:
        around = f"{percent(level)} CI {said(limits[0])} to {said(limits[1])}"
    return f"{of}median {shown(metric)} of all {plural(seeds, 'finished seed')}{ranked}: {said(estimate)} ({around})"
