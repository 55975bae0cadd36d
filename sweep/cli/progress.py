"""What is seen while seeds train: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.cli.output import headline
from sweep.launch import Begun, Event, Finished, Launch, Retried, Said
from sweep.store import Member, Store

SHOWN = 12  # running seeds that have a line of their own


class Progress:
    """Shows the events of a launch on stderr; on a terminal also a line for each running seed."""

    def __init__(self, launch: Launch, *, single: bool = False) -> None:
        self.launch, self.single = launch, single
        # The stream itself: while a run trains in this process, sys.stderr is its log.
        self.console = Console(file=sys.stderr)
        self.live: Live | None = None
        self.total = self.todo = self.done = self.failed = 0
        self.begun = time.monotonic()
        self.seconds: list[float] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.live is not None:
            self.live.stop()

    def show(self, event: Event) -> None:
        """Take note of an event, and say it if it is for people."""
        if isinstance(event, Begun):
            self._begin(event)
        elif isinstance(event, Finished) and event.outcome.status != "interrupted":
            outcome = event.outcome
            self.done += 1
            self.total = self.todo + self.launch.added
            self.failed += outcome.status == "failed"
            self.seconds.append(outcome.seconds)
            if outcome.failure is not None:
                self._say(f"{outcome.key}: {outcome.failure}")
            elif self.live is None and self._worth_a_line():
                head = "  ".join(f"{k} {v:.4g}" for k, v in headline(outcome.metrics))
                self._say(f"[{self.done}/{self.total}] {outcome.key}  {head}  {outcome.seconds:.1f} s{self._left()}")
            for note in outcome.notes:
                self._say(f"{outcome.key}: {note}")
        elif isinstance(event, Retried):
            self._say(
                f"{event.key}: its worker died ({event.cause}); attempt {event.attempt} "
                "goes on from its newest checkpoint"
            )
        elif isinstance(event, Said):
            self._say(event.text)

    def _begin(self, event: Begun) -> None:
        self.total = self.todo = event.todo
        self.begun = time.monotonic()
        if event.extended:
            self._say(f"{len(event.extended)} seeds join those that are here; the extension is logged")
        if not event.todo and self.launch.more is None:
            self._say(f"nothing to train: all {event.planned} runs are in {event.store.path}")
            return
        if event.done:
            self._say(f"{event.done} of {event.planned} runs are here already; {event.todo} to train")
        if self.console.is_terminal:
            self.live = Live(self._table(), console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
            self._thread = threading.Thread(target=self._follow, daemon=True)
            self._thread.start()

    def _worth_a_line(self) -> bool:
        """Of thousands of runs, every hundredth of the total is a line."""
        return self.total <= 200 or self.done == self.total or self.done % (self.total // 100) == 0

    def _say(self, text: str) -> None:
        if self.live is not None:
            self.live.console.print(Text(text))
        else:
            with suppress(BrokenPipeError):
                click.echo(text, err=True)

    def _follow(self) -> None:
        while not self._stop.wait(0.3):
            if self.live is not None:
                with suppress(OSError):
                    self.live.update(self._table())

    def _table(self) -> Group:
        rows = Table.grid(padding=(0, 2))
        running = list(self._running())
        for member, row in running[:SHOWN]:
            rows.add_row(*_cells(member, row))
        if len(running) > SHOWN:
            rows.add_row(f"and {len(running) - SHOWN} more running")
        total = Table.grid(padding=(0, 1))
        failed = Text(f"  {self.failed} failed", style="red") if self.failed else Text("")
        total.add_row(
            Text(f"{self.done}/{self.total} runs"), ProgressBar(self.total, self.done, width=30),
            Text(self._left().lstrip(", ")), failed,
        )  # fmt: skip
        return Group(rows, total)

    def _running(self) -> Iterator[tuple[Member, dict[str, Any] | None]]:
        store = self.launch.store
        if store is not None:
            for member in running(store, self.launch.in_flight()):
                yield member, store.last_row(member)

    def _left(self) -> str:
        if not self.done or self.done >= self.total:
            return ""
        left = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
        return f", {_duration(left)} left"


def running(store: Store, keys: list[str]) -> Iterator[Member]:
    for key in keys:
        member = store.member(key)
        if member.status == "running":
            yield member


def _cells(member: Member, row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return [member.key, "starting"]
    metrics = [f"{name} {value:.4g}" for name, value in row.items() if name not in ("step", "lr")][:3]
    return [member.key, f"epoch {row['step']}", *metrics]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
