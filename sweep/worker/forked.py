"""User code in a process that is forked for one bundle only and ends with it.

This is the waiting side, which loads no torch. It has the bundle trained (`sweep.worker.here.in_child`), and finds
out why a process ended without an answer.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sweep import forkserver
from sweep.config import Config
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.job import FEWER, Accident, Bundle, Job
from sweep.store import Attempt, Failure, Store
from sweep.store.names import LOG
from sweep.target.source import built_in
from sweep.worker import ports
from sweep.worker.attempts import begun

# The imports of a first optimizer step, of weights and of checkpoints take a second: done once, not in every run.
PRELOAD = (
    "sweep.worker.here", "torch._dynamo", "torch.profiler._cupti_monitor", "torch.utils.serialization",
    "safetensors.torch", "cloudpickle", "sweep.worker.here:ready",
)  # fmt: skip


def wanted(bundle: Bundle) -> bool:
    """Return whether a bundle runs user code in our process: a function, or a recipe that is not built in."""
    target = bundle[0].target
    return target.kind != "command" and not built_in(target.reference) and forkserver.POSSIBLE


def planned(config: Config) -> bool:
    """Return whether a config leads to such bundles."""
    reference = config.train or config.recipe
    return bool(reference and not built_in(reference)) and forkserver.POSSIBLE


def start(*, deterministic: bool) -> None:
    """Start to load the process that is forked later, while planning goes on."""
    if forkserver.POSSIBLE:
        forkserver.start(PRELOAD, _variables(deterministic))


def train(store: Store, bundle: Bundle, job: Job) -> float:
    """Train every run of a bundle in a process of its own. Return the seconds spent on watching files.

    Raises: Unrecorded, Interrupted, OSError.
    """
    with begun(store, bundle, job) as attempts:
        before = _oom_kills()
        ended = _called(store, bundle, attempts, job)
        if ended.answer:
            spent, why = pickle.loads(ended.answer)
            if why is not None:
                raise why
            return float(spent)
        if not ended.late:
            raise _accident(ended, before)
        for spec, attempt in zip(bundle, attempts, strict=True):
            if not attempt.recorded:  # its process did not react, and was killed
                store.fail(
                    attempt, spec, Failure("timeout", f"still running after {job.timeout:g} s"), seconds=job.timeout,
                    attempts=attempt.number, context={"process": "forked", "first_in_process": True},
                )  # fmt: skip
        return 0.0


def _called(store: Store, bundle: Bundle, attempts: Sequence[Attempt], job: Job) -> forkserver.Ended:
    def cut() -> None:
        for attempt in attempts:
            attempt.mask_log()
            attempt.cut_log()

    variables = _variables(bundle[0].deterministic)
    with ports.reserved(job.gpus > 1) as port:
        call = forkserver.Call(
            "sweep.worker.here:in_child",
            pickle.dumps((bundle, attempts, replace(job, path=os.fspath(store.path), own_process=True))),
            log=os.fspath(attempts[0].path / LOG), seconds=job.timeout * len(bundle) if job.timeout else None,
            folder=job.folder if os.path.isdir(job.folder) else os.getcwd(),
            path=tuple(each and os.path.abspath(each) for each in sys.path),
            environment=_environment({**variables, **ports.variables(port)}),
        )  # fmt: skip
        try:
            return forkserver.call(call, PRELOAD, variables, cut)
        finally:
            cut()


def _environment(variables: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the variables of this process, without the debugger that Ray sets for its own workers."""
    here = {**os.environ, **variables}
    if here.get("PYTHONBREAKPOINT", "").startswith("ray."):
        del here["PYTHONBREAKPOINT"]
    return tuple(here.items())


def _variables(deterministic: bool) -> dict[str, str]:
    """Return the variables that an interpreter reads only at its start."""
    here = {name: os.environ.get(name) for name in ENVIRONMENT_FOR_DETERMINISM}
    if deterministic:
        given = {name: value for name, value in here.items() if value and value != "random"}
        return {**ENVIRONMENT_FOR_DETERMINISM, **given}
    return {name: value for name, value in here.items() if value is not None}


def _accident(ended: forkserver.Ended, oom_kills: int) -> Accident:
    """Return the reason why a process left no result, and whether the run itself may be the cause."""
    if ended.status >= 0:
        return Accident(f"its process ended without a result (exit code {ended.status})")
    name = forkserver.named(ended.status)
    if name == "SIGKILL" and _oom_kills() > oom_kills:
        held = f"it held {ended.memory / 2**30:.1f} GiB"
        cause = f"the machine ran out of memory and ended its process ({held}); {FEWER}"
        return Accident(cause, poison=ended.memory > _memory() / 2)
    return Accident(f"its process was ended by {name}")


def _oom_kills() -> int:
    """Return the number of processes that this machine has killed for lack of memory, or 0 if unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _memory() -> int:
    """Return the memory, in bytes, that processes may use here."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most
