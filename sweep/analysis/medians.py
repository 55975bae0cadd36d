"""The middle of all finished seeds, failed ones ranked worst: what stays defined when some of them diverge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sweep.analysis import frames
from sweep.analysis.model import Median
from sweep.stats import summarise, worst_rank_median
from sweep.store import Member


def medians(
    members: Sequence[Member], metric: str, label: Mapping[tuple[str, str], str], *, goal: str | None, level: float
) -> Iterator[Median]:
    """Yield the median of `metric` in every variant and task over seeds that converged with a value or failed.

    Nothing for a cell where seeds failed and no direction says which rank is the worst.
    """
    for (task, variant), its in frames.by_cell(members).items():
        failed = {m.seed for m in its if m.status == "failed"}
        kept = [(m.seed, m.record.metrics.get(metric, math.nan)) for m in frames.counted(its) if m.record]
        seeds, values = [seed for seed, _ in kept], np.array([value for _, value in kept], dtype=np.float64)
        _, numbers = frames.values_by_seed(seeds, values)
        if not numbers.size + len(failed) or (failed and goal is None):
            continue
        ranked = np.concatenate([numbers, np.full(len(failed), math.nan)])
        found = worst_rank_median(ranked, higher_is_better=goal != "min", level=level)
        interval = found.interval
        yield Median(
            task=task, variant=variant, label=label[task, variant], metric=metric, seeds=found.n, failed=found.failed,
            median=found.estimate, low=interval.low if interval else None, high=interval.high if interval else None,
            level=level, ranks=(interval.lower, interval.upper) if interval else None,
            coverage=interval.coverage if interval else None,
            sd=summarise(numbers).sd if numbers.size else None,
        )  # fmt: skip
