"""Records -> tidy DataFrames (one row per run; one row per run and step) and their summary over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep.errors import StatisticsError
from sweep.stats import Method, per_seed, summarise
from sweep.stats.interval import t_quantile
from sweep.stats.sample import unit

if TYPE_CHECKING:
    from sweep.store import Member, Row, Store, Table

Floats = npt.NDArray[np.float64]

RUN = ("task", "variant", "seed", "repeat")
OURS = (*RUN, "status", "failure", "message", "attempts", "seconds")
STEP = "step"

# The order in which the states of a seed's repeats decide the state of the seed.
STATES = ("failed", "ok", "lost", "running", "stopped", "pending")


def frame(store: Store) -> pd.DataFrame:
    """Return one row per planned run, sorted by task, variant, seed and repeat, whatever became of it.

    Columns: task, variant, seed, repeat, status, failure (its kind), message, attempts, then the metrics by
    name, then seconds. A failed run keeps the metrics it reported: filter on `status`, or use `summary`,
    before taking a mean. A metric that a run never reported is NaN, as is one that it reported as NaN.
    StatisticsError when the name of a metric collides (see `column_name`).
    """
    return frame_of(store.scan())


def frame_of(members: Iterable[Member]) -> pd.DataFrame:
    """Return `frame` of members already scanned."""
    ordered = sorted(members, key=_order)
    metrics: dict[str, Floats] = {}
    columns: dict[str, list[Any]] = {name: [] for name in OURS}
    for row, member in enumerate(ordered):
        record = member.record
        kind, message = _cause(member)
        seconds = record.seconds if record else math.nan
        values = (*_order(member), member.status, kind, message, member.attempts, seconds)
        for name, value in zip(OURS, values, strict=True):
            columns[name].append(value)
        for name, number in record.metrics.items() if record else ():
            if name not in metrics:
                metrics[name] = np.full(len(ordered), np.nan)
            metrics[name][row] = number
    named = _by_column(metrics)
    before, after = OURS[:-1], OURS[-1:]
    table = {name: _typed(name, columns[name]) for name in before} | named
    return pd.DataFrame(table | {name: _typed(name, columns[name]) for name in after})


def metric_names(table: pd.DataFrame) -> list[str]:
    """Return the metric columns of `frame` or `history`, in their order."""
    return [str(name) for name in table.columns if name not in OURS and name != STEP]


def column_name(metric: str) -> str:
    """Return the column of a metric: its own name, or `metrics/seed` where that is the name of a column of ours."""
    return f"metrics/{metric}" if metric in OURS or metric == STEP else metric


def summary(
    table: pd.DataFrame,
    metrics: Sequence[str] | None = None,
    *,
    by: Sequence[str] = ("task", "variant"),
    level: float = 0.95,
    ratio: float | None = None,
) -> pd.DataFrame:
    """Return one row per group and metric of `frame`: the mean over converged seeds beside how many did not converge.

    Columns: those of `by`, metric, n, mean, sd, low, high (Student t at `level`), min, max, missing, planned,
    ok, failed, lost, pending, over, level, method. All counts are of seeds: repeats are averaged within their
    seed first, and a seed with a failed repeat is failed. planned = ok + failed + lost + pending.
    n = ok - missing, where `missing` seeds converged without a finite value of this metric. sd and interval
    are NaN at n = 1, everything is at n = 0; `method` says why. `over` is the label that belongs beside the
    mean: "seeds", or "converged seeds" when some failed. ratio: see `test_to_train`.
    """
    names = list(metrics) if metrics is not None else metric_names(table)
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise StatisticsError(
            f"no run reports {unknown[0]!r}",
            hint="reported: " + (", ".join(metric_names(table)) or "nothing"),
        )
    return pd.DataFrame(_summary_rows(table, names, list(by), level, ratio), columns=[*by, *SUMMARY])


SUMMARY = (
    "metric", "n", "mean", "sd", "low", "high", "min", "max", "missing",
    "planned", "ok", "failed", "lost", "pending", "over", "level", "method",
)  # fmt: skip


def _summary_rows(
    table: pd.DataFrame, names: list[str], by: list[str], level: float, ratio: float | None
) -> Iterator[dict[str, Any]]:
    values = {name: table[name].to_numpy(np.float64) for name in names}
    seeds, status = table["seed"].to_numpy(), table["status"].to_numpy(dtype=str)
    for key, rows in _groups(table, by):
        states = seed_states(seeds[rows].tolist(), status[rows].tolist())
        counts = state_counts(states.values())
        used = rows[converged(seeds[rows], status[rows])]
        for name in names:
            _, numbers = values_by_seed(seeds[used], values[name][used])
            yield {
                **dict(zip(by, key, strict=True)), "metric": name, **_described(numbers, level, ratio),
                "missing": counts["ok"] - numbers.size, **counts,
                "over": "converged seeds" if counts["failed"] else "seeds",
            }  # fmt: skip


def _groups(table: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple[Any, ...], npt.NDArray[np.int64]]]:
    if not by:
        yield (), np.arange(len(table))
        return
    for key, rows in sorted(table.groupby(by, sort=False, observed=True).indices.items()):
        yield key if isinstance(key, tuple) else (key,), np.asarray(rows)


def _described(numbers: Floats, level: float, ratio: float | None) -> dict[str, Any]:
    if numbers.size == 0:
        blank = dict.fromkeys(("mean", "sd", "low", "high", "min", "max"), math.nan)
        return {"n": 0, **blank, "level": level, "method": Method.NO_SEED}
    s = summarise(numbers, level, ratio=ratio)
    spread = {k: math.nan if v is None else v for k, v in (("sd", s.sd), ("low", s.low), ("high", s.high))}
    extremes = {"min": s.min, "max": s.max, "level": s.level, "method": s.method}
    return {"n": s.n, "mean": s.mean, **spread, **extremes}


def seed_states(seeds: Sequence[int], status: Sequence[str]) -> dict[int, str]:
    """Return the state of each seed from its repeats': failed if any failed, else ok if any is, and so on."""
    states: dict[int, str] = {}
    for seed, state in zip(seeds, status, strict=True):
        old = states.get(seed)
        states[seed] = state if old is None else min(old, state, key=STATES.index)
    return states


def test_to_train(members: Iterable[Member], vary: Sequence[str]) -> float | None:
    """Return n_test/n_train where every seed has a split of its own and all records say how many examples it has.

    None where the split is the same for all, or where that is not known.
    """
    held = [m.record.result.get("examples") for m in members if m.status == "ok" and m.record]
    if "split" not in vary or not held or not all(isinstance(one, Mapping) for one in held):
        return None
    ratios = [one.get("test", 0) / one["train"] for one in held if one and one.get("train")]
    return max(ratios) if len(ratios) == len(held) and min(ratios) > 0 else None


def by_cell(members: Iterable[Member]) -> dict[tuple[str, str], list[Member]]:
    """Return the members of each (task, variant), in the order in which these occur."""
    cells: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        cells.setdefault((member.task, member.variant), []).append(member)
    return cells


def counted(members: Iterable[Member]) -> list[Member]:
    """Return the runs that enter a mean: `converged`, of members of any variants and tasks."""
    every = list(members)
    broken = {(m.task, m.variant, m.seed) for m in every if m.status == "failed"}
    return [m for m in every if m.status == "ok" and m.record and (m.task, m.variant, m.seed) not in broken]


def converged(seeds: npt.NDArray[np.int64], status: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Return which runs of one variant and task enter a mean: the ok ones of seeds without a failed repeat."""
    broken = np.isin(seeds, seeds[status == "failed"])
    return np.asarray((status == "ok") & ~broken)


def state_counts(states: Iterable[str]) -> dict[str, int]:
    """Return planned = ok + failed + lost + pending; what runs or was stopped counts as pending, to keep the sum."""
    found = list(states)
    counts = {name: found.count(name) for name in ("ok", "failed", "lost")}
    return {"planned": len(found), **counts, "pending": len(found) - sum(counts.values())}


def values_by_seed(seeds: npt.ArrayLike, values: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return (seeds ascending, one number each): finite values only, repeats averaged within their seed.

    The caller owes the reader the count of what is left out: `summary` calls it `missing`.
    """
    kept = np.isfinite(values)
    labels, numbers = np.asarray(seeds, dtype=np.int64)[kept], values[kept]
    if numbers.size == 0:
        return labels, numbers
    if np.unique(labels).size == labels.size:
        order = np.argsort(labels)
        return labels[order], numbers[order]
    return per_seed(numbers, labels)


def seed_values(cell: pd.DataFrame, metric: str) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return `values_by_seed` of the converged runs among the rows of one variant and task of `frame`."""
    seeds, status = cell["seed"].to_numpy(), cell["status"].to_numpy(dtype=str)
    kept = converged(seeds, status)
    return values_by_seed(seeds[kept], cell[metric].to_numpy(np.float64)[kept])


def history(
    store: Store, metrics: Sequence[str] | None = None, *, members: Iterable[Member] | None = None
) -> pd.DataFrame:
    """Return one row per run and step, sorted by task, variant, seed, repeat and step.

    Columns: task and variant (categories), seed, repeat, step, then the metrics by name, or those asked for.
    NaN where a run logged nothing at that step or logged NaN; infinities stay. Logging twice at a step fills
    one row, the later value standing. Held in float64: runs x steps x metrics x 8 bytes, so name the metrics
    you need when the history is long. members: those of `store.scan()`, to save scanning again.
    """
    wanted = None if metrics is None else set(metrics)
    keys: list[tuple[str, str, int, int]] = []
    steps: list[npt.NDArray[np.int64]] = []
    chunks: list[dict[str, Floats]] = []
    for member in sorted(store.scan() if members is None else members, key=_order):
        logged, columns = by_step(store.table(member))
        if logged.size:
            keys.append(_order(member))
            steps.append(logged)
            chunks.append({name: columns[name] for name in columns if wanted is None or name in wanted})
    return _stacked(keys, steps, chunks)


def by_step(found: Table | list[Row]) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Return (steps ascending, one array per metric): rows of one step merged, NaN where a metric was not logged."""
    if not isinstance(found, list):
        if (found.steps[1:] > found.steps[:-1]).all():
            return found.steps, found.metrics
        # A metric's later value at a step stands, and here every row has every metric.
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


def _stacked(
    keys: list[tuple[str, str, int, int]],
    steps: list[npt.NDArray[np.int64]],
    chunks: list[dict[str, Floats]],
) -> pd.DataFrame:
    lengths = [part.size for part in steps]
    ends = np.cumsum(lengths, dtype=np.int64)
    columns: dict[str, Floats] = {}
    for name in sorted(set().union(*chunks)):
        column = np.full(sum(lengths), np.nan)
        for end, length, chunk in zip(ends, lengths, chunks, strict=True):
            if name in chunk:
                column[end - length : end] = chunk.pop(name)
        columns[name] = column
    task, variant, seed, repeat = zip(*keys, strict=True) if keys else ((), (), (), ())
    return pd.DataFrame({
        "task": pd.Categorical(np.repeat(np.array(task, dtype=object), lengths)),
        "variant": pd.Categorical(np.repeat(np.array(variant, dtype=object), lengths)),
        "seed": np.repeat(np.array(seed, dtype=np.int64), lengths),
        "repeat": np.repeat(np.array(repeat, dtype=np.int64), lengths),
        STEP: np.concatenate(steps) if steps else np.array([], dtype=np.int64),
        **_by_column(columns),
    })  # fmt: skip


def band(curves: pd.DataFrame, metric: str, level: float = 0.95) -> pd.DataFrame:
    """Return the mean over seeds at each step with a pointwise Student t interval; nothing is interpolated.

    curves: rows of `history`, of one task and variant. Columns: step, n, mean, low, high; the interval is NaN
    where n = 1. It is pointwise: each step's interval covers at its level, the whole curve does not. A step
    is kept when every seed that has not yet ended has a row there; a seed that ended early, or is NaN at a
    step, is out of that step's n. Repeats are averaged within their seed first.
    """
    matrix, steps, present = _step_by_seed(curves, metric)
    finite = np.isfinite(matrix)
    last = np.where(present, np.arange(len(steps))[:, None], -1).max(axis=0, initial=-1)
    active = np.arange(len(steps))[:, None] <= last[None, :]
    kept = (present | ~active).all(axis=1) & finite.any(axis=1)
    rows = [_at_step(matrix[i][finite[i]], level) for i in np.flatnonzero(kept)]
    out = pd.DataFrame(rows, columns=["n", "mean", "low", "high"]).astype({"n": np.int64})
    out.insert(0, STEP, steps[kept])
    return out


def _at_step(numbers: Floats, level: float) -> tuple[int, float, float, float]:
    n, scale = numbers.size, unit(numbers)
    centre = float(np.mean(numbers / scale)) * scale
    if n == 1:
        return n, centre, math.nan, math.nan
    half = t_quantile(n - 1, (1 + level) / 2) * float(np.std(numbers / scale, ddof=1)) / math.sqrt(n) * scale
    return n, centre, centre - half, centre + half


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


def _order(member: Member) -> tuple[str, str, int, int]:
    return member.task, member.variant, member.seed, member.repeat


def _by_column(metrics: dict[str, Floats]) -> dict[str, Floats]:
    named: dict[str, Floats] = {}
    for metric in sorted(metrics):
        column = column_name(metric)
        if column in named or (column != metric and column in metrics):
            raise StatisticsError(
                f"the metrics {metric!r} and {column!r} would share a column",
                hint=f"rename one of them: {metric!r} is the name of a column of ours",
            )
        named[column] = metrics[metric]
    return named


def _typed(name: str, values: list[Any]) -> Any:
    if name in ("seed", "repeat", "attempts"):
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=np.float64) if name == "seconds" else pd.Series(values, dtype="str")
