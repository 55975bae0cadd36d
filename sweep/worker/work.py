"""A task's runs on their way to records: attempts begun, trained, committed, and what became of each."""

from __future__ import annotations

import contextlib
import io
import linecache
import math
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep import nursery
from sweep.determinism import fingerprint, seeding
from sweep.determinism.environment import environment_id, switches_stood
from sweep.forked import ended_from_outside
from sweep.handle import Interrupted, Run, stop_seen
from sweep.store import Attempt, Failure, Manifest, Record, Store
from sweep.store.parcel import elsewhere, pack, shared
from sweep.target.inputs import changed
from sweep.target.source import built_in
from sweep.task import Accident, Cancelled, Outcome, Place, Task
from sweep.worker.failure import CannotWrite, Diverged, Metrics, Unpacked, text_of
from sweep.worker.train import attempted
from sweep.written import Watch

Seen = tuple[dict[str, Any], dict[str, Any]]
WRITERS = 8  # threads that write the records of a pack


def work(task: Task, place: Place) -> Iterator[Outcome]:
    """Train every run of a task, commit its record, and say what became of it, as each ends."""
    if place.folder and os.path.isdir(place.folder):
        os.chdir(place.folder)
    if not place.own_process and device_lost():
        why = "an earlier run broke the GPU for this process: use --engine ray, which has one for each, or --lanes off"
        for spec in task:
            yield Outcome(spec.key, "unwritten", failure=Failure("device", why, "setup"))
        return
    try:
        with ended_from_outside(place):
            yield from _placed(task, place)
    except (OSError, CannotWrite) as error:
        yield from _unwritten(task, error)


# Where torch is seeded: it notes the lines of the calls that led there, and reads them for that.
_SEEDING = (
    "sweep.nursery.interpreter", "sweep.nursery.child", "sweep.worker.work", "sweep.worker.train", "sweep.worker.limit",
    "sweep.determinism.seeding", "contextlib", "torch.random", "torch.cuda", "torch.cuda.random", "torch.xpu",
    "torch.xpu.random", "torch.mps", "torch._compile", "torch._dynamo.eval_frame",
)  # fmt: skip


def ready() -> None:
    """Do once, before any run is forked, what each would do again, and what leaves no trace but caches."""
    fingerprint.remember()
    for name in _SEEDING:
        module = sys.modules.get(name)
        linecache.getlines(getattr(module, "__file__", None) or "")


def in_child(task: Task, attempts: Sequence[Attempt], place: Place, begun: float) -> list[Outcome]:
    """Train a task in this process, which was forked for it alone and is ended with it (see `sweep.forked`).

    begun: when, by the monotonic clock, it was forked.
    """
    store = Store(Path(place.path), Manifest(name="", config={}, experiment={}, seeds=()))
    until = begun + (place.timeout or math.inf) * len(task)
    try:
        return list(_trained(store, task, attempts, replace(place, forked=True, until=until)))
    except (OSError, CannotWrite) as error:
        return list(_unwritten(task, error))


def _unwritten(task: Task, error: Exception) -> Iterator[Outcome]:
    """Yield for each run that it could not be written; the launch looks on disk for those that were committed."""
    for spec in task:
        yield Outcome(spec.key, "unwritten", failure=Failure("storage", text_of(error), "write"))


def _placed(task: Task, place: Place) -> Iterator[Outcome]:
    if shared(place.path, place.launch):
        yield from _recorded(Store.open(place.path), task, place)
    else:
        yield from _sent(task, place)


def _sent(task: Task, place: Place) -> Iterator[Outcome]:
    """Train where the run directory is not: the files travel with the outcome, and the launch commits them."""
    with elsewhere() as store:
        # This process has to live until its files have left it.
        for outcome in _recorded(store, task, replace(place, own_process=False)):
            yield replace(outcome, parcel=pack(store, outcome.key))


def _recorded(store: Store, task: Task, place: Place) -> Iterator[Outcome]:
    attempts = [store.begin(spec, place.launch) for spec in task]
    with _captured(attempts), seeding.restored() as stuck:
        yield from _trained(store, task, attempts, place)
    if place.own_process and (stuck or device_lost()):
        os._exit(0)  # the records are on disk; a process that cannot be put right must not train another seed


def _trained(store: Store, task: Task, attempts: Sequence[Attempt], place: Place) -> Iterator[Outcome]:
    process = _process(task, place)
    # Recipes of ours write nothing below the launch folder.
    ours = built_in(task[0].target.reference)
    watch = Watch(Path.cwd(), place.apart) if place.look and not ours else None
    stopping = stop_seen(store.stop_file(place.launch))
    runs = [Run(spec, attempt, place.interval, stopping) for spec, attempt in zip(task, attempts, strict=True)]
    begun = time.monotonic()
    open_: set[int] = set(range(len(task)))
    # The lanes of a pack end together, and most of a record is waiting for the disk.
    hands = ThreadPoolExecutor(WRITERS)
    writing: dict[int, Future[Outcome]] = {}
    cancelled = False
    try:
        with hands:
            for index, result in attempted(runs, place):
                if isinstance(result, (Interrupted, Unpacked, Accident)):
                    interrupted = isinstance(result, Interrupted)
                    outcome = Outcome(
                        task[index].key,
                        "interrupted" if interrupted else "unpacked" if isinstance(result, Unpacked) else "lost",
                        notes=() if interrupted else (attempts[index].hide(str(result)),),
                    )
                    if changed(place.watched):  # nothing goes on from what two programs have made
                        attempts[index].drop_checkpoints()
                    attempts[index].abandon(stopped=interrupted)
                else:
                    # The environment is read here and now: the switches are those that training left.
                    numeric, context = fingerprint.collect(runs[index].spec.threads, device=runs[index].device)
                    seen = numeric, {**context, **process, **runs[index].went_on}
                    if place.forked and len(task) == 1:
                        nursery.at_exit()  # what it writes belongs to the run
                    seconds = time.monotonic() - begun
                    files: dict[str, Any] = {} if ours else {"left_out": True}
                    if watch is not None:
                        files = watch.evidence("" if shared(place.path, place.launch) else socket.gethostname())
                    if names := changed(place.watched):
                        files["changed"] = names
                    if len(task) > 1:
                        writing[index] = hands.submit(_commit, store, runs[index], result, seconds, seen, files)
                        continue
                    outcome = _commit(store, runs[index], result, seconds, seen, files)
                    outcome = replace(outcome, looking=watch.spent if watch is not None else 0.0)
                open_.discard(index)
                yield outcome
            for index, written in writing.items():
                outcome = written.result()
                open_.discard(index)
                yield outcome
    except (Cancelled, KeyboardInterrupt):
        cancelled = True
        raise
    finally:
        # This process may live on: what it leaves without a record must not look like work in progress.
        open_ -= {index for index, written in writing.items() if not written.cancelled() and not written.exception()}
        for index in open_:
            attempts[index].abandon(stopped=cancelled)
        for attempt in attempts:
            attempt.close()


_trained_here = False


def _process(task: Task, place: Place) -> dict[str, str | bool]:
    """Return in which process runs are trained ("forked", "own" or "shared"), and whether as the first there."""
    global _trained_here
    if task[0].target.kind == "command":
        return {"process": "own", "first_in_process": True}
    before, _trained_here = _trained_here, True
    return {"process": "forked" if place.forked and len(task) == 1 else "shared", "first_in_process": not before}


def device_lost() -> bool:
    """Return whether CUDA reported an error from which a process cannot recover."""
    torch = sys.modules.get("torch")  # a command's worker may never have loaded it
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _commit(
    store: Store, run: Run, result: Metrics | Failure, seconds: float, seen: Seen, files: dict[str, Any]
) -> Outcome:
    """Write the record; the first attempt to do so is the one that counts.

    seen: the environment training left. files: those that were written meanwhile below the launch folder.
    """
    failure = result if isinstance(result, Failure) else None
    metrics = result if not isinstance(result, Failure) else _kept(run, result)
    numeric, context = seen
    if run.deterministic and not failure and not switches_stood(numeric):
        run.note("not deterministic: the training code had turned a switch back when it ended")
    if run.attempt.number > 1 and not run.looked_back:
        run.note(f"attempt {run.attempt.number}: started from zero; the training code keeps no checkpoint")
    hide = run.attempt.hide
    if failure is not None:
        failure = Failure(failure.kind, hide(failure.message), failure.phase, failure.exception, failure.where)
    notes = tuple(map(hide, run.notes))
    record = Record(
        spec=run.spec.to_json(), spec_id=run.id, status="failed" if failure else "ok",
        attempt=run.attempt.nonce, attempts=run.attempt.number, failure=failure, metrics=metrics,
        result=run.outcome, digests=run.chain, environment=numeric, environment_id=environment_id(numeric),
        context=context, artifacts=run.attempt.artifacts(), seconds=round(seconds, 3), notes=notes,
        collected=run.collected, files=files,
    )  # fmt: skip
    won = store.commit(run.attempt, record)
    if won:
        run.attempt.drop_checkpoints()
    status: Any = record.status if won else "late"
    return Outcome(run.spec.key, status, metrics, failure, record.seconds, notes, files=files)


def _kept(run: Run, failure: Failure) -> Metrics:
    """Return the metrics of a failed run: of a diverged one, as they were last seen."""
    if isinstance(failure, Diverged):
        return failure.metrics
    return dict(run.last) if failure.kind == "diverged" else {}


class _Log(io.TextIOBase):
    """What the user's code prints, into the log of its run."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def write(self, text: str) -> int:
        self.attempt.log_text(text)
        return len(text)

    def writable(self) -> bool:
        return True


@contextlib.contextmanager
def _captured(attempts: Sequence[Attempt]) -> Iterator[None]:
    log = _Log(attempts[0])
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield
