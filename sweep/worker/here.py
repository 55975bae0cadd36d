"""The training of a bundle in this process, with a record for each run."""

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

from sweep import forkserver
from sweep.determinism import fingerprint, seeding
from sweep.handle import Run, stop_seen
from sweep.job import Bundle, CannotWrite, Interrupted, Job, Unrecorded
from sweep.shared_files import Watch
from sweep.store import Attempt, Store
from sweep.store.parcel import shared
from sweep.target.inputs import changed
from sweep.target.source import built_in
from sweep.worker.attempts import begun
from sweep.worker.commit import commit
from sweep.worker.train import attempted

WRITERS = 8  # threads that write the records of a bundle


def train(store: Store, bundle: Bundle, job: Job) -> float:
    """Train every run of a bundle. Return the seconds spent on watching files.

    Raises: Unrecorded, Interrupted, OSError.
    """
    if job.folder and os.path.isdir(job.folder):
        os.chdir(job.folder)
    if not job.own_process and device_lost():
        raise CannotWrite(
            "after an error in an earlier run, this process can no longer use the GPU: use --engine ray, which gives "
            "each run its own process, or --lanes off"
        )
    stuck: Sequence[str] | None = None
    try:
        with begun(store, bundle, job) as attempts, _captured(attempts), seeding.restored() as stuck:
            return _trained(store, bundle, attempts, job)
    finally:
        if job.own_process and stuck is not None and (stuck or device_lost()):
            os._exit(0)  # the records are on disk, and a process whose settings cannot be restored must not train again


# The modules on the way to torch's seeding: torch reads their source, because it stores the lines of the calls.
_SEEDING = (
    "sweep.forkserver.server", "sweep.forkserver.child", "sweep.worker.here", "sweep.worker.train",
    "sweep.determinism.seeding", "contextlib", "torch.random", "torch.cuda", "torch.cuda.random", "torch.xpu",
    "torch.xpu.random", "torch.mps", "torch._compile", "torch._dynamo.eval_frame",
)  # fmt: skip


def ready() -> None:
    """Fill caches once, before any run is forked, so that no run has to."""
    fingerprint.remember()
    for name in _SEEDING:
        module = sys.modules.get(name)
        linecache.getlines(getattr(module, "__file__", None) or "")


def in_child(
    bundle: Bundle, attempts: Sequence[Attempt], job: Job, forked_at: float
) -> tuple[float, BaseException | None]:
    """Train a bundle in this process, which was forked for it and ends with it (see `sweep.worker.forked`).

    forked_at: the monotonic time of the fork. Returns what `train` returns, and the exception that it would raise.
    """
    until = forked_at + (job.timeout or math.inf) * len(bundle)
    try:
        return _trained(Store.bare(Path(job.path)), bundle, attempts, replace(job, forked=True, until=until)), None
    except (Interrupted, Unrecorded, OSError) as why:
        return 0.0, why


def _trained(store: Store, bundle: Bundle, attempts: Sequence[Attempt], job: Job) -> float:
    process = _process(bundle, job)
    # Built-in recipes write nothing below the launch folder.
    ours = built_in(bundle[0].target.reference)
    watch = Watch(Path.cwd(), job.apart) if job.look and not ours else None
    stopping = stop_seen(store.stop_file(job.launch))
    runs = [Run(spec, attempt, job.every, stopping) for spec, attempt in zip(bundle, attempts, strict=True)]
    began = time.monotonic()
    writing: list[Future[None]] = []
    # The lanes of a bundle end together, and writing a record is mostly waiting for the disk.
    with ThreadPoolExecutor(WRITERS) as hands:
        try:
            for index, result in attempted(runs, job):
                # The environment is read now, while the switches are as training left them.
                numeric, context = fingerprint.collect(runs[index].device)
                if job.forked and len(bundle) == 1:
                    forkserver.at_exit()  # files that this writes belong to the run
                seconds = round(time.monotonic() - began, 3)
                files: dict[str, Any] = {} if ours else {"left_out": True}
                if watch is not None:
                    files = watch.evidence("" if shared(job.path, job.launch) else socket.gethostname())
                if names := changed(job.watched):
                    files["changed"] = names
                seen = {
                    "seconds": seconds, "environment": numeric, "files": files,
                    "context": {**context, **process, **runs[index].went_on},
                }  # fmt: skip
                writing.append(hands.submit(commit, store, runs[index], result, seen))
        finally:
            for each in writing:
                each.result()
    return watch.spent if watch is not None else 0.0


_trained_here = False


def _process(bundle: Bundle, job: Job) -> dict[str, str | bool]:
    """Return the kind of process that trains ("forked", "own" or "shared"), and whether it trained before."""
    global _trained_here
    if bundle[0].target.kind == "command":
        return {"process": "own", "first_in_process": True}
    before, _trained_here = _trained_here, True
    return {"process": "forked" if job.forked and len(bundle) == 1 else "shared", "first_in_process": not before}


def device_lost() -> bool:
    """Return whether CUDA has reported an error from which the process cannot recover."""
    torch = sys.modules.get("torch")  # the worker of a command may not have loaded it
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


class _Log(io.TextIOBase):
    """A text stream into the log of a run, for the output of the user's code."""

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
