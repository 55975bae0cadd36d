"""Sources of the spread between seeds (training, this test set, the implementation), and their median."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sweep import stats
from sweep.analysis import frames
from sweep.analysis.ensemble import MOST_READ
from sweep.analysis.examples import examples_of
from sweep.analysis.frames import Runs
from sweep.analysis.model import Median, Spread
from sweep.analysis.remarks import Remark
from sweep.stats.planning import expected_best
from sweep.stats.sample import mean, sd, unit
from sweep.store import Member, Store


def spreads(runs: Runs) -> Iterator[Spread]:
    """Yield the spread of the primary metric in every variant and task with two finished seeds or more.

    The parts that need single examples are read from saved predictions, if all runs kept them.
    """
    metric, goal, level = runs.primary, runs.goal, runs.level
    of = frames.by_cell(runs.members)
    for cell, rows in frames.cells(runs.table):
        _, numbers = frames.seed_values(rows, metric)
        interval = stats.sd_interval(numbers, level) if numbers.size > 1 and unit(numbers) == 1 else None
        if interval is None:
            continue
        spread = sd(numbers)
        gain = expected_best(numbers.size) * spread
        task, variant = cell
        made = Spread(
            task=task, variant=variant, label=runs.label[cell], metric=metric, vary=runs.vary, seeds=numbers.size,
            sd=spread, sd_low=interval.low, sd_high=interval.high, level=level, inflation=gain,
            best=None if goal is None else float(numbers.max() if goal == "max" else numbers.min()),
            expected=None if goal is None else mean(numbers) + (gain if goal == "max" else -gain),
        )  # fmt: skip
        made = replace(made, **_of_examples(runs.store, of[cell], metric, level)) if len(of) <= MOST_READ else made
        yield made if of[cell][0].folds else replace(made, **_of_repeats(rows, metric, level))


def _of_examples(store: Store, members: Sequence[Member], metric: str, level: float) -> dict[str, Any]:
    """Return the parts of the spread that are estimated from single examples, or the reason why there are none."""
    read = examples_of(store, members, metric)
    if isinstance(read, Remark):
        return {"reason": read}
    chance = stats.training_variance(read.scores)
    both = stats.two_way_interval(read.scores, level)
    return {
        "examples": chance.examples, "observed_variance": chance.observed, "training_variance": chance.distribution,
        "true_mean": both.mean, "true_low": both.interval.low, "true_high": both.interval.high,
        "true_method": both.interval.method, "mostly_chance": chance.mostly_chance and chance.observed > 0,
    }  # fmt: skip


def _of_repeats(rows: pd.DataFrame, metric: str, level: float) -> dict[str, Any]:
    """Return the spread of the repeats of one seed; empty if no seed was repeated."""
    seeds, values = frames.run_values(rows, metric)
    seeds, values = seeds[np.isfinite(values)], values[np.isfinite(values)]
    if not 1 < np.unique(seeds).size < seeds.size:
        return {}
    spread, interval = stats.implementation_noise(values, seeds, level)
    return {"repeat_sd": spread, "repeat_low": interval.low, "repeat_high": interval.high}


def medians(runs: Runs) -> Iterator[Median]:
    """Yield the median of the primary metric in every variant and task over seeds that have a value or failed.

    Failed ones are ranked worst, so the median exists even if some seeds diverge. A cell with failed seeds is left out
    if the direction of the metric is unknown.
    """
    metric, goal, level = runs.primary, runs.goal, runs.level
    for (task, variant), rows in frames.cells(runs.table):
        _, numbers = frames.seed_values(rows, metric)
        failed = rows.loc[rows["status"] == "failed", "seed"].nunique()
        if not numbers.size + failed or (failed and goal is None):
            continue
        ranked = np.concatenate([numbers, np.full(failed, math.nan)])
        found = stats.worst_rank_median(ranked, higher_is_better=goal != "min", level=level)
        made = Median(
            task=task, variant=variant, label=runs.label[task, variant], metric=metric, level=level, seeds=found.n,
            failed=found.failed, median=found.estimate, sd=stats.summarise(numbers).sd if numbers.size else None,
        )  # fmt: skip
        if (its := found.interval) is not None:
            made = replace(made, low=its.low, high=its.high, ranks=(its.lower, its.upper), coverage=its.coverage)
        yield made
