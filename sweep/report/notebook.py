"""A report in a notebook's cell, and a display updated in place: HTML without script or style sheet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from markupsafe import Markup

from sweep.aggregate import frame_of
from sweep.errors import StatisticsError
from sweep.goals import ARROWS
from sweep.number import percent
from sweep.report.live import Running, Tracker, html
from sweep.report.model import Report
from sweep.report.words import shown
from sweep.store import Member
from sweep.store.record import IN_WORDS

MOST_ROWS = 30
MOST_ARMS = 12
BETWEEN = 0.5  # seconds between two updates of a cell


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Rows of numbers behind a name, in the notebook's own look."""
    lines = (_line("th", header), *(_line("td", row) for row in rows))
    return Markup("<table>{}</table>").format(Markup("").join(lines))


def _line(tag: str, cells: Sequence[str]) -> Markup:
    made = (Markup("<{0}>{1}</{0}>").format(Markup(tag), cell) for cell in cells)
    return Markup("<tr>{}</tr>").format(Markup("").join(made))


def paragraph(text: str, label: str = "") -> Markup:
    """A sentence, behind a word in bold where there is one."""
    said = Markup("<strong>{}</strong>: {}").format(label, text) if label else text
    return Markup("<p>{}</p>").format(said)


def bold(text: str) -> Markup:
    return Markup("<p><strong>{}</strong></p>").format(text)


def headline(text: str) -> Markup:
    """A sentence that is read first."""
    return Markup("<p style='font-size:1.15em'>{}</p>").format(text)


def block(parts: Iterable[Markup]) -> str:
    """What a cell shows, of its parts."""
    return str(Markup("<div>{}</div>").format(Markup("").join(parts)))


def fragment(report: Report, members: Sequence[Member]) -> str:
    """The report as a few lines, a picture of the headline metric and a table; everything foreign is escaped."""
    lines = [bold(shown(report.name)), *(headline(text) for text in report.headlines[:MOST_ARMS])]
    lines.append(paragraph(str(report.counts)))
    lines += [paragraph(text, "warning") for text in report.warnings]
    lines += [
        paragraph(f"{shown(one.key)}: {shown(f'{IN_WORDS.get(one.kind, one.kind)}: {one.message}', 300)}")
        for one in report.causes[:8]
    ]
    rows = [row for row in report.primary_rows if row.n][:MOST_ARMS]
    if rows:
        from sweep.report import figures

        with suppress(StatisticsError):
            picture = figures.members(frame_of(members), report.primary, level=report.level,
                                      called={(row.task, row.variant): row.label for row in report.rows})  # fmt: skip
            lines.append(figures.inline(picture, "sweep", f"each seed's {shown(report.primary)}"))
    lines.append(_table(report))
    lines.append(Markup("<p>bit-exact: {}; next: <code>{}</code></p>").format(
        report.reproducibility, report.next[0] if report.next else ""))  # fmt: skip
    return block(lines)


def _table(report: Report) -> Markup:
    from sweep.report.html import numbers_of

    head = ["metric", "n", "mean", "sd", f"{percent(report.level)} CI (Student t)", "min", "max"]
    rows = []
    for row in report.rows[:MOST_ROWS]:
        cells = numbers_of(row)
        name = f"{shown(row.label)}: {shown(row.metric)}" if row.label else shown(row.metric)
        rows.append([f"{name} {ARROWS[row.goal]}", *(cells[k] for k in ("n", "mean", "sd", "interval", "min", "max"))])
    more = len(report.rows) - MOST_ROWS
    said = paragraph(f"… and {more} more rows") if more > 0 else Markup("")
    return table(head, rows) + said


class Cell:
    """A display that follows a sweep, updated in place twice a second at most."""

    def __init__(self, name: str, primary: str | None, phase: str) -> None:
        show: Any = import_module("IPython.display")
        self.tracker = Tracker(name, primary)
        self._html, self._phase, self._shown = show.HTML, phase, time.monotonic()
        self._handle: Any = show.display(show.HTML(html(self.tracker.view(phase=phase))), display_id=True)

    def begin(self, members: Iterable[Member]) -> None:
        """The runs that are planned, some of them ended already."""
        self.tracker.seen(members)
        self.tracker.begun = self.tracker.clock()
        self.update((), 0, now=True)

    def ended(self, key: str, status: str, metrics: dict[str, float], seconds: float) -> None:
        self.tracker.finished(key, status, metrics, seconds)
        self.update((), 0)

    def update(self, rows: Sequence[Running], flying: int, *, now: bool = False) -> None:
        """Draw again, unless that was done just now."""
        if now or time.monotonic() - self._shown >= BETWEEN:
            self._shown = time.monotonic()
            view = self.tracker.view(rows, flying, self._phase if not self.tracker.ended else "")
            self._handle.update(self._html(html(view)))

    def close(self) -> None:
        self._phase = ""
        self.update((), 0, now=True)
