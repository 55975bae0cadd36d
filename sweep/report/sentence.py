"""The sentences of a report: what a number is over, how sure it is, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sweep.analysis.comparison import Side
from sweep.analysis.model import Adopted, Counts, Overview, Row
from sweep.errors import listed
from sweep.goals import Goal
from sweep.number import around, limits, number, percent
from sweep.variants import without_hash
from sweep.words import plural, shown

MOST_TASKS = 4  # with a line of their own

Averaged = TypeVar("Averaged", Row, Side)
POOL = "over splits of this data set, no statement about new data"


def scope(
    metric: str, vary: Sequence[str] = (), ratio: float | None = None, folds: int = 0, *, converged: bool = False,
    single: bool = False,
) -> str:  # fmt: skip
    """Return what an interval over seeds holds fixed: "this split and test set", and for val and train alike.

    single: there is one seed, and the interval is over folds alone.
    """
    over = "over converged seeds" if converged else "over seeds"
    if folds and ratio is not None:
        how = f"Nadeau & Bengio, n_test/n_train {number(ratio, 2)}"
        over = "for this seed, over" if single else f"{over} and"
        return f"{over} {folds} folds of this data set, for new data; {how}"
    split = metric.partition("/")[0] if "/" in metric else ""
    if "split" in vary:
        if ratio is not None:
            how = f"Nadeau & Bengio, n_test/n_train {number(ratio, 2)}"
            return f"{over}, each with its own split, for new data; {how}"
        return f"{over}, each with its own split of this data set; no statement about new data"
    if vary:
        return f"{over} that vary {', '.join(vary)} only, this split" + _set(split, joined=True)
    return f"{over}, this split" + _set(split, joined=True) if split else over


def _set(split: str, *, joined: bool) -> str:
    name = {"test": "test set", "val": "validation set", "train": "training set"}.get(split, "")
    return f"{' and ' if joined else ''}{name}" if name else ""


@dataclass(frozen=True)
class Headline:
    """A line that a reader can quote: of what it is, the value, and what that is over, n and the failures."""

    name: str
    value: str
    means: str = ""

    @property
    def line(self) -> str:
        return f"{self.name} {self.value}".strip()

    def __str__(self) -> str:
        return f"{self.line} ({self.means})" if self.means else self.line


def headline(report: Overview, row: Row) -> Headline:
    """Return the mean of a row with its interval, what that is over, n and the failures.

    "test/accuracy 0.9681 ± 0.0042 (95 % CI over seeds, this split and test set; n = 10, 0 failed)", say. Where a rule
    that looked at these seeds chose their number, the value is the mean ± the width that it was asked for, and the
    plain interval only describes.
    """
    met = _met(report, row)
    failed = met["used"] - met["n"] if met is not None else row.failed
    over = scope(
        "" if row.adopted else row.metric, report.vary, report.ratio, report.folds, converged=failed > 0,
        single=row.n == 1,
    )  # fmt: skip
    of = (f"{shown(row.label)}: " if row.label else "") + shown(row.metric)
    name = f"{of} of converged runs" if failed else of
    if met is not None:
        interval, counted = met["interval"], f"{failed} of {met['used']} failed" if failed else "0 failed"
        value = around(met["mean"], (interval["high"] - interval["low"]) / 2)
        looked = f"fixed-width rule, {plural(met['looks'], 'look')}"
        kind = f"{percent(interval['level'])} CI"
        return Headline(name, value, f"{kind} {over}; {looked}; n = {met['n']}, {counted}{_sharing(report, row)}")
    if row.n == 0:
        return Headline(f"{of}:", _nothing(row))
    counted = f"n = {row.n}{_out_of(row)}, {_failures(row)}{_sharing(report, row)}"
    value = around(row.mean or 0.0, row.half_width)
    if row.half_width is None:
        return Headline(name, value, f"no interval: one seed has no spread; {counted}")
    if row.half_width == 0:
        return Headline(name, value, f"all {row.n} seeds gave the same value; {counted}")
    peeked = f"; unadjusted for {plural(report.extensions, 'extension')}" if report.extensions else ""
    kind = f"descriptive {percent(row.level)} CI" if report.until else f"{percent(row.level)} CI"
    return Headline(name, value, f"{kind} {over}; {counted}{peeked}")


def _sharing(report: Overview, row: Row) -> str:
    """Return ", 3 shared a file": how many runs of a row may have read what another wrote."""
    cell = "/".join(filter(None, (row.task, row.variant)))
    runs = {key for each in report.shared if not each.in_turn for key in each.runs}
    count = sum(key.rpartition("/")[0] == cell for key in runs)
    return f", {count} shared a file" if count else ""


def silence(counts: Counts) -> str:
    """Say why there is no value at all."""
    if counts.failed == counts.planned:
        return f"no mean: all {counts.planned} runs failed"
    if counts.ok:
        return "no run reports a metric"
    return f"no run has finished (0 of {counts.planned})"


def standing(report: Overview) -> list[Headline]:
    """Return what is read first: the headline of the only variant, or for each task the variant with the best mean.

    It is called the best where some other is worse than it by Holm over all pairs. Scores over all tasks come first,
    and of more than `MOST_TASKS` tasks alone.
    """
    by_task: dict[str, list[Row]] = {}
    for row in report.primary_rows:
        by_task.setdefault(row.task, []).append(row)
    found = [_leading(report, rows) for rows in by_task.values()] or [Headline("", silence(report.counts))]
    pooled = [*_over_tasks(report)]
    return pooled if pooled and len(found) > MOST_TASKS else [*pooled, *found]


def _over_tasks(report: Overview) -> Iterator[Headline]:
    """Yield the variant with the highest interquartile mean over all tasks, where there is one."""
    best = max((one for one in report.across if one.iqm is not None), key=lambda one: one.iqm or 0.0, default=None)
    if best is None or best.iqm is None:
        return
    letter = report.variants[best.variant].letter
    who = f"{letter} ({shown(best.label)}) has the highest " if len(report.across) > 1 else ""
    value = number(best.iqm, 3)
    means = f"n = {count_of(best.seeds, best.planned)}, {_failed(report.counts)}"
    if best.iqm_low is not None:
        value += f", {percent(best.level)} CI {limits(best.iqm_low, best.iqm_high, 3)}"
        means = f"over seeds, for these tasks; {means}"
    tasks = plural(best.tasks, "task")
    yield Headline("", f"over {tasks}: {who}interquartile mean of normalised {shown(best.metric)}: {value}", means)


def _failed(counts: Counts) -> str:
    unknown = isinstance(counts, Adopted) and not counts.failed
    return "failures unknown" if unknown else f"{counts.failed} of {plural(counts.planned, 'run')} failed"


def _leading(report: Overview, rows: Sequence[Row]) -> Headline:
    leader = leading(rows)
    if len(rows) == 1 or leader is None:
        return headline(report, leader or rows[0])
    made, one = headline(report, replace(leader, label="")), report.variants[leader.variant]
    task = without_hash([leader.task])[0]
    name = (f"{shown(task)}: " if task else "") + f"{one.letter} ({shown(one.label)})"
    alike = sum(row.best for row in rows) - 1 if leader.best else None
    failed = any(row.failed for row in rows) and not leader.failed
    return Headline("", ranked(name, made.line, len(rows) - 1, alike, goal=leader.goal, failed=failed), made.means)


def ranked(name: str, value: str, others: int, alike: int | None, *, goal: Goal | None, failed: bool) -> str:
    """Say how the best mean stands to the others, of which so many are not distinguishable from it; None: untested."""
    if alike is None:
        return f"{name} has the {'best' if goal else 'largest'} mean{' of converged runs' if failed else ''}: {value}"
    if alike == others:
        said = f"none of the {others} others is" if others > 1 else "the other is not"
        return f"{name} has the best mean: {value}; {said} distinguishable from it"
    if not alike:
        return f"{name} is best: {value}; {f'all {others} others are' if others > 1 else 'the other is'} worse"
    return f"{name} is best: {value}; {alike} other{'s are' if alike > 1 else ' is'} not distinguishable from it"


def leading(rows: Sequence[Row]) -> Row | None:
    """Return the row of the best mean, or of a metric without a goal the largest."""
    return next((row for row in by_mean(rows, rows[0].goal if rows else None) if row.mean is not None), None)


def by_mean(found: Iterable[Averaged], goal: Goal | None) -> list[Averaged]:
    """Return rows or arms with the best mean first, without a goal the largest; those without a mean come last."""
    sign = 1.0 if goal == "min" else -1.0
    return sorted(found, key=lambda one: (one.mean is None, sign * (one.mean or 0.0)))


def count_of(n: int, planned: int) -> str:
    """Return "5", or "4 of 5" where some are left out."""
    return str(n) if n == planned else f"{n} of {planned}"


def _met(report: Overview, row: Row) -> Mapping[str, Any] | None:
    """Return what the manifest keeps of a fixed-width rule that was met for this row.

    None where every seed has a split of its own: the rule does not pay for the data that splits share.
    """
    if "split" in report.vary:
        return None
    for cell in report.until.get("cells", ()):
        if (cell["task"], cell["variant"], cell["metric"]) == (row.task, row.variant, row.metric):
            met = cell.get("state") == "met" and cell.get("interval") and cell.get("mean") is not None
            return cell if met else None
    return None


def _out_of(row: Row) -> str:
    """Why n is not the number of planned seeds, failures aside."""
    parts = []
    if row.missing:
        parts.append(f"{row.missing} ok without this metric")
    if row.lost:
        parts.append(f"{row.lost} lost")
    if row.pending:
        parts.append(f"{row.pending} {'missing' if row.adopted else 'pending'}")
    return f" of {row.planned} ({', '.join(parts)})" if parts else ""


def _failures(row: Row) -> str:
    if not row.failed:
        return "failures unknown" if row.adopted else "0 failed"
    if row.adopted:
        return f"{row.failed} of {row.ok + row.failed} failed, others unknown"
    return f"{row.failed} of {row.ok + row.failed} failed ({_rate(row)})"


def _rate(row: Row) -> str:
    return f"failure rate {percent(row.failure_low, 2)} to {percent(row.failure_high, 2)}"


def _nothing(row: Row) -> str:
    if row.failed and row.failed == row.planned:
        return f"no mean: all {row.planned} seeds failed"
    if row.failed and not row.ok:
        return f"no mean yet: {row.failed} of {row.planned} seeds failed, none is ok"
    if row.ok:
        return f"no mean: none of {row.ok} ok seeds reports it"
    return f"no seed has finished (0 of {row.planned})"


def rates(rows: Sequence[Row], *, clean: bool = True) -> Iterator[str]:
    """Return what is known of each variant's failure rate, named where there are several.

    clean: also of the variants without a failure, which share a line where it is the same.
    """
    several = any(row.label for row in rows)
    for row in rows:
        if row.failed:
            yield (f"{shown(row.label)}: " if several else "") + at_most(row)
    others = [row for row in rows if not row.failed and row.ok] if clean else []
    alike = dict.fromkeys(at_most(row) for row in others)
    for text in alike:
        names = [shown(row.label) for row in others if at_most(row) == text]
        yield (f"{listed(names)}: " if (several and len(others) < len(rows)) or len(alike) > 1 else "") + text


def failed_of(failed: int | None, ok: int) -> str:
    """Return "1 of 5"; "unknown" where nobody knows."""
    return "unknown" if failed is None else f"{failed} of {ok + failed}"


def at_most(row: Row) -> str:
    """Return "0 of 5 failed: failure rate at most 52 %"."""
    finished = row.ok + row.failed
    if row.adopted:
        return f"{row.failed} of {finished} failed; the failure rate is unknown: not run here"
    if row.failed:
        return f"{row.failed} of {finished} failed: {_rate(row)}"
    return f"0 of {finished} failed: failure rate at most {percent(row.failure_high, 2)}"
