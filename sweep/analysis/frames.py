"""Tidy DataFrames from records (one row per run, or per run and step), and their summary over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from sweep import goals
from sweep.errors import StatisticsError, unreported
from sweep.stats import Method, per_seed, summarise
from sweep.variants import labels_of

if TYPE_CHECKING:
    from sweep.store import Member, Row, Store, Table

Floats = npt.NDArray[np.float64]
Cell = tuple[str, str]  # task, variant

KINDS: Mapping[str, Any] = {
    "task": "str", "variant": "str", "seed": np.int64, "repeat": np.int64, "status": "str", "failure": "str",
    "message": "str", "attempts": np.int64, "seconds": np.float64,
}  # fmt: skip
OURS = tuple(KINDS)  # columns other than metrics
STEP = "step"
EXPONENT = 498  # of two; numbers that are larger or smaller than this allows are scaled before they are squared

# The first of these states that a repeat or fold of a seed has is the state of the seed.
STATES = ("failed", "lost", "running", "stopped", "pending", "ok")


@dataclass(frozen=True)
class Runs:
    """The runs of a directory, read once: in order, as `frame`, and with the label of each (task, variant)."""

    store: Store
    members: Sequence[Member]
    table: pd.DataFrame
    primary: str
    level: float
    label: Mapping[Cell, str]

    @classmethod
    def of(cls, store: Store, members: Iterable[Member], level: float) -> Runs:
        """Return these runs of a directory with its primary metric."""
        ordered, config = sorted(members, key=order_of), store.manifest.config
        table = frame_of(ordered)
        primary = primary_metric(config.get("primary"), metric_names(table), config.get("goals"))
        label = labels_of(((m.task, m.variant) for m in ordered), store.manifest)
        return cls(store, ordered, table, primary, level, label)

    @property
    def declared(self) -> Mapping[str, str]:
        """Return the directions that the config declares."""
        return self.store.manifest.config.get("goals") or {}

    @property
    def goal(self) -> goals.Goal | None:
        return goals.direction(self.primary, self.declared)

    @property
    def vary(self) -> tuple[str, ...]:
        """Return what the seeds vary; empty means everything."""
        return tuple(self.store.manifest.experiment.get("vary") or ())

    @cached_property
    def ratio(self) -> float | None:
        return test_to_train(self.members, self.vary)


def primary_metric(asked: Any, names: Sequence[str], declared: Mapping[str, str] | None = None) -> str:
    """Return the primary metric: the one that the config names, else the one that `goals.primary_of` chooses."""
    return column_name(str(asked)) if asked else goals.primary_of(names, declared)


def frame(store: Store) -> pd.DataFrame:
    """Return one row per planned run, finished or not, sorted by task, variant, seed and repeat.

    Columns: task, variant, seed, repeat, status, failure (its kind), message, attempts, then the metrics by
    name, then seconds. A failed run keeps the metrics it reported: filter on `status`, or use `summary`,
    before taking a mean. A metric that a run did not report, or reported as NaN, is NaN.
    Raises StatisticsError if the name of a metric collides (see `column_name`).
    """
    return frame_of(store.scan())


def frame_of(members: Iterable[Member]) -> pd.DataFrame:
    """Return `frame` of members already scanned."""
    ordered = sorted(members, key=order_of)
    metrics: dict[str, Floats] = {}
    for row, member in enumerate(ordered):
        for name, number in member.record.metrics.items() if member.record else ():
            if name not in metrics:
                metrics[name] = np.full(len(ordered), np.nan)
            metrics[name][row] = number
    rows = [
        (*order_of(m), m.status, *_cause(m), m.attempts, m.record.seconds if m.record else math.nan) for m in ordered
    ]
    ours = pd.DataFrame(rows, columns=list(KINDS)).astype(KINDS)
    named = pd.DataFrame(_by_column(metrics), index=ours.index)
    return pd.concat([ours.iloc[:, :-1], named, ours.iloc[:, -1:]], axis=1)


def metric_names(table: pd.DataFrame) -> list[str]:
    """Return the metric columns of `frame` or `history`, in their order."""
    return [str(name) for name in table.columns if name not in OURS and name != STEP]


def column_name(metric: str) -> str:
    """Return the column of a metric: its own name, or `metrics/seed` if one of our columns has that name."""
    return f"metrics/{metric}" if metric in OURS or metric == STEP else metric


def summary(
    table: pd.DataFrame,
    metrics: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    ratio: float | None = None,
    folds: int = 0,
) -> pd.DataFrame:
    """Return one row per task, variant and metric of `frame`: the mean over finished seeds, and other counts.

    Columns: task, variant, metric, n, mean, sd, low, high (Student t at `level`), min, max, missing, planned,
    ok, failed, lost, pending, over, level, method. All counts are of seeds. Repeats and folds are averaged within
    their seed first; if one of them failed, the seed failed. planned = ok + failed + lost + pending.
    n = ok - missing, where `missing` seeds finished without a finite value of this metric. sd and interval
    are NaN at n = 1, everything is NaN at n = 0; `method` says why. `over` is the label to print beside the
    mean: "seeds", or "finished seeds" if some failed. ratio: see `test_to_train`. folds: the number of folds; low and
    high are then over seeds and folds (see `sweep.stats.summarise`), also at n = 1.
    """
    names = list(metrics) if metrics is not None else metric_names(table)
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise unreported(unknown[0], metric_names(table))
    rows = summary_rows(table, names, level=level, ratio=ratio, folds=folds)
    return pd.DataFrame(rows, columns=SUMMARY).astype(dict.fromkeys(NUMBERS, np.float64))


NUMBERS = ("mean", "sd", "low", "high", "min", "max")
SUMMARY = (
    "task", "variant", "metric", "n", *NUMBERS, "missing", "planned", "ok", "failed", "lost", "pending", "over",
    "level", "method",
)  # fmt: skip


def summary_rows(
    table: pd.DataFrame, names: Sequence[str], *, level: float, ratio: float | None, folds: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `summary` as plain numbers, None for a missing one."""
    for (task, variant), cell in cells(table):
        states = seed_states(cell["seed"].tolist(), cell["status"].tolist())
        counts = state_counts(states.values())
        for name in names:
            _, numbers = fold_values(cell, name, folds) if folds else seed_values(cell, name)
            made = summarise(numbers, level, ratio=ratio) if numbers.size else None
            yield {
                "task": task, "variant": variant, "metric": name, "n": made.n if made else 0,
                **{key: getattr(made, key, None) for key in NUMBERS}, "missing": counts["ok"] - len(numbers), **counts,
                "over": "finished seeds" if counts["failed"] else "seeds", "level": level,
                "method": made.method if made else Method.NO_SEED,
            }  # fmt: skip


def cells(table: pd.DataFrame) -> Iterator[tuple[Cell, pd.DataFrame]]:
    """Yield the rows of `frame` or `history` of each (task, variant), in the order of their names."""
    for (task, variant), cell in table.groupby(["task", "variant"], observed=True):
        yield (str(task), str(variant)), cell


def seed_states(seeds: Sequence[int], status: Sequence[str]) -> dict[int, str]:
    """Return the state of each seed from its repeats or folds: failed if any failed, ok if all are (see `STATES`)."""
    states: dict[int, str] = {}
    for seed, state in zip(seeds, status, strict=True):
        old = states.get(seed)
        states[seed] = state if old is None else min(old, state, key=STATES.index)
    return states


def test_to_train(members: Iterable[Member], vary: Sequence[str]) -> float | None:
    """Return n_test/n_train if every seed has its own split and all records hold the numbers of examples.

    None if all seeds share one split, or these numbers are unknown; with folds, their number then gives the ratio.
    """
    every = list(members)
    folds = max((m.folds for m in every), default=0)
    unknown = 1 / (folds - 1) if folds else None
    held = [m.record.result.get("examples") for m in every if m.status == "ok" and m.record]
    if ("split" not in vary and not folds) or not held or not all(isinstance(one, Mapping) for one in held):
        return unknown
    ratios = [one.get("test", 0) / one["train"] for one in held if one and one.get("train")]
    return max(ratios) if len(ratios) == len(held) and min(ratios) > 0 else unknown


def by_cell(members: Iterable[Member]) -> dict[Cell, list[Member]]:
    """Return the members of each (task, variant), in order of first appearance."""
    found: dict[Cell, list[Member]] = {}
    for member in members:
        found.setdefault((member.task, member.variant), []).append(member)
    return found


def finished(seeds: npt.NDArray[np.int64], status: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Return which runs of one variant and task enter a mean: those of seeds whose repeats or folds are all ok."""
    return np.asarray(~np.isin(seeds, seeds[status != "ok"]))


def state_counts(states: Iterable[str]) -> dict[str, int]:
    """Return the counts planned = ok + failed + lost + pending; running and stopped ones count as pending."""
    found = list(states)
    counts = {name: found.count(name) for name in ("ok", "failed", "lost")}
    return {"planned": len(found), **counts, "pending": len(found) - sum(counts.values())}


def run_values(cell: pd.DataFrame, metric: str) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return (seeds, values) of the finished runs among the rows of one variant and task of `frame`, NaN if missing."""
    seeds, kept = cell["seed"].to_numpy(), finished(cell["seed"].to_numpy(), cell["status"].to_numpy(dtype=str))
    return seeds[kept], cell[metric].to_numpy(np.float64)[kept] if metric in cell else np.full(kept.sum(), math.nan)


def fold_values(cell: pd.DataFrame, metric: str, folds: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return (seeds ascending, values (seeds, folds)) of `run_values`, without the seeds that `seed_values` leaves out.

    The rows are sorted by seed and fold, as in `frame`. Several runs of a fold (variants of one group) are averaged.
    """
    seeds, values = run_values(cell, metric)
    labels = np.unique(seeds)
    table = values.reshape(labels.size, folds, -1).mean(axis=2)
    kept = np.isfinite(table).all(axis=1)
    return labels[kept], table[kept]


def seed_values(cell: pd.DataFrame, metric: str) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return `run_values` as (seeds ascending, one number each): repeats and folds averaged within their seed.

    A seed with a value that is not finite is left out. The caller has to report how many were, as `missing` in
    `summary`.
    """
    seeds, values = run_values(cell, metric)
    kept = ~np.isin(seeds, seeds[~np.isfinite(values)])
    seeds, values = seeds[kept], values[kept]
    if np.unique(seeds).size < seeds.size:
        return per_seed(values, seeds)
    order = np.argsort(seeds)
    return seeds[order], values[order]


def history(store: Store) -> pd.DataFrame:
    """Return one row per run and step, sorted by task, variant, seed, repeat and step.

    Columns: task and variant (categories), seed, repeat, step, then the metrics by name. NaN where a run logged nothing
    at that step or logged NaN; infinities stay. If a metric is logged twice at a step, the later value counts. The
    float64 values take runs x steps x metrics x 8 bytes.
    """
    members = sorted(store.scan(), key=order_of)
    return stacked([(member, *by_step(store.table(member))) for member in members])


def by_step(found: Table | list[Row]) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Return (steps ascending, one array per metric): rows of one step merged, NaN where a metric was not logged."""
    if not isinstance(found, list):
        if (found.steps[1:] > found.steps[:-1]).all():
            return found.steps, found.metrics
        # The later row of a step counts; every row has every metric here.
        steps, last = np.unique(found.steps[::-1], return_index=True)
        kept = found.steps.size - 1 - last
        return steps, {name: values[kept] for name, values in found.metrics.items()}
    merged: dict[int, Row] = {}
    for row in found:
        merged.setdefault(row[STEP], {}).update(row)
    rows = [merged[step] for step in sorted(merged)]
    names = sorted(set().union(*rows) - {STEP})
    columns = {name: np.array([row.get(name) for row in rows], dtype=np.float64) for name in names}
    return np.array(sorted(merged), dtype=np.int64), columns


def stacked(logged: Sequence[tuple[Member, npt.NDArray[np.int64], Mapping[str, Floats]]]) -> pd.DataFrame:
    """Return `history` from (member, its steps, its metrics) entries, in their order."""
    logged = [one for one in logged if one[1].size]
    lengths = [steps.size for _, steps, _ in logged]
    columns: dict[str, Floats] = {}
    for name in sorted(set().union(*(found for _, _, found in logged))):
        blank = {length: np.full(length, np.nan) for length in lengths}
        columns[name] = np.concatenate([found.get(name, blank[steps.size]) for _, steps, found in logged])

    def each(kind: type, name: str) -> Any:
        return np.repeat(np.array([getattr(member, name) for member, _, _ in logged], dtype=kind), lengths)

    def category(name: str) -> pd.Categorical:
        known, codes = np.unique(np.array([getattr(m, name) for m, _, _ in logged], dtype=str), return_inverse=True)
        return pd.Categorical.from_codes(np.repeat(codes, lengths), pd.Index(known.astype(object)))

    return pd.DataFrame({
        "task": category("task"), "variant": category("variant"), "seed": each(np.int64, "seed"),
        "repeat": each(np.int64, "repeat"),
        STEP: np.concatenate([steps for _, steps, _ in logged]) if logged else np.array([], dtype=np.int64),
        **_by_column(columns),
    })  # fmt: skip


def band(curves: pd.DataFrame, metric: str, level: float = 0.95) -> pd.DataFrame:
    """Return the mean over seeds at each step with a pointwise Student t interval; nothing is interpolated.

    curves: rows of `history`, of one task and variant. Columns: step, n, mean, low, high, and the deciles first and
    ninth; the interval is NaN at n = 1. Pointwise means that the level holds at each step, not for the whole curve. A
    step is kept if every seed that has not yet ended has a row there. A seed that ended early, or is NaN at a step,
    does not count in n of that step. Repeats are averaged within their seed first.
    """
    matrix, steps, present = _step_by_seed(curves, metric)
    finite = np.isfinite(matrix)
    last = np.where(present, np.arange(len(steps))[:, None], -1).max(axis=0, initial=-1)
    active = np.arange(len(steps))[:, None] <= last[None, :]
    kept = (present | ~active).all(axis=1) & finite.any(axis=1)
    # Values that are not finite come last, where means and deciles ignore them.
    ordered = np.sort(np.where(finite, matrix, math.inf)[kept], axis=1)
    n, there = finite[kept].sum(axis=1), np.isfinite(ordered)
    exponent = np.frexp(np.max(np.abs(ordered), axis=1, where=there, initial=0.0))[1]
    scale = np.ldexp(1.0, np.where(np.abs(exponent) > EXPONENT, exponent - 1, 0))[:, None]
    values = np.where(there, ordered, 0.0) / scale
    centre = values.sum(axis=1, keepdims=True) / n[:, None]
    scatter = np.square(values - centre).sum(axis=1, where=there)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = stdtrit(n - 1.0, (1 + level) / 2) * np.sqrt(scatter / (n - 1) / n) * scale[:, 0]
    mean = (centre * scale)[:, 0]

    def decile(share: float) -> Floats:
        place = share * (n - 1)
        below = place.astype(np.int64)
        lower, upper = (ordered[np.arange(n.size), at] for at in (below, np.minimum(below + 1, n - 1)))
        return np.asarray(lower + (upper - lower) * (place - below))

    return pd.DataFrame({
        STEP: steps[kept], "n": n, "mean": mean, "low": np.where(n > 1, mean - half, math.nan),
        "high": np.where(n > 1, mean + half, math.nan), "first": decile(0.1), "ninth": decile(0.9),
    })  # fmt: skip


def _step_by_seed(curves: pd.DataFrame, metric: str) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return (values (steps, seeds), the steps, whether the seed has a row at the step)."""
    values = curves[metric].to_numpy(np.float64)
    at, steps = pd.factorize(curves[STEP].to_numpy(), sort=True)
    who, seeds = pd.factorize(curves["seed"].to_numpy(), sort=True)
    shape = (steps.size, seeds.size)
    cell = at * seeds.size + who
    present = np.bincount(cell, minlength=steps.size * seeds.size).reshape(shape) > 0
    finite = np.isfinite(values)
    kept = cell[finite]
    count = np.bincount(kept, minlength=steps.size * seeds.size).reshape(shape)
    total = np.bincount(kept, weights=values[finite], minlength=steps.size * seeds.size).reshape(shape)
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0), np.asarray(steps), present


def _cause(member: Member) -> tuple[str, str]:
    if member.record is None or member.record.failure is None:
        return "", member.note
    return member.record.failure.kind, member.record.failure.message


def order_of(member: Member) -> tuple[str, str, int, int]:
    return member.task, member.variant, member.seed, member.repeat


def _by_column(metrics: dict[str, Floats]) -> dict[str, Floats]:
    named: dict[str, Floats] = {}
    for metric in sorted(metrics):
        column = column_name(metric)
        if column in named or (column != metric and column in metrics):
            raise StatisticsError(
                f"the metrics {metric!r} and {column!r} would share a column",
                hint=f"rename one of them: {metric!r} is also the name of a column of sweep",
            )
        named[column] = metrics[metric]
    return named
