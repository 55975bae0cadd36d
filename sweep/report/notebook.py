"""A report in a notebook's cell, and a display updated in place: HTML without script or style sheet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from sweep.analysis.frames import frame_of
from sweep.errors import StatisticsError
from sweep.report.document import Document, Figure, Section, notebook
from sweep.report.live import Running, Tracker, html
from sweep.report.overview import brief
from sweep.report.worded import Report
from sweep.store import Member
from sweep.words import shown

BETWEEN = 0.5  # seconds between two updates of a cell


def fragment(report: Report, members: Sequence[Member]) -> str:
    """Return what is read first of a report (see `overview.brief`) with a picture of the primary metric."""
    said = brief(report)
    lead, *rest = said.sections
    if any(row.n for row in report.primary_rows):
        from sweep.report import figures

        with suppress(StatisticsError):
            made = figures.members(frame_of(members), report.primary, level=report.level, called=report.called)
            label = f"each seed's {shown(report.primary)}"
            lead = Section("", [*lead.items, Figure("", figures.inline(made, "sweep", label))])
    return notebook(Document(said.title, [lead, *rest]))


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
