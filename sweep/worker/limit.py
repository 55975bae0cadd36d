"""The time limit of a run: its stacks in its log when it is over, then an exception."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from itertools import islice

from sweep import nursery
from sweep.handle import Run
from sweep.job import Job
from sweep.store import Attempt, Failure, atomic
from sweep.store.names import LOG
from sweep.worker.failure import Metrics, TimeLimit

DEPTH = 100  # calls of a thread that are told when its time is over


def in_time(
    results: Iterator[tuple[int, Metrics | Failure]], job: Job, runs: Sequence[Run]
) -> Iterator[tuple[int, Metrics | Failure]]:
    """Yield the results, for as long as the runs have time; never interrupted while one is being recorded.

    A pack has the time of all its runs: it may come down to one after the other.
    """
    until = time.monotonic() + (job.timeout or math.inf) * len(runs)
    while True:
        with _time_limit(job, runs[0].attempt, until):
            try:
                with nursery.alone():
                    result = next(results, None)
            except GeneratorExit as error:  # raised by the user's code; passed on, it would end us in silence
                raise RuntimeError("the training code raised GeneratorExit") from error
        if result is None:
            return
        yield result


@contextlib.contextmanager
def _time_limit(job: Job, attempt: Attempt, until: float) -> Iterator[None]:
    """Write stacks to the log when the time is over, then raise; end a process of its own that does not react."""
    if not job.timeout or job.forked or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Open for the watchdog below, which can open nothing; stderr is no file while runs are captured.
    with atomic.append(attempt.path / LOG) as log:

        def over(*_: object) -> None:
            with contextlib.suppress(OSError):  # the record will say the same
                attempt.log_text(_stacks())
            raise TimeLimit(f"still running after {job.timeout:g} s")

        left = max(until - time.monotonic(), 0.001)
        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, left)
        if job.own_process:
            # Of a process in which no Python runs any more, nobody else can write the stacks.
            faulthandler.dump_traceback_later(left + 30, exit=True, file=log.fd)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            faulthandler.cancel_dump_traceback_later()


def _stacks() -> str:
    """Return where each thread is, innermost call first, without reading any source file."""
    said = []
    for thread, frame in sys._current_frames().items():
        said.append(f"Thread {thread:#x} (most recent call first):")
        for each, line in islice(traceback.walk_stack(frame), DEPTH):
            said.append(f'  File "{each.f_code.co_filename}", line {line} in {each.f_code.co_name}')
    return "\n".join(said) + "\n"
