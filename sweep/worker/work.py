"""The entry point of a worker: train a bundle, in a forked process or in this one, and answer the launch."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from sweep.job import Answer, Bundle, Cancelled, CannotWrite, Changed, Interrupted, Job, Unrecorded
from sweep.shared_files import Share
from sweep.store import Store
from sweep.store.parcel import elsewhere, sent, shared
from sweep.target.inputs import changed, refusal
from sweep.worker import forked

_looking: defaultdict[str, Share] = defaultdict(Share)  # for each launch that this process works for


def work(bundle: Bundle, job: Job) -> Answer:
    """Train the runs of a bundle and commit a record for each. Return only what is not in the run directory."""
    answer: Answer = []
    try:
        if names := changed(job.watched):
            raise Changed(refusal(names))
        with _ended_from_outside(job):
            if shared(job.path, job.launch):
                _train(Store.open(job.path), bundle, job)
                return answer
            with elsewhere() as store:
                try:
                    _train(store, bundle, replace(job, own_process=False))  # it must live until the files are sent
                finally:
                    answer += sent(store, bundle)
    except Interrupted:
        pass
    except Unrecorded as why:
        answer.append(why)
    except OSError as error:
        answer.append(CannotWrite(str(error)))
    return answer


def _train(store: Store, bundle: Bundle, job: Job) -> None:
    looking = _looking[job.launch]
    job = replace(job, look=looking.due())
    begun = time.monotonic()
    if forked.wanted(bundle):
        spent = forked.train(store, bundle, job)
    else:
        # Imported here, because only a process that trains needs torch.
        from sweep.worker import here

        spent = here.train(store, bundle, job)
    looking.took(spent, time.monotonic() - begun)


@contextlib.contextmanager
def _ended_from_outside(job: Job) -> Iterator[None]:
    """End the runs of a terminated worker without recording them.

    Ray's own handler would raise SystemExit in the user's code, which would count as a failure of that code.
    """
    if not job.own_process or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGTERM, over)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
