"""The death of a worker: whether its runs are retried or have failed, and the end of workers that outlive Ray.

The cause of a death is found in `sweep.worker.forked` and `sweep.engine.on_ray`.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sweep.job import Accident
from sweep.plan import RunSpec
from sweep.store import Failure, Store, atomic
from sweep.store.attempt import LOG_LIMIT
from sweep.store.names import LOG
from sweep.store.owner import Owner
from sweep.words import plural

KILLS = 3  # a run that has killed its worker this often has failed and is not retried
LOSSES = 10  # a run that was lost this often, for any reason, is not retried by this command
LAST = 40  # lines of a log
ENDING = 10.0  # seconds to wait for killed processes to end


@dataclass
class Deaths:
    """Counts of how often each run of a launch was lost with its worker, and how often it may have been the cause."""

    retries: int
    losses: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)

    def failure(self, key: str, why: Accident) -> Failure | None:
        """Count a death. Return a failure if the run has now killed its worker too often."""
        self.losses[key] += 1
        self.kills[key] += why.poison
        limit = min(KILLS, 1 + self.retries)
        if self.kills[key] < limit:
            return None
        return Failure("killed", f"{plural(self.kills[key], 'attempt')} gave no result; {why.cause}")


def fail(store: Store, spec: RunSpec, failure: Failure, launch: str) -> None:
    """Record the failure of a run whose worker cannot do it, unless the run has a record after all.

    Its log ends with the last lines of the attempt before, because reports name the log of the attempt that counts.
    """
    attempt = store.begin(spec, launch)
    attempt.log_text(f"{failure}\n")
    for before in attempt.previous[:1]:
        with suppress(OSError, ValueError):
            lines = atomic.read(before / LOG, LOG_LIMIT).decode(errors="replace").rstrip().splitlines()[-LAST:]
            if lines:
                attempt.log_text("\n".join([f"\nThe log of {before.name}, the attempt before, ends with:", *lines, ""]))
    store.fail(attempt, spec, failure, attempts=attempt.number - 1)


def end(processes: Sequence[Owner]) -> None:
    """Kill processes of this machine and wait until they have ended. One that holds much memory takes a moment."""
    for each in processes:
        with suppress(OSError):
            os.kill(each.pid, signal.SIGKILL)
    give_up = time.monotonic() + ENDING
    while any(each.dead() is False for each in processes) and time.monotonic() < give_up:
        time.sleep(0.01)
