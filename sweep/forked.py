"""A task of the user's code becomes outcomes in a process that is forked for it alone, and ended with it.

Here is its other side, which loads no torch: it begins the attempts, has them trained (`sweep.worker.in_child`), and
says what became of a process that ended without saying so itself.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sweep import nursery, ports
from sweep.config import Config
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.plan import RunSpec
from sweep.store import Attempt, Damaged, Failure, Record, Store
from sweep.store.names import LOG, RECORD
from sweep.store.parcel import elsewhere, pack, shared
from sweep.store.record import decode
from sweep.task import Cancelled, Outcome, Place, Task, outcome_of

# What a first optimizer step, weights and checkpoints would import, a second of every run, is loaded once.
PRELOAD = (
    "sweep.worker", "torch._dynamo", "torch.profiler._cupti_monitor", "torch.utils.serialization", "safetensors.torch",
    "cloudpickle", "sweep.worker:ready",
)  # fmt: skip


def wanted(task: Task) -> bool:
    """Return whether a task runs code of the user in our process: a function, or a recipe that is not one of ours."""
    target = task[0].target
    return target.kind != "command" and not target.reference.startswith("sweep.") and nursery.POSSIBLE


def planned(config: Config) -> bool:
    """Return whether a config asks for such tasks."""
    reference = config.train or config.recipe
    return bool(reference) and not str(reference).startswith("sweep.") and nursery.POSSIBLE


def start(*, deterministic: bool) -> None:
    """Begin to load what is forked later, to overlap with planning."""
    if nursery.POSSIBLE:
        nursery.start(PRELOAD, _variables(deterministic))


def work(task: Task, place: Place) -> list[Outcome]:
    """Train every run of a task in a process of its own, and return what became of each."""
    try:
        with ended_from_outside(place):
            if shared(place.path, place.launch):
                return _trained(Store.open(place.path), task, place)
            with elsewhere() as store:
                return [replace(each, parcel=pack(store, each.key)) for each in _trained(store, task, place)]
    except nursery.Gone as error:
        return [Outcome(spec.key, "lost", notes=(str(error),), poison=False) for spec in task]
    except OSError as error:
        # Whatever was committed counts; the launch is told once for each run, and asks the disk for the rest.
        failure = Failure("storage", str(error), "write")
        return [Outcome(spec.key, "unwritten", failure=failure) for spec in task]


@contextlib.contextmanager
def ended_from_outside(place: Place) -> Iterator[None]:
    """A worker told to terminate ends its run without an outcome: Ray's own handler would raise SystemExit in
    the user's code, which would then count as that code's failure."""
    if not place.own_process or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGTERM, over)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _trained(store: Store, task: Task, place: Place) -> list[Outcome]:
    attempts = [store.begin(spec, place.launch) for spec in task]
    open_ = set(range(len(task)))
    cancelled = False
    try:
        before = _oom_kills()
        ended = _called(store, task, attempts, place)
        told = {each.key: each for each in (pickle.loads(ended.answer) if ended.answer else [])}
        cause, poison = _cause(ended, before)
        outcomes = []
        for index, (spec, attempt) in enumerate(zip(task, attempts, strict=True)):
            outcome = told.get(spec.key) or _recorded(spec, attempt)
            if outcome is None and ended.late:
                outcome = _timed_out(store, spec, attempt, place)
            if outcome is not None:
                open_.discard(index)
            outcomes.append(outcome or Outcome(spec.key, "lost", notes=(cause,), poison=poison))
        return outcomes
    except (Cancelled, KeyboardInterrupt):
        cancelled = True
        raise
    finally:
        # This process lives on: what is left without a record must not look like work in progress.
        for index in open_:
            attempts[index].abandon(stopped=cancelled)


def _called(store: Store, task: Task, attempts: Sequence[Attempt], place: Place) -> nursery.Ended:
    def cut() -> None:
        for attempt in attempts:
            attempt.mask_log()
            attempt.cut_log()

    variables = _variables(task[0].deterministic)
    with ports.reserved(place.gpus > 1) as port:
        call = nursery.Call(
            "sweep.worker:in_child",
            pickle.dumps((task, attempts, replace(place, path=os.fspath(store.path), own_process=True))),
            log=os.fspath(attempts[0].path / LOG), seconds=place.timeout * len(task) if place.timeout else None,
            folder=place.folder if os.path.isdir(place.folder) else os.getcwd(),
            path=tuple(each and os.path.abspath(each) for each in sys.path),
            environment=_environment({**variables, **ports.variables(port)}),
        )  # fmt: skip
        try:
            return nursery.call(call, PRELOAD, variables, cut)
        finally:
            cut()


def _environment(variables: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """This process's, less the debugger that Ray puts into its workers: a fork of them is not one."""
    here = {**os.environ, **variables}
    if here.get("PYTHONBREAKPOINT", "").startswith("ray."):
        del here["PYTHONBREAKPOINT"]
    return tuple(here.items())


def _variables(deterministic: bool) -> dict[str, str]:
    """Return the variables that an interpreter reads only once, at its start."""
    here = {name: os.environ.get(name) for name in ENVIRONMENT_FOR_DETERMINISM}
    if deterministic:
        given = {name: value for name, value in here.items() if value and value != "random"}
        return {**ENVIRONMENT_FOR_DETERMINISM, **given}
    return {name: value for name, value in here.items() if value is not None}


def _recorded(spec: RunSpec, attempt: Attempt) -> Outcome | None:
    """Return the outcome that a process had committed before it ended, or None."""
    try:
        return outcome_of(decode((attempt.path.parent / RECORD).read_bytes()), spec.key)
    except (FileNotFoundError, Damaged):
        return None


def _timed_out(store: Store, spec: RunSpec, attempt: Attempt, place: Place) -> Outcome:
    """The record of a run that was ended for its time; its process was deaf, or had no part in its own end."""
    failure = Failure("timeout", f"still running after {place.timeout:g} s")
    made = Record(
        spec=spec.to_json(), spec_id=spec.id, status="failed", attempt=attempt.nonce, attempts=attempt.number,
        failure=failure, context={"process": "forked", "first_in_process": True},
        artifacts=attempt.artifacts(), seconds=float(place.timeout or 0),
    )  # fmt: skip
    if store.commit(attempt, made):
        attempt.drop_checkpoints()
        return outcome_of(made, spec.key)
    return Outcome(spec.key, "late")


def _cause(ended: nursery.Ended, oom_kills: int) -> tuple[str, bool]:
    """Return why a process has left no result, and whether the run itself may be the reason."""
    if ended.status >= 0:
        return f"its process ended without a result (exit code {ended.status})", True
    name = nursery.named(ended.status)
    if name == "SIGKILL" and _oom_kills() > oom_kills:
        held = f"it held {ended.memory / 2**30:.1f} GiB"
        cause = f"the machine ran out of memory and ended its process ({held}); try fewer runs at once with --jobs"
        return cause, ended.memory > _memory() / 2
    return f"its process was ended by {name}", True


def _oom_kills() -> int:
    """Return how many processes this machine has ended for want of memory; 0 where it does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _memory() -> int:
    """Bytes of memory that processes here may use."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most
