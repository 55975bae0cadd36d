"""Tables for a paper: Markdown and LaTeX (booktabs), rounded to what the spread supports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Literal

from sweep.analysis.model import Row
from sweep.errors import StatisticsError, listed
from sweep.number import around, number, percent
from sweep.report import document, spreads
from sweep.report.document import Table
from sweep.report.sentence import failed_of
from sweep.report.worded import Report
from sweep.store.manifest import ADOPTED
from sweep.words import plural, shown

Spread = Literal["ci", "sd"]
Best = Set[tuple[str, str, str]]  # (directory, task, variant) of what may be set in bold

# Metrics that are shares of one: the others keep their unit whatever `in_percent` says.
SHARES = frozenset((
    "accuracy", "balanced_accuracy", "top5_accuracy", "f1", "precision", "recall", "auroc",
    "auprc", "ece", "error",
))  # fmt: skip


def markdown(
    *reports: Report,
    metrics: Sequence[str] | None = None,
    in_percent: bool = False,
    spread: Spread = "ci",
    best: Best | None = None,
) -> str:
    """Return one row per configuration as a Markdown table, with its footnotes; several reports share one table.

    metrics: by default those of the primary metric's split. spread: "ci" prints mean ± half-width of the t
    interval, "sd" mean ± standard deviation, and the header says which. best: what is bold in the primary
    metric, from `sweep.analysis.compare.best`; by default what a single report says itself.
    StatisticsError for a metric that no report has.
    """
    return document.markdown(document.of(_table(reports, metrics, in_percent, spread, best)))


def latex(
    *reports: Report,
    metrics: Sequence[str] | None = None,
    in_percent: bool = False,
    spread: Spread = "ci",
    best: Best | None = None,
) -> str:
    """Return the table of `markdown` as LaTeX; needs only the booktabs package."""
    return document.latex(document.of(_table(reports, metrics, in_percent, spread, best)))


def _table(
    reports: Sequence[Report], metrics: Sequence[str] | None, in_percent: bool, spread: Spread, best: Best | None
) -> Table:
    if not reports:
        raise StatisticsError("no report to make a table of")
    names = _metrics(reports, metrics)
    scaled = {name for name in names if in_percent and _is_share(name) and not _beyond_one(name, reports)}
    rows: list[tuple[str, ...]] = []
    bold: set[tuple[int, int]] = set()
    for report, called in zip(reports, _called(reports), strict=True):
        of = {(row.task, row.variant, row.metric): row for row in report.rows}
        for task, variant in dict.fromkeys((row.task, row.variant) for row in report.rows):
            mine = [of.get((task, variant, name)) for name in names]
            counted = next(row for row in (*mine, *report.rows) if row and (row.task, row.variant) == (task, variant))
            cells = [_cell(row, counted.ok, scaled, spread) for row in mine]
            bold |= {(len(rows), 1 + j) for j, row in enumerate(mine) if row and _bold(report, row, reports, best)}
            failed = failed_of(None if counted.adopted and not counted.failed else counted.failed, counted.ok)
            rows.append((_name(called, counted, len(reports)), *cells, str(counted.ok), failed))
    what = f"± {percent(reports[0].level)} CI" if spread == "ci" else "± sd"
    columns = [f"{shown(name)}{' (%)' if name in scaled else ''} {what}" for name in names]
    header = ("", *columns, "n", "failed")
    return Table(
        header,
        tuple(rows),
        bold=frozenset(bold),
        notes=(*_notes(reports, names, spread, bool(bold)), *_unscaled(reports, names if in_percent else ())),
    )


def _bold(report: Report, row: Row, reports: Sequence[Report], best: Best | None) -> bool:
    """A report knows its own best; what stands beside other directories was compared with them or is not bold."""
    if best is None:
        return len(reports) == 1 and row.best
    return row.primary and (report.directory, row.task, row.variant) in best


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


def _name(called: str, row: Row, reports: int) -> str:
    if reports == 1:
        return shown(row.label or called)
    return shown(f"{called}: {row.label}" if row.label else called)


def _is_share(metric: str) -> bool:
    return metric.rpartition("/")[2] in SHARES


def _beyond_one(metric: str, reports: Sequence[Report]) -> list[float]:
    """The values of a metric that no share of one can have."""
    ends = (v for report in reports for row in report.rows if row.metric == metric for v in (row.min, row.max))
    return [v for v in ends if v is not None and not 0 <= v <= 1]


def _cell(row: Row | None, ok: int, scaled: Set[str], spread: Spread) -> str:
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
        yield from (f"Across tasks, {of}{spreads.together(one)}." for one in report.across)
    others = [shown(name) for name in names if name != first.primary]
    if others:
        yield f"Primary metric: {shown(first.primary)}; exploratory: {listed(others, 20)}."
    if bold:
        yield "Bold: not separated from the best by Holm over all pairs (paired t where planned seeds are shared)."
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
