"""Tables for a paper: Markdown and LaTeX (booktabs), rounded to what the spread supports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sweep.analysis.model import Row
from sweep.errors import StatisticsError, listed
from sweep.number import around, number, percent
from sweep.report import document, spreads
from sweep.report.document import Table
from sweep.report.sentence import failed_of
from sweep.report.worded import Report
from sweep.store.manifest import ADOPTED
from sweep.variants import without_hash
from sweep.words import plural, shown

Spread = Literal["ci", "sd"]
Columns = Literal["metrics", "tasks"]
Best = Set[tuple[str, str, str]]  # (directory, task, variant) of what may be set in bold

# Metrics that are shares of one: the others keep their unit whatever `in_percent` says.
SHARES = frozenset((
    "accuracy", "balanced_accuracy", "top5_accuracy", "f1", "precision", "recall", "auroc",
    "auprc", "ece", "error",
))  # fmt: skip


def markdown(*reports: Report, **asked: Any) -> str:
    """Return one row per configuration as a Markdown table, with its footnotes; `asked`: see `table`."""
    return document.markdown(document.of(table(reports, **asked)))


def latex(*reports: Report, **asked: Any) -> str:
    """Return the table of `markdown` as LaTeX, with caption and label; needs only the booktabs package."""
    names = list(dict.fromkeys(shown(report.name) for report in reports))
    key = "tab:" + re.sub(r"[^A-Za-z0-9]+", "-", "-".join(names))
    made = replace(table(reports, **asked), caption=f"{listed(names)}: mean over seeds", key=key)
    return document.latex(document.of(made))


def table(
    reports: Sequence[Report],
    *,
    columns: Columns = "metrics",
    metrics: Sequence[str] | None = None,
    in_percent: bool = False,
    spread: Spread = "ci",
    best: Best | None = None,
) -> Table:
    """Return one row per configuration; several reports share one table.

    columns: "metrics" gives each task rows of its own, "tasks" gives it a column. metrics: by default those of the
    primary metric's split, or with tasks as columns the primary one. spread: "ci" prints mean ± half-width of the t
    interval, "sd" mean ± standard deviation, and the header says which. best: what is not separated from the best in
    the primary metric, from `sweep.analysis.compare.best`; by default what a single report says itself. It is bold in
    tasks of which some configuration is separated from it: where the test tells nothing apart, nothing is bold.
    StatisticsError for a metric that no report has.
    """
    if not reports:
        raise StatisticsError("no report to make a table of")
    by_task = columns == "tasks"
    names = _metrics(reports, metrics or ([reports[0].primary] if by_task else None))
    scaled = {name for name in names if in_percent and _is_share(name) and not _beyond_one(name, reports)}
    winners = _winners(reports, best)
    what = f"± {percent(reports[0].level)} CI" if spread == "ci" else "± sd"
    titles = {name: f"{shown(name)}{' (%)' if name in scaled else ''} {what}" for name in names}
    lay_out = _by_task if by_task else _by_metric
    header, rows, bold = lay_out(reports, titles, winners, partial(_cell, scaled=scaled, spread=spread))
    return Table(
        header, rows, bold=frozenset(bold),
        notes=(*_notes(reports, names, spread, bool(bold)), *_unscaled(reports, names if in_percent else ())),
    )  # fmt: skip


Made = tuple[Sequence[str], Sequence[Sequence[str] | str], Set[tuple[int, int]]]  # header, rows, bold cells


def _by_metric(reports: Sequence[Report], titles: Mapping[str, str], winners: Best, cell: Callable[..., str]) -> Made:
    """Lay out a row for each variant of each task, a column for each metric."""
    rows: list[Sequence[str]] = []
    bold: set[tuple[int, int]] = set()
    for report, called in zip(reports, _called(reports), strict=True):
        of = {(row.task, row.variant, row.metric): row for row in report.rows}
        for task, variant in dict.fromkeys((row.task, row.variant) for row in report.rows):
            mine = [of.get((task, variant, name)) for name in titles]
            counted = next(row for row in (*mine, *report.rows) if row and (row.task, row.variant) == (task, variant))
            bold |= {(len(rows), 1 + j) for j, row in enumerate(mine) if row and _is_bold(report, row, winners)}
            cells = [cell(row, counted.ok) for row in mine]
            rows.append((_name(called, counted.label, len(reports)), *cells, str(counted.ok), _failed([counted])))
    return ("", *titles.values(), "n", "failed"), rows, bold


def _by_task(reports: Sequence[Report], titles: Mapping[str, str], winners: Best, cell: Callable[..., str]) -> Made:
    """Lay out a row for each variant, a column for each task; of several metrics, one after the other."""
    tasks = list(dict.fromkeys(row.task for report in reports for row in report.rows))
    rows: list[Sequence[str] | str] = []
    bold: set[tuple[int, int]] = set()
    for metric, title in titles.items():
        rows += [title] if len(titles) > 1 else []
        for report, called in zip(reports, _called(reports), strict=True):
            of = {(row.variant, row.task): row for row in report.rows if row.metric == metric}
            for variant in dict.fromkeys(variant for variant, _ in of):
                mine = [of.get((variant, task)) for task in tasks]
                there = [row for row in mine if row]
                most = max(row.ok for row in there)
                bold |= {(len(rows), 1 + j) for j, row in enumerate(mine) if row and _is_bold(report, row, winners)}
                name = _name(called, report.variants[variant].label, len(reports))
                rows.append((name, *(cell(row, most) for row in mine), str(most), _failed(there)))
    header = ["" if len(titles) > 1 else next(iter(titles.values())), *map(shown, without_hash(tasks)), "n", "failed"]
    return header, rows, bold


def _failed(rows: Sequence[Row]) -> str:
    failed = sum(row.failed for row in rows)
    return failed_of(None if rows[0].adopted and not failed else failed, sum(row.ok for row in rows))


def _winners(reports: Sequence[Report], best: Best | None) -> Best:
    """Return what is bold: a report knows its own best, and what stands beside other directories was compared."""
    mine = {(report.directory, row.task, row.variant): row.best for report in reports for row in report.primary_rows}
    if best is None:
        best = {arm for arm, alike in mine.items() if alike} if len(reports) == 1 else set()
    apart = {task for directory, task, variant in mine if (directory, task, variant) not in best}
    return {arm for arm in best if arm[1] in apart}


def _is_bold(report: Report, row: Row, winners: Best) -> bool:
    return row.primary and (report.directory, row.task, row.variant) in winners


def _metrics(reports: Sequence[Report], asked: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(name for report in reports for name in report.metrics))
    for name in asked or ():
        if name not in known:
            raise StatisticsError(f"no run reports {name!r}", hint=f"reported: {listed(known, 20) or 'nothing'}")
    if asked:
        return list(asked)
    primary = reports[0].primary
    split = primary.partition("/")[0]
    return [name for name in known if name == primary or name.partition("/")[0] == split]


def _called(reports: Sequence[Report]) -> list[str]:
    """What tells the reports apart: their names, else their folders' names, else their paths."""
    names = [report.name for report in reports]
    folders = [Path(report.directory).name for report in reports]
    distinct = (found for found in (names, folders) if len(set(found)) == len(found))
    return next(distinct, [report.directory for report in reports])


def _name(called: str, label: str, reports: int) -> str:
    if reports == 1:
        return shown(label or called)
    return shown(f"{called}: {label}" if label else called)


def _is_share(metric: str) -> bool:
    return metric.rpartition("/")[2] in SHARES


def _beyond_one(metric: str, reports: Sequence[Report]) -> list[float]:
    """The values of a metric that no share of one can have."""
    ends = (v for report in reports for row in report.rows if row.metric == metric for v in (row.min, row.max))
    return [v for v in ends if v is not None and not 0 <= v <= 1]


def _cell(row: Row | None, ok: int, *, scaled: Set[str], spread: Spread) -> str:
    if row is None or row.mean is None:
        return "—"
    spread_ = row.half_width if spread == "ci" else row.sd
    text = around(row.mean, spread_, percent=row.metric in scaled)
    return text if row.n == ok else f"{text} (n = {row.n})"


def _notes(reports: Sequence[Report], names: Sequence[str], spread: Spread, bold: bool) -> Iterator[str]:
    first = reports[0]
    interval = (
        f"half-width of the {percent(first.level)} Student t interval" if spread == "ci" else "standard deviation (sd)"
    )
    yield f"Mean ± {interval} {first.over}; n counts seeds that finished."
    if any(row.failed for report in reports for row in report.rows):
        yield "Means are over converged seeds only; failed seeds are counted in the last column."
    for report, called in zip(reports, _called(reports), strict=True):
        of = f"{shown(called)}: " if len(reports) > 1 else ""
        yield from (f"{of}{spreads.median(one)}." for one in report.medians if one.failed)
    for report, called in zip(reports, _called(reports), strict=True):
        of = f"{shown(called)}: " if len(reports) > 1 else ""
        yield from (f"Across tasks, {of}{spreads.together(one)}." for one in report.across if one.mean is not None)
    others = [shown(name) for name in names if name != first.primary]
    if others:
        yield f"Primary metric: {shown(first.primary)}; exploratory: {listed(others, 20)}."
    if bold:
        yield (
            "Bold: not separated from the best by Holm over all pairs (paired t where planned seeds are shared), where"
            " some other is."
        )
    for report, called in zip(reports, _called(reports), strict=True):
        if report.until:
            late = "; it was named after results existed" if report.until.get("named_late") else ""
            yield f"{shown(called)}: a rule chose the number of seeds: {shown(report.stopping, 400)}{late}."
    for report, called in zip(reports, _called(reports), strict=True):
        times = plural(report.extensions, "time")
        extended = f"; extended {times} after results existed" if report.extensions else ""
        pending = report.counts.pending + report.counts.lost
        open_ = f"; {pending} of {report.counts.planned} runs have no result yet" if pending else ""
        if report.mode == ADOPTED:
            yield f"{shown(called)}: {report.reproducibility}{f'; {report.counts}' if pending else ''}{extended}."
            continue
        yield (
            f"{shown(called)}: {report.mode} mode; result: {report.result or 'none'};"
            f" bit-exact: {report.reproducibility}{extended}{open_}."
        )


def _unscaled(reports: Sequence[Report], names: Sequence[str]) -> Iterator[str]:
    """Which shares were asked for in percent and are no shares of one."""
    for name in names:
        beyond = _beyond_one(name, reports)
        if _is_share(name) and beyond:
            yield f"{shown(name)} reaches {number(beyond[-1])}, so it is no share of one: printed as it was reported."
