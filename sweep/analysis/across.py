"""Several tasks at once: scores normalised by declared references, never pooled raw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sweep.analysis import frames
from sweep.analysis.model import Across
from sweep.analysis.remarks import Remark
from sweep.errors import StatisticsError
from sweep.plan import folder_name
from sweep.stats import iqm, normalise, stratified_interval
from sweep.stats.tasks import LEAST_TASKS, average, interquartile_mean
from sweep.stats.tasks import table as scores_of

SEED = 0  # of the bootstrap's generator: the same directory gives the same limits


def across(
    table: pd.DataFrame, metric: str, references: Mapping[str, Sequence[float]], label: Mapping[str, str], *,
    level: float = 0.95,
) -> Iterator[Across]:  # fmt: skip
    """For every variant the mean and the interquartile mean of normalised scores over these tasks.

    table: `frames.frame`; references: task as the config names it -> [score worth 0, score worth 1].
    Seeds count that converged in every task. From ten tasks on with a bootstrap interval, stratified by task.
    Nothing for a single task, and a reason instead of numbers where there is no common scale.
    """
    tasks = list(dict.fromkeys(table["task"]))
    if len(tasks) < 2 or metric not in table:
        return
    scale = {folder_name(name, name): tuple(pair) for name, pair in references.items()}
    without = [task for task in tasks if task not in scale]
    for variant in dict.fromkeys(table["variant"]):
        blank = Across(variant=variant, label=label.get(variant, ""), metric=metric, tasks=len(tasks), level=level)
        if without:
            missing = without if len(without) < len(tasks) else []
            yield replace(blank, reason=Remark("references missing", {"tasks": missing}))
            continue
        try:
            yield _of_variant(table[table["variant"] == variant], tasks, scale, blank)
        except StatisticsError as error:  # a directory of an older version may hold references that span no scale
            yield replace(blank, reason=Remark("no common scale", {"why": error.what}))


def _of_variant(
    table: pd.DataFrame, tasks: Sequence[str], scale: Mapping[str, tuple[float, ...]], blank: Across
) -> Across:
    by_task = [_by_seed(table[table["task"] == task], blank.metric) for task in tasks]
    shared = sorted(set.intersection(*(set(found) for found in by_task)))
    planned = table["seed"].nunique()
    blank = replace(blank, seeds=len(shared), planned=planned)
    if not shared:
        return replace(blank, reason=Remark("no seed in every task"))
    scores = [
        normalise([found[seed] for seed in shared], *scale[task])
        for found, task in zip(by_task, tasks, strict=True)
    ]  # fmt: skip
    made = replace(blank, mean=float(scores_of(scores).mean()), iqm=iqm(scores))
    if len(tasks) < LEAST_TASKS or len(shared) < 2:
        return replace(made, reason=Remark("few tasks" if len(tasks) < LEAST_TASKS else "one seed per task"))
    limits: dict[str, Any] = {}
    try:
        for name, statistic in (("mean", average), ("iqm", interquartile_mean)):
            found = stratified_interval(scores, np.random.default_rng(SEED), statistic=statistic, level=blank.level)
            limits |= {f"{name}_low": found.low, f"{name}_high": found.high, "method": found.method}
    except StatisticsError as error:
        return replace(made, reason=Remark("no interval", {"why": error.what}))
    return replace(made, **limits)


def _by_seed(cell: pd.DataFrame, metric: str) -> dict[int, float]:
    seeds, numbers = frames.seed_values(cell, metric)
    return dict(zip(seeds.tolist(), numbers.tolist(), strict=True))
