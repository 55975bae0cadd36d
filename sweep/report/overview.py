"""The report of a directory as a Document: `brief` (a dozen lines, the answer first and last) or `everything`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from sweep.analysis.model import Across, Cause, Progress, Reached, Row, Score, Spread, Together
from sweep.analysis.remarks import Parts
from sweep.errors import listed
from sweep.goals import with_arrow
from sweep.number import limits, number, percent, places, signed
from sweep.report import document, sentence
from sweep.report.counts import counted
from sweep.report.document import Document, Note, Section, Table, rest
from sweep.report.evaluation import scored
from sweep.report.remarks import reproducibility_in_short, said_of
from sweep.report.sentence import MOST_TASKS, Headline, by_mean, count_of, failed_of, of, rate, standing
from sweep.report.worded import Report
from sweep.seeds import format_seeds
from sweep.store.record import IN_WORDS
from sweep.variants import without_hash
from sweep.words import path_argument, plural, shown

MOST_ROWS = 60  # rows of the table of metrics; with more, only the primary metric is shown
MOST_BRIEF = 12  # rows of the brief table
MOST_CAUSES = 8
MOST_CELLS = 8  # rows of the tables of spreads
MOST_PAIRS = 6  # pairs, those of four variants
NUMBER = re.compile(r"[-+]?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
FULL = "--full"
JSON = "--format json has every one"


def text(report: Report, *, width: int = 80, color: bool = False) -> str:
    """Return everything (see `everything`) for a terminal of `width` columns."""
    return document.text(everything(report), width=width, color=color)


def brief_text(report: Report, *, width: int = 80, color: bool = False) -> str:
    """Return the brief report (see `brief`) for a terminal of `width` columns."""
    return document.text(brief(report), width=width, color=color)


def brief(report: Report) -> Document:
    """Return the value or the verdict, the counts, the primary metric of each variant and the failures."""
    said = standing(report)
    about = [
        ("stopping", shown(report.stopping, 400)),
        ("bit-exact", reproducibility_in_short(report.stamp) if report.mode == "deterministic" else ""),
        *(("note", note) for note in report.notes[:2]),
    ]
    pooled = sorted((one for one in report.across if one.iqm is not None), key=lambda one: -(one.iqm or 0.0))
    blocks = [
        [*_lead(said), Note(counted(report.counts))],
        across(pooled[:MOST_BRIEF]),
        _primary(report),
        scored(report.items),
        [*_groups(report, 3), *_warnings(report, 3)],
        [
            *_labelled(about), *_commands(report, report.next[:1]),
            Note(f"sweep report {path_argument(report.directory)} --full", "command", "more"), *_again(said),
        ],
    ]  # fmt: skip
    return Document(report.name, [Section("", [*block]) for block in blocks])


def everything(report: Report) -> Document:
    """Return everything that fits a terminal; `--json` and the page have more."""
    said, parts = standing(report), Parts()
    blocks: list[tuple[str, Callable[[], Iterable[Note | Table]]]] = [
        ("the headline", lambda: [*_lead(said), Note(counted(report.counts))]),
        ("the table of metrics", lambda: metrics(report)),
        ("the scores over tasks", lambda: across(report.across)),
        ("the probability of improvement", lambda: improvements(report)),
        ("the curve over tasks", lambda: progress(report.progress)),
        ("the scores of items", lambda: scored(report.items)),
        ("the spread of the seeds", lambda: spread(report.spreads)),
        ("the ensemble", lambda: together(report.together)),
        ("the list of failures", lambda: causes(report)),
        ("the list of warnings", lambda: _warnings(report)),
        ("the details", lambda: [*details(report), *_commands(report, report.next), *_again(said)]),
    ]
    sections = [Section("", parts.made(name, partial(_listed, make), [])) for name, make in blocks]
    return Document(
        report.name,
        [*sections, Section("", [Note(note, "plain", "note") for note in map(said_of, parts.remarks)])],
    )


def _listed(make: Callable[[], Iterable[Note | Table]]) -> list[Note | Table]:
    return list(make())


def _lead(said: Sequence[Headline]) -> Iterator[Note]:
    """Yield the headlines; the meaning of their values is shown once if all tasks share it."""
    told = said[:MOST_TASKS]
    shared = len({one.means for one in told if one.means}) == 1
    for one in told:
        yield Note(one.line, "lead")
        if one.means and (not shared or one is told[-1]):
            yield Note(f"({one.means})")
    yield from _untold(said)


def _again(said: Sequence[Headline]) -> Iterator[Note]:
    yield from (Note(one.line, "lead") for one in said[:MOST_TASKS])
    yield from _untold(said)


def _untold(said: Sequence[Headline]) -> list[Note]:
    return rest(len(said) - MOST_TASKS, "task", FULL)


def _primary(report: Report) -> Iterator[Table | Note]:
    """Yield the rows of the primary metric, the best mean first, each parameter in a column of its own.

    If there are scores over all tasks, many rows are left out.
    """
    rows = report.primary_rows
    if not rows:
        return
    if len(rows) > MOST_BRIEF and any(one.iqm is not None for one in report.across):
        yield Note(f"{plural(len(rows), 'row')}, one per task and variant: {FULL}")
        return
    tasks = dict(zip(found := list(dict.fromkeys(row.task for row in rows)), without_hash(found), strict=True))
    keys = list(dict.fromkeys(key for one in report.variants.values() for key in one.params))
    several = len(report.variants) > 1
    metric = with_arrow(rows[0].metric, rows[0].goal)
    ranked = [row for task in tasks for row in by_mean([row for row in rows if row.task == task], rows[0].goal)]
    table, columns = [], 4 if several else 6  # min and max are left out if there are many rows
    for row in ranked[:MOST_BRIEF]:
        one = report.variants[row.variant]
        names = [tasks[row.task]] if len(tasks) > 1 else []
        names += [one.letter, *(one.params.get(key, "") for key in keys)] if several else []
        names += [one.label] if several and not keys else []
        table.append([*(names or [metric]), *_numbers(row)[:columns]])
    header = ["task"] if len(tasks) > 1 else []
    header += ["", *(keys or ["variant"])] if several else []
    yield Table(
        [*(header or [""]), *_columns(report)[:columns]], table, names=max(len(header), 1), notes=[*_footnotes(rows)]
    )
    yield from rest(len(ranked) - MOST_BRIEF, "row", FULL)


def _columns(report: Report) -> list[str]:
    return ["n", "mean", "sd", f"{percent(report.level)} CI (Student t)", "min", "max"]


def metrics(report: Report, most: int = MOST_ROWS) -> Iterator[Table | Note]:
    """Return the table of metrics; with more rows than `most`, only those of the primary metric."""
    if not report.rows:
        return
    rows = report.rows if len(report.rows) <= most else report.primary_rows
    several = any(row.label for row in rows)
    table: list[Sequence[str] | str] = []
    previous = ""
    for row in rows[:most]:
        name = with_arrow(row.metric, row.goal)
        if several and row.metric != previous:
            table.append(f"{name} ({'primary' if row.primary else 'exploratory'})")
        elif not several and not row.primary and (not previous or previous == report.primary):
            table.append("exploratory")
        previous = row.metric
        table.append([f"  {row.label}" if several else name, *_numbers(row)])
    yield Table(["", *_columns(report)], table, notes=[*_footnotes(rows)])
    yield from rest(len(report.rows) - min(len(rows), most), "row", JSON)


def _numbers(row: Row) -> list[str]:
    # With many seeds the interval is finer than the spread.
    scale = places(min(row.sd, row.half_width)) if row.sd is not None and row.half_width is not None else None
    interval = "none (n < 2)" if row.low is None else limits(row.low, row.high, scale)
    mean, sd, low, high = (number(value, scale) for value in (row.mean, row.sd, row.min, row.max))
    return [count_of(row.n, row.planned), mean, sd, interval, low, high]


def _footnotes(rows: Sequence[Row]) -> Iterator[str]:
    if any(row.failed for row in rows):
        yield "mean, sd and interval are over finished seeds only"
    missing = dict.fromkeys(f"{shown(row.metric)} ({row.missing})" for row in rows if row.missing)
    if missing:
        yield f"not reported, or not finite, in some ok seeds: {listed(list(missing))}"


def together(found: Sequence[Together]) -> Iterator[Table | Note]:
    """Yield the scores of ensembles beside those of their members, or why there are none."""
    table: list[Sequence[str] | str] = []
    refused: list[Note] = []
    for one in found:
        if one.reason:
            why = shown(sentence.why(one), 300)
            refused.append(Note(f"{of(one.label)}no ensemble on {shown(one.split)}: {why}"))
            continue
        count = count_of(one.members, one.planned)
        table.append(f"{of(one.label)}{count} members, {shown(one.split)}, {plural(one.examples, 'example')}")
        table += [_score(score) for score in one.scores]
    if table:
        marked = any(score.by_construction for one in found for score in one.scores)
        notes = ["* never worse than the members' mean, by construction"] if marked else []
        yield Table(["ensemble beside its members", "ensemble", "members' mean", "difference"], table, notes=notes)
    yield from refused


def _score(score: Score) -> list[str]:
    scale = min(max(places(score.difference) or 4, 3), 6)
    mark = "*" if score.by_construction else ""
    name = with_arrow(f"  {shown(score.metric)}", score.goal) + mark
    values = (number(value, scale) for value in (score.ensemble, score.members_mean))
    return [name, *values, signed(score.difference, scale)]


def causes(report: Report, most: int = MOST_CAUSES, *, clean: bool = False) -> Iterator[Table | Note]:
    """Yield the failure rates, the medians over all seeds, and each kind of failure. clean: also if nothing failed."""
    if report.causes:
        yield Note("without a result", "lead")
    failed = [row for row in report.primary_rows if row.failed]
    clear = [row for row in report.primary_rows if clean and row.ok and not row.failed]
    told, others = (failed, clear) if failed or len(clear) > 1 else (clear, [])
    middle = {(one.task, one.variant): sentence.middle(one) for one in report.medians}
    rows = [
        [row.label or row.metric, failed_of(row.failed, row.ok), "unknown" if row.adopted else rate(row),
         middle.get((row.task, row.variant), "—")]
        for row in told[: 3 * most]
    ]  # fmt: skip
    if rows:
        ci = f"{percent(report.level)} CI"
        columns = ["seeds that ended", "failed", f"failure rate, {ci}", f"median, failed ranked worst, {ci}"]
        yield Table(columns, rows)
    yield from rest(len(told) - len(rows), "row", JSON)
    if others and failed:
        yield Note(f"no seed of the {plural(len(others), 'other row').removeprefix('1 ')} failed", "aside")
    elif others:
        yield Note(_none_failed(report, others), "aside")
    yield from _groups(report, most)


def _none_failed(report: Report, rows: Sequence[Row]) -> str:
    least = min(rows, key=lambda row: row.ok)
    more = " or more" * any(row.ok > least.ok for row in rows)
    places = "variants and tasks" if any(row.task for row in rows) else "variants"
    bound = "" if least.adopted else f": a failure rate of {rate(least)} in each ({percent(report.level)} CI)"
    return f"none of {least.ok}{more} seeds failed in any of {len(rows)} {places}{bound}"


def _groups(report: Report, most: int) -> Iterator[Note]:
    """Yield each kind of failure once, with its runs and the log of the first.

    Failures whose messages differ only in numbers are one kind; a number that differs is shown as #.
    """
    found: dict[tuple[str, ...], list[Cause]] = {}
    for one in report.causes:
        key = (one.kind, one.phase, one.exception, one.where, NUMBER.sub("#", sentence.cause(one)))
        found.setdefault(key, []).append(one)
    groups = sorted(found.items(), key=lambda group: -len(group[1]))
    for (*_, masked), group in groups[:most]:
        first = group[0]
        said = sentence.cause(first) if all(one.message == first.message for one in group) else masked
        said = f"{first.exception}: {said}" if first.exception and first.kind != "raised" else said
        yield Note(f"{_title(group, report)}: {shown(said, 160)}", "failure")
        if log := next((one.log for one in group if one.log), ""):
            yield Note(shown(log, 300), "command", "  log")
    if more := sum(len(group) for _, group in groups[most:]):
        yield Note(f"… and {plural(more, 'more run')} without a result: {JSON}")


def _title(group: Sequence[Cause], report: Report) -> str:
    """Return "16 × RuntimeError at tiny.py:5 (B, E; seeds 13, 14 and 3 more)"."""
    first = group[0]
    what = first.exception if first.kind == "raised" and first.exception else IN_WORDS.get(first.kind, first.kind)
    phase = f" in {shown(first.phase)}" if first.phase not in ("", "train") else ""
    where = f" at {shown(first.where, 120)}" if first.where else ""
    seeds = sorted({one.seed for one in group})
    runs = [f"seed{'s' * (len(seeds) > 1)} {listed(format_seeds(seeds).split(','), 6)}"]
    if len(report.variants) > 1:
        letters = {report.variants[one.variant].letter for one in group}
        runs.insert(0, listed(sorted(letters, key=lambda name: (len(name), name)), 8))
    if tasks := sorted({one.task for one in group} - {""}):
        runs.insert(0, listed([shown(task) for task in without_hash(tasks)]))
    return f"{len(group)} × {shown(what)}{phase}{where} ({'; '.join(runs)})"


def _warnings(report: Report, most: int | None = None) -> Iterator[Note]:
    yield from (Note(text, "warning") for text in report.warnings[:most])
    yield from rest(len(report.warnings) - (most or len(report.warnings)), "warning", FULL)


def details(report: Report, most: int = 5) -> Iterator[Note]:
    """Yield how the runs were made. most: number of notes."""
    repeats = f", {report.repeats} repeats each" if report.repeats > 1 else ""
    repeats += f", {report.folds} folds each" if report.folds else ""
    return _labelled([
        ("result", report.result),
        ("mode", report.how),
        ("seeds", listed(format_seeds(report.seeds).split(","), 12) + repeats + _extended(report)),
        ("stopping", shown(report.stopping, 400)),
        ("machine", _machine(report)),
        ("bit-exact", report.reproducibility),
        *(("note", note) for note in report.notes[:most]),
    ])  # fmt: skip


def _labelled(found: Iterable[tuple[str, str]]) -> Iterator[Note]:
    return (Note(text, "plain", name) for name, text in found if text)


def _commands(report: Report, found: Sequence[str]) -> Iterator[Note]:
    yield Note(report.directory, "command", "directory")
    yield from (Note(command, "command", "" if i else "next") for i, command in enumerate(found))


def _extended(report: Report) -> str:
    if not report.extensions:
        return ""
    return f"; extended {plural(report.extensions, 'time')} after results existed (intervals unadjusted)"


def _machine(report: Report) -> str:
    if not report.environments:
        return ""
    first, more = report.environments[0], len(report.environments) - 1
    return shown(sentence.machine(first), 200) + (f", and {plural(more, 'other')} (see warnings)" if more else "")


def spread(found: Sequence[Spread]) -> Iterator[Table | Note]:
    """Yield the sd of each cell with its interval, the best seed beside the best expected by chance, and causes."""
    told = found[:MOST_CELLS]
    if not told:
        return
    level = percent(told[0].level)
    table: list[Sequence[str]] = []
    for one in told:
        scale = places(min(one.sd, (one.sd_high - one.sd_low) / 2))  # with many seeds the interval is finer
        ends = limits(one.sd_low, one.sd_high, scale)
        best = "—" if one.best is None else number(one.best, scale)
        table.append([one.label or one.metric, number(one.sd, scale), ends, best, number(one.expected, scale)])
        if one.repeat_sd is not None:
            ends = limits(one.repeat_low, one.repeat_high, scale)
            table.append(["  repeats of one seed", number(one.repeat_sd, scale), ends, "", ""])
    counts = sorted({one.seeds for one in told})
    many = f"{counts[0]} seeds" if len(counts) == 1 else "the seeds"
    notes = [f"expected by chance: the expected best of {many} that differ only by chance"]
    if len(found) > len(told):
        notes.insert(0, f"… and {len(found) - len(told)} more: {JSON}")
    header = ["spread between seeds", "sd", f"{level} CI of the sd", "best", "expected by chance"]
    yield Table(header, table, notes=notes)
    yield from map(Note, _true(told))


def _true(found: Sequence[Spread]) -> Iterator[str]:
    for one in found:
        if one.true_low is None or one.true_high is None or one.true_mean is None:
            continue
        scale = places((one.true_high - one.true_low) / 2)
        true = f"{of(one.label)}true {shown(one.metric)}, over seeds and {one.examples} examples"
        ci = f"{percent(one.level)} CI {limits(one.true_low, one.true_high, scale)}"
        yield f"{true}: {number(one.true_mean, scale)}, {ci}; {sentence.training(one)}"
    chance = [one for one in found if one.mostly_chance]
    if chance:
        which = ", ".join(shown(one.label) for one in chance)
        yield (f"{which}: " if which else "") + sentence.chance(chance[0])


def across(found: Sequence[Across]) -> Iterator[Table | Note]:
    """Yield the mean and interquartile mean over tasks, or why there are none."""
    scored = [one for one in found if one.mean is not None]
    if not scored:
        yield from (Note(f"across tasks: {sentence.why(one)}") for one in found[:1])
        return
    level = percent(found[0].level)
    rows = [
        [one.label or one.metric, number(one.mean, 3), _ends(one.mean_low, one.mean_high), number(one.iqm, 3),
         _ends(one.iqm_low, one.iqm_high)] if one.mean is not None else [one.label or one.metric, "—", "—", "—", "—"]
        for one in found
    ]  # fmt: skip
    first = scored[0]
    notes = [f"{shown(first.metric)} over {sentence.over_tasks(first)}; {sentence.method(first)}"]
    notes += [f"{shown(one.label)}: {sentence.why(one)}" for one in found if one.mean is None]
    yield Table(["across tasks, normalised", "mean", f"{level} CI", "IQM", f"{level} CI"], rows, notes=notes)


def improvements(report: Report) -> Iterator[Table]:
    """Yield how often runs of the best variant score higher than those of others; for few variants, all pairs."""
    found, label = report.improvements, {folder: one.label for folder, one in report.variants.items()}
    told = found if len(found) <= MOST_PAIRS else [one for one in found if one.a == found[0].a]
    if not told:
        return
    rows = [[f"{label[one.a]} over {label[one.b]}", number(one.probability, 3), _ends(one.low, one.high)]
            for one in told[:MOST_BRIEF]]  # fmt: skip
    notes = [
        f"that a run scores higher than a run of the other variant on the same task, averaged over"
        f" {plural(told[0].tasks, 'task')}; ties count half; {told[0].method or 'no interval: too few tasks or seeds'}"
    ]
    if (more := len(found) - len(rows)) > 0:
        notes.append(f"… and {plural(more, 'more pair')}: {JSON}")
    yield Table(["probability of improvement", "", f"{percent(told[0].level)} CI"], rows, notes=notes)


def progress(found: Sequence[Progress]) -> Iterator[Table | Note]:
    """Yield the area under the curve of each variant over all tasks, and the steps to thresholds."""
    told = sorted((one for one in found if one.area is not None), key=lambda one: -(one.area or 0.0))[:MOST_BRIEF]
    if not told:
        yield from (Note(f"over the steps of training: {sentence.why(one)}") for one in found[:1])
        return
    first = told[0]
    rows = [
        [one.label or one.metric, number(one.area, 3), _ends(one.area_low, one.area_high), *map(_reached, one.reached)]
        for one in told
    ]  # fmt: skip
    notes = [
        f"{shown(first.metric)}, normalised, over these {plural(first.tasks, 'task')}, {plural(first.seeds, 'seed')}",
        "area: the mean height of each run's curve, as an interquartile mean over the runs",
        "steps until the interquartile mean over the runs reaches the score; in brackets, until its limits do",
    ]
    header = ["over the steps of training", "area", f"{percent(first.level)} CI"]
    yield Table([*header, *(f"steps to {number(one.threshold)}" for one in first.reached)], rows, notes=notes)


def _reached(found: Reached) -> str:
    """Return "225000 (200000 to 250000)", or "never (200000 at the earliest)"."""
    step = number(found.step, digits=9) if math.isfinite(found.step) else "never"
    if not math.isfinite(found.earliest):
        return step
    if math.isfinite(found.latest):
        return f"{step} ({number(found.earliest, digits=9)} to {number(found.latest, digits=9)})"
    return f"{step} ({number(found.earliest, digits=9)} at the earliest)"


def _ends(low: float | None, high: float | None) -> str:
    return "none" if low is None else limits(low, high, 3)
