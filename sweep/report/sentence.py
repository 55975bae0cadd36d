"""The sentences of a report: headlines, the scope of intervals, failures, and the sources of spread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sweep.analysis.comparison import Side
from sweep.analysis.model import Across, Cause, Counts, Environment, Median, Overview, Progress, Row, Spread, Together
from sweep.goals import Goal
from sweep.number import around, limits, number, percent, places
from sweep.report.remarks import said_of
from sweep.stats import Method
from sweep.stats.tasks import RESAMPLES
from sweep.variants import without_hash
from sweep.words import every, plural, shown

MOST_TASKS = 4  # tasks with a line each

Averaged = TypeVar("Averaged", Row, Side)
POOL = "over splits of this data set, no statement about new data"
NO_SPREAD = "without spread there is nothing to test it against"
EVERYTHING = "everything that the seed controls"
SETS = {"test": "test set", "val": "validation set", "train": "training set"}


def task_label(task: str) -> str:
    """Return a task without the hash of its folder."""
    return shown(without_hash([task])[0])


def of(label: str) -> str:
    """Return a label as a prefix of a sentence; "" if there is only one."""
    return f"{shown(label)}: " if label else ""


def scope(
    metric: str, vary: Sequence[str] = (), ratio: float | None = None, folds: int = 0, *, finished: bool = False,
    single: bool = False,
) -> str:  # fmt: skip
    """Return the scope of an interval over seeds, such as "over seeds, this split and test set".

    single: there is one seed, and the interval is only over folds.
    """
    over = "over finished seeds" if finished else "over seeds"
    how = "" if ratio is None else f"for new data; Nadeau & Bengio, n_test/n_train {number(ratio, 2)}"
    if folds and how:
        return f"{'for this seed, over' if single else f'{over} and'} {folds} folds of this data set, {how}"
    if "split" in vary:
        own = f"{over}, each with its own split"
        return f"{own}, {how}" if how else f"{own} of this data set; no statement about new data"
    split = metric.partition("/")[0] if "/" in metric else ""
    held = f", this split and {SETS[split]}" if split in SETS else ", this split" if split or vary else ""
    return f"{over} that vary {', '.join(vary)} only{held}" if vary else f"{over}{held}"


@dataclass(frozen=True)
class Headline:
    """A line that can be quoted: the name, the value, and in `means` its scope, n and the failures."""

    name: str
    value: str
    means: str = ""

    @property
    def line(self) -> str:
        return f"{self.name} {self.value}".strip()

    def __str__(self) -> str:
        return f"{self.line} ({self.means})" if self.means else self.line


def headline(report: Overview, row: Row) -> Headline:
    """Return the mean of a row with its interval, the scope, n and the failures.

    "test/accuracy 0.9681 ± 0.0042 (95 % CI over seeds, this split and test set; n = 10, 0 failed)", for example. If a
    stopping rule chose the number of these seeds, the value is the mean ± the requested width, and the plain interval
    is only descriptive.
    """
    met = _met(report, row)
    failed = met["used"] - met["n"] if met is not None else row.failed
    over = scope(
        "" if row.adopted else row.metric, report.vary, report.ratio, report.folds, finished=failed > 0,
        single=row.n == 1,
    )  # fmt: skip
    metric = of(row.label) + shown(row.metric)
    name = f"{metric} of finished runs" if failed else metric
    if met is not None:
        interval, counted = met["interval"], f"{failed} of {met['used']} failed" if failed else "0 failed"
        value = around(met["mean"], (interval["high"] - interval["low"]) / 2)
        looked = f"fixed-width rule, {plural(met['looks'], 'look')}"
        kind = f"{percent(interval['level'])} CI"
        return Headline(name, value, f"{kind} {over}; {looked}; n = {met['n']}, {counted}{_sharing(report, row)}")
    if row.n == 0:
        return Headline(f"{metric}:", _nothing(row.planned, row.ok, row.failed, "seed"))
    counted = f"n = {row.n}{_out_of(row)}, {_failures(row)}{_sharing(report, row)}"
    value = around(row.mean or 0.0, row.half_width)
    if row.half_width is None:
        return Headline(name, value, f"no interval: one seed has no spread; {counted}")
    if row.half_width == 0:
        return Headline(name, value, f"{every(row.n, 'seed')} gave the same value; {counted}")
    peeked = f"; unadjusted for {plural(report.extensions, 'extension')}" if report.extensions else ""
    kind = f"{'descriptive ' if report.until else ''}{percent(row.level)} CI"
    return Headline(name, value, f"{kind} {over}; {counted}{peeked}")


def _met(report: Overview, row: Row) -> Mapping[str, Any] | None:
    """Return the entry in the manifest of a fixed-width rule that was met for this row.

    None if every seed has its own split, because the rule does not account for the data that splits share.
    """
    if "split" in report.vary:
        return None
    for cell in report.until.get("cells", ()):
        if (cell["task"], cell["variant"], cell["metric"]) == (row.task, row.variant, row.metric):
            met = cell.get("state") == "met" and cell.get("interval") and cell.get("mean") is not None
            return cell if met else None
    return None


def _sharing(report: Overview, row: Row) -> str:
    """Return ", 3 shared a file": how many runs of a row may have read what another wrote."""
    cell = "/".join(filter(None, (row.task, row.variant)))
    runs = {key for each in report.shared if not each.in_turn for key in each.runs}
    count = sum(key.rpartition("/")[0] == cell for key in runs)
    return f", {count} shared a file" if count else ""


def silence(counts: Counts) -> str:
    """Return why there is no value."""
    return _nothing(counts.planned, counts.ok, counts.failed, "run")


def _nothing(planned: int, ok: int, failed: int, unit: str) -> str:
    if ok:
        return f"no mean: not reported by any ok {unit} (0 of {ok})"
    if failed == planned:
        return f"no mean: {every(planned, unit)} failed"
    if failed:
        return f"no mean yet: {failed} of {planned} {unit}s failed, and none is ok"
    return f"no {unit} has finished (0 of {planned})"


def standing(report: Overview) -> list[Headline]:
    """Return the first lines: the headline of the only variant, or for each task the variant with the best mean.

    It is called the best if some other is worse by Holm over all pairs. Scores over all tasks come first; with more
    than `MOST_TASKS` tasks, they are the only lines.
    """
    by_task: dict[str, list[Row]] = {}
    for row in report.primary_rows:
        by_task.setdefault(row.task, []).append(row)
    found = [_leading(report, rows) for rows in by_task.values()] or [Headline("", silence(report.counts))]
    pooled = [*_over_tasks(report)]
    return pooled if pooled and len(found) > MOST_TASKS else [*pooled, *found]


def _over_tasks(report: Overview) -> Iterator[Headline]:
    """Yield the variant with the highest interquartile mean over all tasks, if there is one."""
    best = max((one for one in report.across if one.iqm is not None), key=lambda one: one.iqm or 0.0, default=None)
    if best is None:
        return
    letter, counts = report.variants[best.variant].letter, report.counts
    who = f"{letter} ({shown(best.label)}) has the highest " if len(report.across) > 1 else ""
    unknown = counts.adopted and not counts.failed
    failed = "failures unknown" if unknown else f"{counts.failed} of {plural(counts.planned, 'run')} failed"
    value, means = number(best.iqm, 3), f"n = {count_of(best.seeds, best.planned)}, {failed}"
    if best.iqm_low is not None:
        value += f", {percent(best.level)} CI {limits(best.iqm_low, best.iqm_high, 3)}"
        means = f"over seeds, for these tasks; {means}"
    tasks = plural(best.tasks, "task")
    yield Headline("", f"over {tasks}: {who}interquartile mean of normalised {shown(best.metric)}: {value}", means)


def _leading(report: Overview, rows: Sequence[Row]) -> Headline:
    leader = leading(rows)
    if len(rows) == 1 or leader is None:
        return headline(report, leader or rows[0])
    made, one = headline(report, replace(leader, label="")), report.variants[leader.variant]
    name = (f"{task_label(leader.task)}: " if leader.task else "") + f"{one.letter} ({shown(one.label)})"
    if leader.best:
        constant = sum(row.constant for row in rows)
        near = sum(row.best for row in rows) - 1 - constant
        return Headline("", ranked(name, made.line, len(rows) - 1, near=near, constant=constant), made.means)
    failed = any(row.failed for row in rows) and not leader.failed
    return Headline("", unranked(name, made.line, leader.goal, failed=failed), made.means)


def unranked(name: str, value: str, goal: Goal | None, *, failed: bool) -> str:
    """Return the sentence for the best mean if nothing was tested. failed: seeds of others failed."""
    return f"{name} has the {'best' if goal else 'largest'} mean{' of finished runs' if failed else ''}: {value}"


def ranked(name: str, value: str, others: int, *, near: int, constant: int) -> str:
    """Return how the best mean compares with the others.

    near: how many are not distinguishable from it. constant: how many have the same distance from it on every seed.
    """
    worse = others - near - constant
    said = [f"{_others(worse, others, 'is', 'are')} worse"] if worse == others else []
    if near == others > 1:
        said.append(f"none of the {others} others is distinguishable from it")
    elif near:
        said.append(f"{_others(near, others, 'is', 'are')} not distinguishable from it")
    if constant:
        said.append(
            f"{_others(constant, others, 'differs', 'differ')} from it by the same amount on every seed: {NO_SPREAD}"
        )
    return f"{name} {'is best' if worse else 'has the best mean'}: {value}; {'; '.join(said)}"


def _others(count: int, others: int, one: str, several: str) -> str:
    """Return "the other is", "both others are", "all 3 others are", "1 other is" or "2 others are"."""
    who = plural(count, "other") if count != others else "the other" if count == 1 else every(count, "other")
    return f"{who} {one if count == 1 else several}"


def leading(rows: Sequence[Row]) -> Row | None:
    """Return the row with the best mean, or for a metric without a goal the largest."""
    return next((row for row in by_mean(rows, rows[0].goal if rows else None) if row.mean is not None), None)


def by_mean(found: Iterable[Averaged], goal: Goal | None) -> list[Averaged]:
    """Return rows or arms with the best mean first (without a goal, the largest) and those without a mean last."""
    sign = 1.0 if goal == "min" else -1.0
    return sorted(found, key=lambda one: (one.mean is None, sign * (one.mean or 0.0)))


def count_of(n: int, planned: int) -> str:
    """Return "5", or "4 of 5" if some are left out."""
    return str(n) if n == planned else f"{n} of {planned}"


def _out_of(row: Row) -> str:
    """Return why n differs from the number of planned seeds, apart from failures."""
    counts = ((row.missing, "ok without this metric"), (row.lost, "lost"),
              (row.pending, "missing" if row.adopted else "pending"))  # fmt: skip
    parts = [f"{count} {word}" for count, word in counts if count]
    return f" of {row.planned} ({', '.join(parts)})" if parts else ""


def _failures(row: Row) -> str:
    if not row.failed:
        return "failures unknown" if row.adopted else "0 failed"
    return f"{failed_of(row.failed, row.ok)} failed" + (
        ", others unknown" if row.adopted else f" (failure rate {rate(row)})"
    )


def rate(row: Row) -> str:
    """Return the limits of the failure rate."""
    return f"{percent(row.failure_low, 2)} to {percent(row.failure_high, 2)}"


def failed_of(failed: int | None, ok: int) -> str:
    """Return "1 of 5", or "unknown"."""
    return "unknown" if failed is None else f"{failed} of {ok + failed}"


def cause(one: Cause) -> str:
    """Return the message of a run without a result, or what happened to a lost one."""
    return one.message or "its process ended without a record; the next sweep run tries this seed again"


def machine(one: Environment) -> str:
    """Return "torch 2.10.0, Python 3.11, NVIDIA H100", as far as known."""
    gpu = one.fields.get("gpu")
    hardware = gpu if isinstance(gpu, str) else one.fields.get("cpu_model") or one.fields.get("device")
    known = [f"{name} {one.fields[name.lower()]}" for name in ("torch", "Python") if one.fields.get(name.lower())]
    return ", ".join([*known, *([str(hardware)] if hardware else [])])


def differences(one: Environment) -> list[str]:
    """Return "threads: 1 -> 2" of each field that differs from the most used environment."""
    return [f"{path}: {before} -> {after}" for path, before, after in one.differences]


# ---- the spread between seeds, and several tasks


def training(one: Spread) -> str:
    """Return the spread that training alone would give; a negative estimate is shown as it is."""
    raw = one.training_variance or 0.0
    if raw <= 0:
        return f"training alone would give no detectable spread (variance {number(raw, digits=2)})"
    return f"on an infinitely large test set, the sd between seeds would be {number(math.sqrt(raw), places(one.sd))}"


def chance(one: Spread) -> str:
    """Return a sentence if the seeds differ mostly by chance on this test set, else ""."""
    if not one.mostly_chance:
        return ""
    return (
        "The differences between seeds are mostly chance on this test set: picking the best seed gains little. "
        "More seeds narrow the interval of the mean on THIS test set; only more examples bring the mean closer to the "
        f"true {one.metric.rpartition('/')[2]}."
    )


def median(one: Median) -> str:
    """Return the median over all seeds that ended, with its interval, as a sentence."""
    ranked = f", with {plural(one.failed, 'failed seed')} ranked worst" if one.failed else ""
    around = f"{percent(one.level)} CI {_limits(one)}" if _limits(one) else f"no {percent(one.level)} CI exists"
    seeds = f"all {plural(one.seeds, 'seed')} that ended"
    return f"{of(one.label)}median {shown(one.metric)} of {seeds}{ranked}: {_place(one, one.median)} ({around})"


def middle(one: Median) -> str:
    """Return the median over all seeds that ended and its interval, "0.866 (0.848 to 0.875)"."""
    return f"{_place(one, one.median)} ({_limits(one) or 'no interval'})"


def _limits(one: Median) -> str:
    return "" if one.low is None or one.high is None else f"{_place(one, one.low)} to {_place(one, one.high)}"


def _place(one: Median, value: float) -> str:
    return number(value, places(one.sd)) if math.isfinite(value) else "a failed seed"


def order(one: Median) -> str:
    """Return which values bound the median."""
    if one.ranks is None:
        return f"no interval exists for {plural(one.seeds, 'seed')}"
    return f"{Method.ORDER} {one.ranks[0]} and {one.ranks[1]} of {one.seeds}, exact coverage {one.coverage:.3f}"


def source(one: Spread) -> str:
    """Return what the seeds vary."""
    return f"{', '.join(one.vary)} only" if one.vary else EVERYTHING


def why(one: Across | Progress | Together | Spread) -> str:
    """Return why there is no number; "" if there is one."""
    return "" if one.reason is None else said_of(one.reason)


def over_tasks(found: Across) -> str:
    """Return the scope of the pooled numbers: these tasks only."""
    left = found.planned - found.seeds
    finished = f" that finished in every task ({left} did not)" if left else ""
    return f"these {plural(found.tasks, 'task')}, {plural(found.seeds, 'seed')}{finished}"


def method(one: Across) -> str:
    """Return how the intervals over tasks were computed, or why there are none."""
    if one.method is None:
        return why(one) if one.mean is not None else ""
    return f"{one.method}, these {one.tasks} tasks, {RESAMPLES} resamples"


def together(one: Across) -> str:
    """Return the means over tasks as a sentence."""
    mean, middle = (
        number(value, 3) + ("" if low is None else f" ({percent(one.level)} CI {limits(low, high, 3)})")
        for value, low, high in ((one.mean, one.mean_low, one.mean_high), (one.iqm, one.iqm_low, one.iqm_high))
    )
    return f"{of(one.label)}normalised mean {mean}, interquartile mean {middle} over {over_tasks(one)}; {method(one)}"
