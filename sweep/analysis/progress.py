"""Several tasks over the steps of training: the interquartile mean at each step, its area and when it got how far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.analysis import frames
from sweep.analysis.across import SEED, Pooled, scales
from sweep.analysis.model import Curve, Progress, Reached
from sweep.analysis.remarks import Remark
from sweep.stats import area_under, iqm, iqm_band, normalise, steps_to, stratified_interval
from sweep.stats.tasks import pools

Floats = npt.NDArray[np.float64]
Run = tuple[Floats, Floats]  # steps and values
MOST_STEPS = 60  # of a curve; of more, evenly many
THRESHOLDS = (0.5, 0.9)


def logged_as(names: Sequence[str], primary: str) -> str | None:
    """Return the logged metric on the scale of the primary one: itself, else one of the same name on another split."""
    leaf = primary.rpartition("/")[2]
    alike = [name for name in names if name.rpartition("/")[2] == leaf]
    order = (primary, f"val/{leaf}", f"test/{leaf}", leaf, f"train/{leaf}")
    return next((name for name in order if name in alike), alike[0] if alike else None)


def progress(
    history: pd.DataFrame, metric: str, found: Mapping[str, Pooled], references: Mapping[str, Sequence[float]],
    label: Mapping[str, str], *, level: float = 0.95,
) -> Iterator[Progress]:  # fmt: skip
    """Yield for every variant its curve over these tasks, of the seeds that converged in all of them.

    history: `frames.history` with this metric. Between two steps a run has the value it logged last. The curve reaches
    from the first step that all runs have reached to the last one.
    """
    scale = scales(references)
    runs = dict(frames.cells(history[np.isfinite(history[metric])]))
    for variant, one in found.items():
        if not one.scores:
            continue
        blank = Progress(
            variant=variant, label=label.get(variant, ""), metric=metric, tasks=len(one.scores), level=level,
            seeds=len(one.seeds),
        )  # fmt: skip
        tasks = {task: its for (task, of), its in runs.items() if of == variant}
        curves = [_curves(tasks[task], metric, one.seeds, scale[task]) for task in sorted(tasks)]
        yield _described(blank, curves) if len(curves) == blank.tasks and all(curves) else _without(blank, "not logged")


def _without(blank: Progress, why: str) -> Progress:
    return replace(blank, reason=Remark(why))


def _curves(cell: pd.DataFrame, metric: str, seeds: Sequence[int], scale: Sequence[float]) -> list[list[Run]]:
    """Return the normalised curves of each seed, one per repeat; nothing where a seed logged none."""
    found: dict[int, list[Run]] = {}
    for _, its in cell.groupby(["seed", "repeat"]):
        values = normalise(its[metric].to_numpy(np.float64), *scale)
        found.setdefault(int(its["seed"].iloc[0]), []).append((its[frames.STEP].to_numpy(np.float64), values))
    return [found[seed] for seed in seeds] if found.keys() >= set(seeds) else []


def _described(blank: Progress, curves: Sequence[Sequence[Sequence[Run]]]) -> Progress:
    every = [steps for task in curves for seed in task for steps, _ in seed]
    first, last = max(steps[0] for steps in every), min(steps[-1] for steps in every)
    if first > last:
        return _without(blank, "no step in every run")
    steps = np.unique(np.concatenate(every))
    steps = steps[(steps >= first) & (steps <= last)]
    stride = -(-steps.size // MOST_STEPS)
    at = steps[::-1][::stride][::-1]  # counted from the end: the last step is kept

    def over(measure: Callable[[Run], Floats]) -> Floats:
        """Return what a run is worth, the mean of a seed's repeats: shape (tasks, seeds, ...)."""
        return np.array([[np.mean([measure(run) for run in seed], axis=0) for seed in task] for task in curves])

    band = iqm_band(at, np.moveaxis(over(lambda run: _at(run, at)), 2, 0), _rng(), level=blank.level)
    areas = list(over(lambda run: _area(run, first, last)))
    interval = stratified_interval(areas, _rng(), level=blank.level) if pools(len(areas), blank.seeds) else None
    return replace(
        blank, curve=Curve.of(band), stride=stride, area=iqm(areas), area_low=interval.low if interval else None,
        area_high=interval.high if interval else None, method=interval.method if interval else None,
        reached=tuple(Reached(one, *steps_to(band, one)) for one in THRESHOLDS),
    )  # fmt: skip


def _at(run: Run, at: Floats) -> Floats:
    steps, values = run
    return values[np.searchsorted(steps, at, side="right") - 1]


def _area(run: Run, first: float, last: float) -> Floats:
    steps = run[0][(run[0] >= first) & (run[0] <= last)]
    at = np.unique([first, *steps, last])
    return np.array(area_under(at, _at(run, at)))


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)
