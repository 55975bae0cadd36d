"""Several tasks at once: scores normalised by declared references, never pooled raw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.analysis import frames
from sweep.analysis.model import Across, Curve, Improvement
from sweep.analysis.pair import MOST_COMPARED
from sweep.analysis.remarks import Remark
from sweep.errors import StatisticsError
from sweep.plan import folder_name
from sweep.stats import Method, iqm, normalise, performance_profile, probability_of_improvement, stratified_interval
from sweep.stats.tasks import LEAST_TASKS, average, interquartile_mean, pools
from sweep.stats.tasks import table as scores_of

SEED = 0  # of the bootstrap's generator: the same directory gives the same limits
THRESHOLDS = 101  # of a performance profile
MOST_PROFILES = 40  # variants

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """Normalised scores of one variant, one array per task, of the seeds that converged in every task.

    planned: seeds. scores are empty where `reason` says why there are none.
    """

    seeds: tuple[int, ...]
    planned: int
    scores: tuple[Floats, ...] = ()
    reason: Remark | None = None


def pooled(table: pd.DataFrame, metric: str, references: Mapping[str, Sequence[float]]) -> dict[str, Pooled]:
    """Return the normalised scores of every variant; nothing for a single task.

    table: `frames.frame`; references: task as the config names it -> [score worth 0, score worth 1].
    """
    tasks = list(dict.fromkeys(table["task"]))
    if len(tasks) < 2 or metric not in table:
        return {}
    scale = scales(references)
    if without := [task for task in tasks if task not in scale]:
        missing = without if len(without) < len(tasks) else []
        none = Pooled((), 0, reason=Remark("references missing", {"tasks": missing}))
        return dict.fromkeys(dict.fromkeys(table["variant"]), none)
    found = {}
    for variant in dict.fromkeys(table["variant"]):
        its = table[table["variant"] == variant]
        by_task = [_by_seed(its[its["task"] == task], metric) for task in tasks]
        shared = tuple(sorted(set.intersection(*(set(one) for one in by_task))))
        made = Pooled(shared, its["seed"].nunique(), reason=None if shared else Remark("no seed in every task"))
        try:
            scores = [normalise([one[seed] for seed in shared], *scale[task])
                      for one, task in zip(by_task, tasks, strict=True)] if shared else []  # fmt: skip
            found[variant] = replace(made, scores=tuple(scores))
        except StatisticsError as error:  # a directory of an older version may hold references that span no scale
            found[variant] = replace(made, reason=Remark("no common scale", {"why": error.what}))
    return found


def scales(references: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Return the references of each task by its folder."""
    return {folder_name(name, name): tuple(pair) for name, pair in references.items()}


def across(
    found: Mapping[str, Pooled], metric: str, tasks: int, label: Mapping[str, str], *, level: float = 0.95
) -> Iterator[Across]:
    """Yield for every variant the mean, the interquartile mean and the performance profile over these tasks.

    From ten tasks of two seeds on with intervals; a reason instead of numbers where there is no common scale.
    """
    at = _thresholds([one for each in found.values() for one in each.scores])
    for variant, one in found.items():
        blank = Across(
            variant=variant, label=label.get(variant, ""), metric=metric, tasks=tasks, level=level,
            seeds=len(one.seeds), planned=one.planned, reason=one.reason,
        )  # fmt: skip
        yield _described(blank, one.scores, at if len(found) <= MOST_PROFILES else None) if one.scores else blank


def _described(blank: Across, scores: Sequence[Floats], at: Floats | None) -> Across:
    made = replace(blank, mean=float(scores_of(scores).mean()), iqm=iqm(scores))
    if at is not None:
        made = replace(made, profile=Curve.of(performance_profile(scores, at, blank.level)))
    if not pools(len(scores), blank.seeds):
        return replace(made, reason=Remark("few tasks" if len(scores) < LEAST_TASKS else "one seed per task"))
    limits: dict[str, Any] = {}
    try:
        for name, statistic in (("mean", average), ("iqm", interquartile_mean)):
            found = stratified_interval(scores, np.random.default_rng(SEED), statistic=statistic, level=blank.level)
            limits |= {f"{name}_low": found.low, f"{name}_high": found.high, "method": found.method}
    except StatisticsError as error:
        return replace(made, reason=Remark("no interval", {"why": error.what}))
    return replace(made, **limits)


def _thresholds(scores: Sequence[Floats]) -> Floats:
    """Return thresholds over the scores of all runs but the lowest 2 % and the highest 3 %, and over 0 and 1."""
    low, high = np.quantile(np.concatenate([*scores, [0.0, 1.0]]), (0.02, 0.97))
    return np.linspace(min(low, 0.0), max(high, 1.0), THRESHOLDS)


def improvements(found: Mapping[str, Pooled], *, level: float = 0.95) -> Iterator[Improvement]:
    """Yield for every two variants, the one of the higher interquartile mean first, how often its runs score higher."""
    scored = {variant: one.scores for variant, one in found.items() if one.scores}
    ranked = sorted(scored, key=lambda variant: -iqm(scored[variant]))
    for a, b in combinations(ranked if len(ranked) <= MOST_COMPARED else (), 2):
        probability, interval = probability_of_improvement(scored[a], scored[b], level)
        yield Improvement(
            a=a, b=b, tasks=len(scored[a]), seeds=(len(found[a].seeds), len(found[b].seeds)), level=level,
            probability=probability,
            low=interval.low if interval else None, high=interval.high if interval else None,
            method=Method.WILSON_TASKS if interval else None,
        )  # fmt: skip


def _by_seed(cell: pd.DataFrame, metric: str) -> dict[int, float]:
    seeds, numbers = frames.seed_values(cell, metric)
    return dict(zip(seeds.tolist(), numbers.tolist(), strict=True))
