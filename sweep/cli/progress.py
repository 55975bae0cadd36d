"""Progress while seeds train: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sweep.cli.output import in_short
from sweep.errors import printable
from sweep.launch import Begun, Event, Finished, Launch, Retried, Said
from sweep.report.live import ROWS, Tracker, View, duration, running, terminal
from sweep.words import plural


class Progress:
    """Show the events of a launch on stderr; on a terminal also a line for each running seed."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        config = launch.plan.config
        self.tracker = Tracker(config.name, config.primary)
        self.screen = Screen(sys.stderr, self._look)  # while a run trains in this process, sys.stderr is its log
        self.total = self.todo = self.done = 0
        self.told: dict[str, str] = {}  # a message about a run -> the first run that it was about

    def show(self, event: Event) -> None:
        """Update from an event, and print it if it is for people."""
        if isinstance(event, Begun):
            self._begin(event)
        elif isinstance(event, Finished):
            self._ended(event)
        elif isinstance(event, Retried):
            ours = self.launch.plan.target.kind != "command"  # a program has its own checkpoints
            zero = "starts from zero" if ours else "starts with what is in {dir}"
            begins = zero if event.checkpoint is None else f"resumes from step {event.checkpoint}"
            self.screen.say(f"{event.key}: lost ({event.cause}); attempt {event.attempt} {begins}")
        elif isinstance(event, Said):
            self.screen.say(event.text)

    def _ended(self, event: Finished) -> None:
        key, record = event.key, event.record
        self.done += 1
        self.total = self.todo + self.launch.added
        self.tracker.take(key, record.status, record.metrics, record.seconds)
        if record.failure is not None:
            # A mistake in the code fails every seed alike: it is printed in full once.
            first = self.told.setdefault(str(record.failure), key)
            self.screen.say(f"{key}: " + (str(record.failure) if first == key else f"same failure as {first}"))
        elif not self.screen.live and self._worth_a_line():
            head = in_short(record.metrics)
            left = self.tracker.view().left
            still = f", {duration(left)} left" if left and self.done < self.total else ""
            self.screen.say(f"[{self.done}/{self.total}] {key}  {head}  {record.seconds:.1f} s{still}")
        for note in record.notes:
            if self.told.setdefault(note, key) == key:
                self.screen.say(f"{key}: {note}")

    def _begin(self, event: Begun) -> None:
        self.total = self.todo = event.todo
        for count, name in ((len(event.extended), "seed"), (event.grown, "variant")):
            if count:
                self.screen.say(f"added {plural(count, name)} to this sweep; the extension is logged")
        if not event.todo and self.launch.more is None:
            self.screen.say(event.nothing)
            return
        if event.done:
            self.screen.say(f"{event.done} of {event.planned} runs are here already; {event.todo} to train")
        only = None if self.launch.only is None else set(self.launch.only)
        mine = (m for m in event.store.scan() if only is None or m.seed in only)
        self.tracker.seen(mine)
        self.tracker.begun = self.tracker.clock()
        self.screen.start()

    def _worth_a_line(self) -> bool:
        """Return whether a run that ended gets a line: of thousands, one does per hundredth of the total."""
        return self.total <= 200 or self.done == self.total or self.done % (self.total // 100) == 0

    def _look(self) -> View:
        store = self.launch.store
        keys = sorted(self.launch.in_flight())
        self.tracker.plan(keys)
        rows = running(store, keys, ROWS) if store is not None else []
        phase = "starting Ray" if self.launch.own_process else "starting"
        return self.tracker.view(rows, len(keys), phase if not self.tracker.ended else "")


class Screen:
    """Show lines and, on a terminal, a live view below them."""

    def __init__(self, stream: Any, look: Callable[[], View]) -> None:
        self.console = Console(file=stream)
        self.look = look
        self.live: Live | None = None
        self._drawn = Group()
        self._notice = ""

    def start(self) -> None:
        """Begin the live view, if there is a terminal."""
        if self.console.is_terminal and self.live is None:
            self.live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=3, transient=True)
            self.live.start(refresh=True)

    def stop(self) -> None:
        if self.live is not None:
            live, self.live = self.live, None
            live.stop()
            if self._notice:  # the view disappears when it ends; the notice stays
                self.console.print(Text(self._notice))

    def say(self, text: str) -> None:
        """Print a line above the live view; it may quote the output of a program."""
        text = printable(text)
        if self.live is not None:
            self.live.console.print(Text(text))
        else:
            self.console.file.write(text + "\n")

    def warn(self, text: str) -> None:
        """Keep a text visible. A signal handler may call it: it takes no lock that could be held."""
        if self.live is None:
            self.say("\n" + text)
        else:
            self._notice = text

    def _draw(self) -> Group:
        with suppress(OSError):  # the last view stays
            self._drawn = terminal(self.look(), *self.console.size, self._notice)
        return self._drawn
