"""The report on a terminal: one screen, aligned, plain text; colour only where somebody can see it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.cells import cell_len

from sweep.goals import ARROWS
from sweep.number import limits as between
from sweep.number import number, percent, places, signed
from sweep.report.layout import BOLD, DIM, INDENT, RED, STYLE, YELLOW, Line, aligned, paint, wrapped
from sweep.report.model import Cause, Report, Row, Score, Together
from sweep.report.parts import Parts
from sweep.report.plain_spread import across_lines, spread_lines
from sweep.report.sentence import rates
from sweep.report.words import listed, plural, shown
from sweep.seeds import format_seeds
from sweep.store.record import IN_WORDS

MOST_ROWS = 60  # rows of the metrics table beyond which only the primary metric is shown
MOST_CAUSES = 8


def text(report: Report, *, width: int = 80, color: bool = False) -> str:
    """The report as text for a terminal of `width` columns, ending in a newline.

    Lines that hold sentences are wrapped; a table wider than the terminal keeps its numbers and cuts names.
    """
    parts = Parts()

    def block(name: str, make: Callable[[], list[str]]) -> list[str]:
        return parts.made(name, make, [])

    blocks = [
        block("the headline", lambda: _head(report, width)),
        block("the table of metrics", lambda: _metrics(report, width)),
        block("the scores over tasks", lambda: across_lines(report.across, width)),
        block("the spread of the seeds", lambda: spread_lines(report.spreads, width)),
        block("the ensemble", lambda: _together(report.together, width)),
        block("the list of failures", lambda: _causes(report, width)),
        block("the list of warnings", lambda: _warnings(report, width)),
        block("the details", lambda: _details(report, width)),
    ]
    blocks.append([line for note in parts.notes for line in wrapped(f"note: {note}", width)])
    told = "\n\n".join("\n".join(block) for block in blocks if block) + "\n"
    return told if color else STYLE.sub("", told)


def wants_color(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: a terminal, and nobody said NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _head(report: Report, width: int) -> list[str]:
    lines = [paint(shown(report.name), BOLD), ""]
    many = len(report.headlines) > 6
    for headline in report.headlines[: 4 if many else None]:
        lines += _headline(headline, width)
    if many:
        lines.append(f"{INDENT}… and {len(report.headlines) - 4} more below")
    lines.append(INDENT + str(report.counts))
    return lines


def _headline(text: str, width: int) -> list[str]:
    """On one line if it fits; else the value on a line of its own and what it means below."""
    value, _, rest = text.partition(" (")
    strong = paint(value, BOLD)
    if not rest or cell_len(INDENT + text) <= width:
        return [INDENT + strong + (f" ({rest}" if rest else "")]
    return [INDENT + strong, *wrapped(f"({rest}", width)]


def _metrics(report: Report, width: int) -> list[str]:
    if not report.rows:
        return []
    rows = report.rows if len(report.rows) <= MOST_ROWS else report.primary_rows
    header = ["", "n", "mean", "sd", f"{percent(report.level)} CI (Student t)", "min", "max"]
    several = any(row.label for row in rows)
    table: list[Line | str] = [header]
    previous = ""
    for row in rows[:MOST_ROWS]:
        name = f"{shown(row.metric)} {ARROWS[row.goal]}".rstrip()
        if several and row.metric != previous:
            table.append(f"{name} ({'primary' if row.primary else 'exploratory'})")
        elif not several and not row.primary and (not previous or previous == report.primary):
            table.append("exploratory")
        previous = row.metric
        table.append([f"{INDENT}{shown(row.label)}" if several else name, *_numbers(row)])
    lines = aligned(table, width)
    if len(rows) < len(report.rows) or len(rows) > MOST_ROWS:
        lines.append(_more(report, len(rows)))
    return lines + _footnotes(rows, width)


def _more(report: Report, rows: int) -> str:
    hidden = len(report.rows) - min(rows, MOST_ROWS)
    return f"{INDENT}… and {hidden} more rows: --format json has every one"


def _numbers(row: Row) -> list[str]:
    # With many seeds the interval is finer than the spread.
    scale = places(min(row.sd, row.half_width)) if row.sd is not None and row.half_width is not None else None
    n = str(row.n) if row.n == row.planned else f"{row.n} of {row.planned}"
    limits = between(row.low, row.high, scale)
    interval = "none (n < 2)" if row.low is None else limits
    mean, sd, low, high = (number(value, scale) for value in (row.mean, row.sd, row.min, row.max))
    return [n, mean, sd, interval, low, high]


def _footnotes(rows: Sequence[Row], width: int) -> list[str]:
    lines = []
    if any(row.failed for row in rows):
        lines += wrapped("mean, sd and interval are over converged seeds only", width, DIM)
    missing = [f"{shown(row.metric)} ({row.missing})" for row in rows if row.missing]
    if missing:
        lines += wrapped(f"not reported, or not finite, in some ok seeds: {listed(missing)}", width, DIM)
    return lines


def _together(found: Sequence[Together], width: int) -> list[str]:
    table: list[Line | str] = [["ensemble beside its members", "ensemble", "members' mean", "difference"]]
    refused: list[str] = []
    for one in found:
        of = f"{shown(one.label)}: " if one.label else ""
        count = str(one.members) if one.members == one.planned else f"{one.members} of {one.planned}"
        if one.reason:
            refused += wrapped(f"{of}no ensemble on {shown(one.split)}: {shown(one.reason, 300)}", width)
            continue
        table.append(f"{of}{count} members, {shown(one.split)}, {plural(one.examples, 'example')}")
        table += [_score(score) for score in one.scores]
    lines = aligned(table, width) if len(table) > 1 else []
    if any(score.by_construction for one in found for score in one.scores):
        lines += wrapped("* never worse than the members' mean, by construction", width, DIM)
    return lines + refused


def _score(score: Score) -> Line:
    scale = min(max(places(score.difference) or 4, 3), 6)
    mark = "*" if score.by_construction else ""
    name = f"{INDENT}{shown(score.metric)} {ARROWS[score.goal]}".rstrip() + mark
    values = (number(value, scale) for value in (score.ensemble, score.members_mean))
    return [name, *values, signed(score.difference, scale)]


def _causes(report: Report, width: int) -> list[str]:
    if not report.causes:
        return []
    lines = [INDENT + paint("without a result", BOLD)]
    for rate in rates(report.primary_rows, clean=False):
        lines += wrapped(rate, width, DIM)
    for one in [one for one in report.medians if one.failed][:MOST_CAUSES]:
        lines += wrapped(one.sentence, width, DIM)
    alike: dict[tuple[str, ...], list[Cause]] = {}
    for cause in report.causes:
        alike.setdefault((cause.kind, cause.phase, cause.where, cause.exception, cause.message), []).append(cause)
    told = list(alike.values())[:MOST_CAUSES]
    for its in told:
        lines += _cause(its, width)
    if more := len(report.causes) - sum(map(len, told)):
        lines.append(f"{INDENT}… and {more} more: --format json has every one")
    return lines


def _cause(its: Sequence[Cause], width: int) -> list[str]:
    """What went wrong, once for all runs that it happened to, and the log of the first."""
    cause = its[0]
    what = f"{cause.exception}: {cause.message}" if cause.exception else cause.message
    phase = f" in {shown(cause.phase)}" if cause.phase not in ("", "train") else ""
    where = f" at {shown(cause.where, 120)}" if cause.where else ""
    who = paint(listed([shown(one.key) for one in its]), RED)
    kind = shown(IN_WORDS.get(cause.kind, cause.kind))
    lines = wrapped(f"{who} {kind}{phase}{where}: {shown(what, 240)}", width)
    if cause.log:
        lines.append(f"{INDENT * 3}{paint('log ' + shown(cause.log, 300), DIM)}")
    return lines


def _warnings(report: Report, width: int) -> list[str]:
    marked = (f"{paint('warning', YELLOW)}: {text}" for text in report.warnings)
    return [line for text in marked for line in wrapped(text, width)]


def _details(report: Report, width: int) -> list[str]:
    threads = plural(report.threads, "thread")
    repeats = f", {report.repeats} repeats each" if report.repeats > 1 else ""
    pairs = [
        ("result", report.result),
        ("mode", f"{report.mode}, {report.device}, {threads} a run"),
        ("seeds", listed(format_seeds(report.seeds).split(","), 12) + repeats + _extended(report)),
        ("stopping", _stopping(report)),
        ("machine", _machine(report)),
        ("bit-exact", report.reproducibility),
        *(("note", note) for note in report.notes[:5]),
        ("directory", shown(report.directory, 400)),
        *(("next" if i == 0 else "", command) for i, command in enumerate(report.next)),
    ]
    return [line for name, text in pairs if text for line in _detail(name, text, width)]


def _extended(report: Report) -> str:
    if not report.extensions:
        return ""
    return f"; extended {plural(report.extensions, 'time')} after results existed (intervals unadjusted)"


def _stopping(report: Report) -> str:
    """What the rule that chose the number of seeds found; its own interval, not the plain one, is the answer."""
    return shown(str(report.until.get("summary") or dict(report.until)), 400) if report.until else ""


def _machine(report: Report) -> str:
    if not report.environments:
        return ""
    first, rest = report.environments[0], len(report.environments) - 1
    return shown(first.summary, 200) + (f", and {rest} other (see warnings)" if rest else "")


def _detail(name: str, text: str, width: int) -> list[str]:
    label = paint(f"{name:<11}", DIM)
    if name in ("directory", "next", ""):  # to be copied whole: a wrapped command is a broken one
        return [INDENT + label + text]
    lines = textwrap.wrap(text, max(20, width - 13), break_on_hyphens=False) or [""]
    return [INDENT + label + lines[0], *(INDENT + " " * 11 + line for line in lines[1:])]
