"""Results over several tasks: scores normalised by declared references, at the end of training and over its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep import stats
from sweep.analysis import frames
from sweep.analysis.frames import Runs
from sweep.analysis.histories import preferred
from sweep.analysis.model import Across, Curve, Improvement, Progress, Reached
from sweep.analysis.pair import MOST_COMPARED
from sweep.analysis.remarks import Remark
from sweep.errors import StatisticsError
from sweep.plan import folder_name
from sweep.stats.tasks import LEAST_TASKS, average, interquartile_mean, pools
from sweep.stats.tasks import table as scores_of
from sweep.variants import variants_of

SEED = 0  # of the bootstrap generator, so that the same directory gives the same limits
THRESHOLDS = 101  # points of a performance profile
MOST_PROFILES = 40  # variants; with more, no profile is computed
MOST_STEPS = 60  # points of a curve; a longer one is thinned evenly
REACHED = (0.5, 0.9)  # thresholds on the scale; the step at which a curve reaches them is reported

Floats = npt.NDArray[np.float64]
Run = tuple[Floats, Floats]  # steps and values


@dataclass(frozen=True)
class Pooled:
    """Normalised scores of one variant, one array per task, of the seeds that finished in every task.

    planned: the number of planned seeds. scores: empty if there is a `reason`.
    """

    seeds: tuple[int, ...]
    planned: int
    scores: tuple[Floats, ...] = ()
    reason: Remark | None = None


def pooled(runs: Runs) -> dict[str, Pooled]:
    """Return the scores of every variant, normalised by the references of the config; empty for a single task."""
    table, metric, scale = runs.table, runs.primary, scales(runs)
    tasks = list(dict.fromkeys(table["task"]))
    if len(tasks) < 2 or metric not in table:
        return {}
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
            scores = [stats.normalise([one[seed] for seed in shared], *scale[task])
                      for one, task in zip(by_task, tasks, strict=True)] if shared else []  # fmt: skip
            found[variant] = replace(made, scores=tuple(scores))
        except StatisticsError as error:  # a directory of an older version may hold references that span no scale
            found[variant] = replace(made, reason=Remark("no common scale", {"why": error.what}))
    return found


def scales(runs: Runs) -> dict[str, tuple[float, ...]]:
    """Return the references of each task by its folder: the scores that are normalised to 0 and to 1."""
    references = runs.store.manifest.config.get("references") or {}
    return {folder_name(name, name): tuple(pair) for name, pair in references.items()}


def _named(runs: Runs) -> dict[str, str]:
    """Return the label of each variant."""
    variants = variants_of((member.variant for member in runs.members), runs.store.manifest)
    return {folder: one.label for folder, one in variants.items()}


def across(found: Mapping[str, Pooled], runs: Runs) -> Iterator[Across]:
    """Yield the mean, the interquartile mean and the performance profile of every variant over these tasks.

    Intervals need ten tasks and two seeds per task. Without a common scale there is a reason instead of numbers.
    """
    label, tasks = _named(runs), runs.table["task"].nunique()
    at = _thresholds([one for each in found.values() for one in each.scores])
    for variant, one in found.items():
        blank = Across(
            variant=variant, label=label[variant], metric=runs.primary, tasks=tasks, level=runs.level,
            seeds=len(one.seeds), planned=one.planned, reason=one.reason,
        )  # fmt: skip
        yield _described(blank, one.scores, at if len(found) <= MOST_PROFILES else None) if one.scores else blank


def _described(blank: Across, scores: Sequence[Floats], at: Floats | None) -> Across:
    made = replace(blank, mean=float(scores_of(scores).mean()), iqm=stats.iqm(scores))
    if at is not None:
        made = replace(made, profile=Curve.of(stats.performance_profile(scores, at, blank.level)))
    if not pools(len(scores), blank.seeds):
        return replace(made, reason=Remark("few tasks" if len(scores) < LEAST_TASKS else "one seed per task"))
    limits: dict[str, Any] = {}
    try:
        for name, statistic in (("mean", average), ("iqm", interquartile_mean)):
            rng = np.random.default_rng(SEED)
            found = stats.stratified_interval(scores, rng, statistic=statistic, level=blank.level)
            limits |= {f"{name}_low": found.low, f"{name}_high": found.high, "method": found.method}
    except StatisticsError as error:
        return replace(made, reason=Remark("no interval", {"why": error.what}))
    return replace(made, **limits)


def _thresholds(scores: Sequence[Floats]) -> Floats:
    """Return thresholds that span 0, 1 and all scores except the lowest 2 % and the highest 3 %."""
    low, high = np.quantile(np.concatenate([*scores, [0.0, 1.0]]), (0.02, 0.97))
    return np.linspace(min(low, 0.0), max(high, 1.0), THRESHOLDS)


def improvements(found: Mapping[str, Pooled], *, level: float = 0.95) -> Iterator[Improvement]:
    """Yield, for every pair of variants, how often runs of the one with the higher interquartile mean score higher."""
    scored = {variant: one.scores for variant, one in found.items() if one.scores}
    ranked = sorted(scored, key=lambda variant: -stats.iqm(scored[variant]))
    for a, b in combinations(ranked if len(ranked) <= MOST_COMPARED else (), 2):
        probability, interval = stats.probability_of_improvement(scored[a], scored[b], level)
        yield Improvement(
            a=a, b=b, tasks=len(scored[a]), seeds=(len(found[a].seeds), len(found[b].seeds)), level=level,
            probability=probability,
            low=interval.low if interval else None, high=interval.high if interval else None,
            method=stats.Method.WILSON_TASKS if interval else None,
        )  # fmt: skip


def _by_seed(cell: pd.DataFrame, metric: str) -> dict[int, float]:
    seeds, numbers = frames.seed_values(cell, metric)
    return dict(zip(seeds.tolist(), numbers.tolist(), strict=True))


def logged_as(names: Sequence[str], primary: str) -> str | None:
    """Return the logged metric on the scale of the primary one: the same, else one of its name on another split."""
    leaf = primary.rpartition("/")[2]
    return next((name for name in preferred(names, primary) if name.rpartition("/")[2] == leaf), None)


def progress(history: pd.DataFrame, metric: str, found: Mapping[str, Pooled], runs: Runs) -> Iterator[Progress]:
    """Yield the curve of every variant over these tasks, from the seeds that finished in all of them.

    history: `frames.history` with this metric. Between two steps a run keeps the value it logged last. The curve spans
    the steps that all runs have reached.
    """
    scale, label = scales(runs), _named(runs)
    logged = dict(frames.cells(history[np.isfinite(history[metric])]))
    for variant, one in found.items():
        if not one.scores:
            continue
        blank = Progress(
            variant=variant, label=label[variant], metric=metric, tasks=len(one.scores), level=runs.level,
            seeds=len(one.seeds),
        )  # fmt: skip
        tasks = {task: its for (task, of), its in logged.items() if of == variant}
        curves = [_curves(tasks[task], metric, one.seeds, scale[task]) for task in sorted(tasks)]
        if len(curves) == blank.tasks and all(curves):
            yield _over_steps(blank, curves)
        else:
            yield replace(blank, reason=Remark("not logged"))


def _curves(cell: pd.DataFrame, metric: str, seeds: Sequence[int], scale: Sequence[float]) -> list[list[Run]]:
    """Return the normalised curves of each seed, one per repeat; empty if a seed logged none."""
    found: dict[int, list[Run]] = {}
    for _, its in cell.groupby(["seed", "repeat"]):
        values = stats.normalise(its[metric].to_numpy(np.float64), *scale)
        found.setdefault(int(its["seed"].iloc[0]), []).append((its[frames.STEP].to_numpy(np.float64), values))
    return [found[seed] for seed in seeds] if found.keys() >= set(seeds) else []


def _over_steps(blank: Progress, curves: Sequence[Sequence[Sequence[Run]]]) -> Progress:
    every = [steps for task in curves for seed in task for steps, _ in seed]
    first, last = max(steps[0] for steps in every), min(steps[-1] for steps in every)
    if first > last:
        return replace(blank, reason=Remark("no step in every run"))
    steps = np.unique(np.concatenate(every))
    steps = steps[(steps >= first) & (steps <= last)]
    stride = -(-steps.size // MOST_STEPS)
    at = steps[::-1][::stride][::-1]  # counted from the end, so that the last step is kept

    def over(measure: Callable[[Run], Floats]) -> Floats:
        """Return the measure of every run, averaged over the repeats of a seed: shape (tasks, seeds, ...)."""
        return np.array([[np.mean([measure(run) for run in seed], axis=0) for seed in task] for task in curves])

    heights = np.moveaxis(over(lambda run: _at(run, at)), 2, 0)
    band = stats.iqm_band(at, heights, np.random.default_rng(SEED), level=blank.level)
    areas = list(over(lambda run: _area(run, first, last)))
    reached = tuple(Reached(one, *stats.steps_to(band, one)) for one in REACHED)
    made = replace(blank, curve=Curve.of(band), stride=stride, area=stats.iqm(areas), reached=reached)
    if not pools(len(areas), blank.seeds):
        return made
    interval = stats.stratified_interval(areas, np.random.default_rng(SEED), level=blank.level)
    return replace(made, area_low=interval.low, area_high=interval.high, method=interval.method)


def _at(run: Run, at: Floats) -> Floats:
    steps, values = run
    return values[np.searchsorted(steps, at, side="right") - 1]


def _area(run: Run, first: float, last: float) -> Floats:
    steps = run[0][(run[0] >= first) & (run[0] <= last)]
    at = np.unique([first, *steps, last])
    return np.array(stats.area_under(at, _at(run, at)))
