"""The attempts of a bundle: begun before training, and abandoned if they end without a record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sweep.job import Bundle, Cancelled, Interrupted, Job
from sweep.store import Attempt, Store
from sweep.target.inputs import changed


@contextmanager
def begun(store: Store, bundle: Bundle, job: Job) -> Iterator[list[Attempt]]:
    """Begin an attempt at each run. After the block, attempts without a record no longer count as running."""
    attempts = [store.begin(spec, job.launch) for spec in bundle]
    stopped = False
    try:
        yield attempts
    except (Interrupted, Cancelled, KeyboardInterrupt):
        stopped = True
        raise
    finally:
        left = [each for each in attempts if not each.recorded]
        useless = bool(left) and bool(
            changed(job.watched)
        )  # nothing resumes from the files of two versions of the code
        for attempt in left:
            if useless:
                attempt.drop_checkpoints()
            attempt.abandon(stopped=stopped)
