"""Sources of the spread between seeds (training, this test set, the implementation), and their median."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sweep.analysis import frames
from sweep.analysis.examples import examples_of
from sweep.analysis.model import Median, Spread
from sweep.analysis.remarks import Remark
from sweep.analysis.together import MOST_READ
from sweep.stats import (
    implementation_noise,
    sd_interval,
    summarise,
    training_variance,
    two_way_interval,
    worst_rank_median,
)
from sweep.stats.planning import expected_best
from sweep.stats.sample import mean, sd, unit
from sweep.store import Member, Store

Cell = tuple[str, str]


def spreads(
    store: Store,
    members: Sequence[Member],
    table: pd.DataFrame,
    metric: str,
    label: Mapping[Cell, str],
    *,
    goal: str | None,
    vary: Sequence[str],
    level: float = 0.95,
) -> Iterator[Spread]:
    """Yield the spread of `metric` in every variant and task with two converged seeds or more.

    table: `frames.frame` of the members. What needs single examples is read from saved predictions, where all runs kept
    them.
    """
    of = frames.by_cell(members)
    for cell, rows in frames.cells(table):
        found = _of_seeds(rows, metric, label[cell], goal, vary, level)
        if found is not None:
            made = _of_examples(store, of[cell], metric, found, level) if len(of) <= MOST_READ else found
            yield made if of[cell][0].folds else _of_repeats(rows, metric, made, level)


def _of_seeds(
    rows: pd.DataFrame, metric: str, label: str, goal: str | None, vary: Sequence[str], level: float
) -> Spread | None:
    _, numbers = frames.seed_values(rows, metric)
    interval = sd_interval(numbers, level) if numbers.size > 1 and unit(numbers) == 1 else None
    if interval is None:
        return None
    spread = sd(numbers)
    gain = expected_best(numbers.size) * spread
    best = None if goal is None else float(numbers.max() if goal == "max" else numbers.min())
    first = rows.iloc[0]
    return Spread(
        task=first["task"], variant=first["variant"], label=label, metric=metric, vary=tuple(vary), seeds=numbers.size,
        sd=spread, sd_low=interval.low, sd_high=interval.high, level=level, best=best, inflation=gain,
        expected=None if goal is None else mean(numbers) + (gain if goal == "max" else -gain),
    )  # fmt: skip


def _of_examples(store: Store, members: Sequence[Member], metric: str, found: Spread, level: float) -> Spread:
    read = examples_of(store, members, metric)
    if isinstance(read, Remark):
        return replace(found, reason=read)
    chance = training_variance(read.scores)
    both = two_way_interval(read.scores, level)
    more: dict[str, Any] = {
        "examples": chance.examples, "observed_variance": chance.observed, "training_variance": chance.distribution,
        "true_mean": both.mean, "true_low": both.interval.low, "true_high": both.interval.high,
        "true_method": both.interval.method,
    }  # fmt: skip
    return replace(found, mostly_chance=chance.mostly_chance and chance.observed > 0, **more)


def _of_repeats(rows: pd.DataFrame, metric: str, found: Spread, level: float) -> Spread:
    seeds, values = frames.run_values(rows, metric)
    seeds, values = seeds[np.isfinite(values)], values[np.isfinite(values)]
    if not 1 < np.unique(seeds).size < seeds.size:
        return found
    noise = implementation_noise(values, seeds, level)
    within = noise.repeat_interval
    return replace(found, repeat_sd=noise.repeat_sd, repeat_low=within.low, repeat_high=within.high)


def medians(
    table: pd.DataFrame, metric: str, label: Mapping[Cell, str], *, goal: str | None, level: float
) -> Iterator[Median]:
    """Yield the median of `metric` in every variant and task over seeds that converged with a value or failed.

    Failed ones are ranked worst: it stays defined when some of them diverge. Nothing for a cell where seeds failed and
    no direction says which rank is the worst.
    """
    for (task, variant), rows in frames.cells(table):
        _, numbers = frames.seed_values(rows, metric)
        failed = rows.loc[rows["status"] == "failed", "seed"].nunique()
        if not numbers.size + failed or (failed and goal is None):
            continue
        ranked = np.concatenate([numbers, np.full(failed, math.nan)])
        found = worst_rank_median(ranked, higher_is_better=goal != "min", level=level)
        interval = found.interval
        yield Median(
            task=task, variant=variant, label=label[task, variant], metric=metric, seeds=found.n, failed=found.failed,
            median=found.estimate, low=interval.low if interval else None, high=interval.high if interval else None,
            level=level, ranks=(interval.lower, interval.upper) if interval else None,
            coverage=interval.coverage if interval else None, sd=summarise(numbers).sd if numbers.size else None,
        )  # fmt: skip
