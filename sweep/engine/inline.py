"""The engine that runs in this process."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.engine.event import Done, Event, Pull, Work
from sweep.job import Job


def inline(pull: Pull, work: Work, job: Job) -> Iterator[Event]:
    """Run one bundle after the other in this process: for small jobs, debugging and tests."""
    while (bundle := pull()) is not None:
        yield Done(bundle, work(bundle))
