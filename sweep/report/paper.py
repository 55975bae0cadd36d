"""Tables for a paper: Markdown and LaTeX (booktabs), rounded to what the spread supports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sweep.analysis.model import Row
from sweep.errors import StatisticsError, listed, unreported
from sweep.number import around, number, percent
from sweep.report import document, sentence
from sweep.report.counts import counted
from sweep.report.document import Table
from sweep.report.sentence import failed_of
from sweep.report.worded import Report
from sweep.store.manifest import ADOPTED
from sweep.variants import without_hash
from sweep.words import plural, shown

Spread = Literal["ci", "sd"]
Columns = Literal["metrics", "tasks"]
Best = Set[tuple[str, str, str]]  # (directory, task, variant) of the rows that may be set in bold

# Metrics that are shares of one. The others keep their unit, even with `in_percent`.
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
    interval, "sd" mean ± standard deviation, and the header names it. best: the configurations that are not separated
    from the best in the primary metric, from `sweep.analysis.compare.best`; by default those of a single report. They
    are bold only in tasks in which some other configuration is separated: without a shown difference, nothing is bold.
    Raises StatisticsError for a metric that no report has.
    """
    if not reports:
        raise StatisticsError("there is no report to make a table of")
    by_task = columns == "tasks"
    names = _metrics(reports, metrics or ([reports[0].primary] if by_task else None))
    scaled = {name for name in names if in_percent and _is_share(name) and not _beyond_one(name, reports)}
    winners = _winners(reports, best)
    what = f"± {percent(reports[0].level)} CI" if spread == "ci" else "± sd"
    titles = {name: f"{shown(name)}{' (%)' if name in scaled else ''} {what}" for name in names}
    tasks = list(dict.fromkeys(row.task for report in reports for row in report.rows))
    heads = dict(zip(tasks, map(shown, without_hash(tasks)), strict=True)) if by_task else titles
    rows: list[Sequence[str] | str] = []
    bold: set[tuple[int, int]] = set()
    for metric in names if by_task else [""]:  # one table below the other
        rows += [titles[metric]] if by_task and len(names) > 1 else []
        for report, called in _called(reports):
            for line in _lines(report, metric):
                counted = list({row.task: row for row in line.values()}.values())
                n = max(row.ok for row in counted)
                mine = [line.get(head) for head in heads]
                bold |= {(len(rows), 1 + j) for j, row in enumerate(mine) if row and _is_bold(report, row, winners)}
                cells = [_cell(row, n, scaled=scaled, spread=spread) for row in mine]
                label = report.variants[counted[0].variant].label if by_task else counted[0].label
                rows.append((_name(called, label, len(reports)), *cells, str(n), _failed(counted)))
    first = titles[names[0]] if by_task and len(names) == 1 else ""
    notes = (*_notes(reports, names, spread, bool(bold)), *_unscaled(reports, names if in_percent else ()))
    return Table((first, *heads.values(), "n", "failed"), rows, bold=frozenset(bold), notes=notes)


def _lines(report: Report, metric: str) -> Iterable[Mapping[str, Row]]:
    """Return the cells of each line by column: by metric, or by task if one `metric` is given."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in report.rows:
        if metric in ("", row.metric):
            line = ("" if metric else row.task, row.variant)
            found.setdefault(line, {})[row.task if metric else row.metric] = row
    return found.values()


def _failed(rows: Sequence[Row]) -> str:
    failed = sum(row.failed for row in rows)
    return failed_of(None if rows[0].adopted and not failed else failed, sum(row.ok for row in rows))


def _winners(reports: Sequence[Report], best: Best | None) -> Best:
    """Return the bold rows: the best of a single report, or `best`, which was compared over several directories."""
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
            raise unreported(name, known)
    if asked:
        return list(asked)
    primary = reports[0].primary
    split = primary.partition("/")[0]
    return [name for name in known if name == primary or name.partition("/")[0] == split]


def _called(reports: Sequence[Report]) -> list[tuple[Report, str]]:
    """Return each report with a distinct name: its own, else that of its folder, else its path."""
    names = [report.name for report in reports]
    folders = [Path(report.directory).name for report in reports]
    distinct = (found for found in (names, folders) if len(set(found)) == len(found))
    return list(zip(reports, next(distinct, [report.directory for report in reports]), strict=True))


def _name(called: str, label: str, reports: int) -> str:
    if reports == 1:
        return shown(label or called)
    return shown(f"{called}: {label}" if label else called)


def _is_share(metric: str) -> bool:
    return metric.rpartition("/")[2] in SHARES


def _beyond_one(metric: str, reports: Sequence[Report]) -> list[float]:
    """Return the values of a metric that are outside 0 to 1."""
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
        yield "Means are over finished seeds only; failed seeds are counted in the last column."
    named = _called(reports)
    for report, called in named:
        of = f"{shown(called)}: " if len(reports) > 1 else ""
        yield from (f"{of}{sentence.median(one)}." for one in report.medians if one.failed)
        yield from (f"Across tasks, {of}{sentence.together(one)}." for one in report.across if one.mean is not None)
    others = [shown(name) for name in names if name != first.primary]
    if others:
        yield f"Primary metric: {shown(first.primary)}; exploratory: {listed(others, 20)}."
    if bold:
        yield (
            "Bold: not separated from the best by Holm over all pairs (paired t where planned seeds are shared), if any"
            " other configuration is."
        )
    for report, called in named:
        if report.until:
            late = "; it was named after results existed" if report.until.get("named_late") else ""
            yield f"{shown(called)}: a rule chose the number of seeds: {shown(report.stopping, 400)}{late}."
        parts = [report.reproducibility, counted(report.counts)] if report.mode == ADOPTED else [
            f"{report.mode} mode", f"result: {report.result or 'none'}", f"bit-exact: {report.reproducibility}"
        ]  # fmt: skip
        if report.extensions:
            parts.append(f"extended {plural(report.extensions, 'time')} after results existed")
        if (without := report.counts.pending + report.counts.lost) and report.mode != ADOPTED:
            parts.append(f"{without} of {report.counts.planned} runs have no result yet")
        yield f"{shown(called)}: {'; '.join(parts)}."


def _unscaled(reports: Sequence[Report], names: Sequence[str]) -> Iterator[str]:
    """Yield a note on each metric that was requested in percent and is not a share of one."""
    for name in names:
        beyond = _beyond_one(name, reports)
        if _is_share(name) and beyond:
            yield f"{shown(name)} reaches {number(beyond[-1])}, so it is not a share of one and is shown as reported."
