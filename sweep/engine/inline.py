"""One task after the other in this process: the equal of Ray for small jobs, debugging and tests."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.engine.event import Done, Event, Pull, Slots, Work


def inline(pull: Pull, work: Work, slots: Slots) -> Iterator[Event]:
    """Run every task that `pull` gives; `slots` ask for nothing here."""
    while (task := pull()) is not None:
        yield Done(task, tuple(work(task)))
