"""Where the spread between seeds comes from: training, this test set, or the implementation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sweep.analysis import frames
from sweep.analysis.examples import examples_of
from sweep.analysis.model import Spread
from sweep.analysis.remarks import Remark
from sweep.analysis.together import MOST_READ
from sweep.stats import implementation_noise, sd_interval, training_variance, two_way_interval
from sweep.stats.planning import expected_best
from sweep.stats.sample import mean, sd, unit
from sweep.store import Member, Store


def spreads(
    store: Store,
    members: Sequence[Member],
    metric: str,
    label: Mapping[tuple[str, str], str],
    *,
    goal: str | None,
    vary: Sequence[str],
    level: float = 0.95,
) -> Iterator[Spread]:
    """The spread of `metric` in every variant and task with two converged seeds or more.

    Read from records; what needs single examples also from saved predictions, where all runs kept them.
    """
    cells = frames.by_cell(members)
    for cell, its in cells.items():
        found = _of_seeds(its, metric, label[cell], goal, vary, level)
        if found is not None:
            made = _of_examples(store, its, metric, found, level) if len(cells) <= MOST_READ else found
            yield _of_repeats(its, metric, made, level)


def _runs(members: Sequence[Member], metric: str) -> tuple[list[int], list[float]]:
    """(seeds, values) of the runs that count: finite, ok, and of no seed with a failed repeat."""
    pairs = [(m.seed, m.record.metrics.get(metric, math.nan)) for m in frames.counted(members) if m.record]
    pairs = [(seed, value) for seed, value in pairs if math.isfinite(value)]
    return [seed for seed, _ in pairs], [value for _, value in pairs]


def _of_seeds(
    members: Sequence[Member], metric: str, label: str, goal: str | None, vary: Sequence[str], level: float
) -> Spread | None:
    seeds, values = _runs(members, metric)
    _, numbers = frames.values_by_seed(seeds, np.array(values, dtype=np.float64))
    interval = sd_interval(numbers, level) if numbers.size > 1 and unit(numbers) == 1 else None
    if interval is None:
        return None
    spread = sd(numbers)
    gain = expected_best(numbers.size) * spread
    best = None if goal is None else float(numbers.max() if goal == "max" else numbers.min())
    return Spread(
        task=members[0].task, variant=members[0].variant, label=label, metric=metric,
        vary=tuple(vary),
        seeds=numbers.size, sd=spread, sd_low=interval.low, sd_high=interval.high, level=level,
        best=best, inflation=gain,
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


def _of_repeats(members: Sequence[Member], metric: str, found: Spread, level: float) -> Spread:
    seeds, values = _runs(members, metric)
    if len(set(seeds)) < 2 or len(seeds) == len(set(seeds)):
        return found
    noise = implementation_noise(values, seeds, level)
    within = noise.repeat_interval
    return replace(found, repeat_sd=noise.repeat_sd, repeat_low=within.low, repeat_high=within.high)
