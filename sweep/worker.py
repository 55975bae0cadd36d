"""A task becomes outcomes: resolve, seed, train, catch, digest, commit. The same in every engine."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import io
import linecache
import math
import os
import re
import signal
import socket
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep import nursery
from sweep.determinism import fingerprint, kernels, seeding
from sweep.determinism.environment import environment_id, switches_stood
from sweep.errors import SweepError
from sweep.forked import ended_from_outside
from sweep.handle import Interrupted, Run, as_result, stop_seen, weighed
from sweep.own_folder import lent
from sweep.plan import SPLIT, RunSpec
from sweep.store import Attempt, Failure, Manifest, Record, Store, atomic
from sweep.store.names import LOG
from sweep.store.parcel import elsewhere, pack, shared
from sweep.target.function import find, user_traceback
from sweep.target.inputs import changed
from sweep.target.params import bind
from sweep.target.source import built_in
from sweep.task import Accident, Cancelled, Outcome, Place, Task
from sweep.written import Watch

if TYPE_CHECKING:
    from sweep.train.recipe import Recipe

Metrics = dict[str, float]
_NOT_THE_USERS = (os.path.dirname(__file__), sysconfig.get_path("stdlib"), "<frozen")
Seen = tuple[dict[str, Any], dict[str, Any]]
WRITERS = 8  # threads that write the records of a pack
DEPTH = 100  # calls of a thread that are told when its time is over
Trainer = Callable[[Sequence[Run]], Iterator[tuple[int, "Metrics | Failure"]]]


class CannotWrite(Exception):
    """The disk, not the training code, is why a run has no result: it counts as neither ok nor failed."""


class Unpacked(Exception):
    """A pack ended in an error that may be one lane's: its runs are to be trained one by one."""


class TimeLimit(BaseException):
    """The run's time is over; raised in its main thread by the alarm."""


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
    "sweep.nursery.interpreter", "sweep.nursery.child", "sweep.worker", "sweep.determinism.seeding", "contextlib",
    "torch.random", "torch.cuda", "torch.cuda.random", "torch.xpu", "torch.xpu.random", "torch.mps", "torch._compile",
    "torch._dynamo.eval_frame",
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
    """Whatever was committed counts; the launch is told once for each run, and asks the disk for the rest."""
    for spec in task:
        yield Outcome(spec.key, "unwritten", failure=Failure("storage", _text(error), "write"))


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
    with _captured(attempts), seeding.restored() as left:
        yield from _trained(store, task, attempts, place)
    if place.own_process and (left.unrestored or device_lost()):
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
                    host = "" if shared(place.path, place.launch) else socket.gethostname()
                    files: dict[str, Any] = {} if ours else {"left_out": True}
                    if watch is not None:
                        files = watch.evidence(host)
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
    """In what process runs are trained: "forked" for one, its "own", or "shared"; and whether as the first there."""
    global _trained_here
    if task[0].target.kind == "command":
        return {"process": "own", "first_in_process": True}
    before, _trained_here = _trained_here, True
    return {"process": "forked" if place.forked and len(task) == 1 else "shared", "first_in_process": not before}


def device_lost() -> bool:
    """Whether CUDA reported an error from which a process cannot recover."""
    torch = sys.modules.get("torch")  # a command's worker may never have loaded it
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


Ended = Metrics | Failure | Interrupted | Unpacked | Accident


def attempted(runs: Sequence[Run], place: Place) -> Iterator[tuple[int, Ended]]:
    """What the trainer yields, every exception of the user's code turned into that run's failure."""
    pending = list(range(len(runs)))
    phase = "setup"
    try:
        spec = runs[0].spec
        effective = seeding.set_threads(spec.threads)
        if effective != spec.threads:
            raise SweepError(f"{spec.threads} threads were asked for, torch runs {effective}")
        # Deterministic mode leaves new memory unfilled: whether anything reads it shows in the canary, which fills it.
        seeding.fill_memory(place.fill_memory or not spec.deterministic)
        seeding.seed_everything(spec.seed, deterministic=spec.deterministic)
        trainer = _trainer(spec, place)
        phase = "train"
        for index, result in _in_time(trainer(runs), place, runs):
            pending.remove(index)
            yield index, _late(place) or (result if isinstance(result, Failure) else _finite(result))
    except Interrupted as stop:
        for index in pending:
            yield index, stop
    except GeneratorExit:
        raise
    except BaseException as error:
        if isinstance(error, Cancelled) or _from_the_keyboard(error, place):
            raise
        if reason := of_the_disk(error, runs[0].dir):
            raise CannotWrite(reason) from error
        if reason := of_an_accident(error):
            for index in pending:
                runs[index].attempt.log_text(f"{user_traceback(error)}\n")
                yield index, Accident(reason)
            return
        if len(pending) > 1 and phase == "train" and not isinstance(error, TimeLimit):
            for index in pending:
                runs[index].attempt.log_text(f"{user_traceback(error)}\n")
                yield index, Unpacked(f"{type(error).__name__}: {_text(error)}")
            return
        for index in pending:
            runs[index].attempt.log_text(f"{user_traceback(error)}\n")
            failure = _late(place) or failure_of(error, phase)
            if failure.kind == "nondeterministic" and phase == "train":
                failure = replace(failure, message=kernels.explained(error, spec.device))
            yield index, failure
    else:
        for index in pending:
            yield index, Failure("returned", "the trainer ended without a result for this run", phase)


def _late(place: Place) -> Failure | None:
    """The failure of a run that is only now done: it was told to end, and whatever it says is what came of that."""
    if time.monotonic() <= place.until:
        return None
    return Failure("timeout", f"still running after {place.timeout:g} s")


def _from_the_keyboard(error: BaseException, place: Place) -> bool:
    """A Ctrl-C in a notebook, rather than a KeyboardInterrupt that the user's code raised on its own."""
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and not place.own_process and default


def _trainer(spec: RunSpec, place: Place) -> Trainer:
    if spec.target.kind == "command":
        from sweep.command import trainer

        return trainer(spec, place.collect, own_folder=place.own_folder, gpus=place.gpus)
    if place.function is not None:
        import cloudpickle

        function = cloudpickle.loads(place.function)  # the user's own, from this session, never from a file
    else:
        function = find(spec.target.reference)
    arguments = bind(function, spec.params, kind=spec.target.kind)
    if spec.target.kind == "recipe":
        return partial(_recipe, function(**arguments))

    def each(runs: Sequence[Run]) -> Iterator[tuple[int, Metrics | Failure]]:
        for index, run in enumerate(runs):
            with _working_in(run, place), weighed(run):
                returned = function(run, **arguments)
            where = f"{spec.target.reference} with seed {run.seed}"
            if returned is None and (run.last or run.scored):
                returned = run.last
            metrics, notes = as_result(returned, where=where)
            metrics = run.scored | metrics
            for note in notes:
                run.note(note)
            if not metrics:
                raise SweepError("gave no metrics", where=where, hint='return e.g. {"test/accuracy": 0.93}')
            if not run.outcome:
                run.result("returned", None)
            yield index, metrics

    return each


@contextlib.contextmanager
def _working_in(run: Run, place: Place) -> Iterator[None]:
    """Work in a folder of the run's own where that is asked for; a process that was forked for it stays there."""
    if not place.own_folder:
        yield
        return
    launch, own = Path.cwd(), run.dir / "cwd"
    own.mkdir()
    with lent(launch, own):
        os.chdir(own)
        try:
            yield
        finally:
            if not place.forked:
                os.chdir(launch)


def _recipe(recipe: Recipe, runs: Sequence[Run]) -> Iterator[tuple[int, Metrics | Failure]]:
    """Runs on one split together; where the split varies, one after the other, each on its own."""
    if runs[0].spec.vectorize:
        from sweep.train.vector import train
    else:
        from sweep.train.lanes import train

    if SPLIT not in runs[0].streams:
        yield from train(recipe, runs)
        return
    for index, run in enumerate(runs):
        if recipe.resplit is None:
            raise SweepError("this recipe does not draw its split", where="vary", hint="leave split out of it")
        for _, result in train(recipe.resplit(run.streams[SPLIT]), [run]):
            yield index, result


def _finite(metrics: Metrics) -> Metrics | Failure:
    """A result with a metric that is not finite is an outcome of its own: the run diverged."""
    return diverged(metrics) or metrics


@dataclass(frozen=True)
class Diverged(Failure):
    """A failure that keeps the metrics it was seen in."""

    metrics: Metrics = field(default_factory=dict)


def diverged(metrics: Metrics) -> Diverged | None:
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if not bad:
        return None
    return Diverged("diverged", f"{bad[0]} is {metrics[bad[0]]}", metrics=metrics)


def failure_of(error: BaseException, phase: str) -> Failure:
    """The failure that an exception of the user's code stands for."""
    name, text = type(error).__name__, _text(error)
    where = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_NOT_THE_USERS) and "site-packages" not in file:
            where = f"{os.path.basename(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, TimeLimit):
        return Failure("timeout", text, phase, where=where)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        hint = f"{text}; try a smaller batch, or fewer runs at once with --jobs"
        return Failure("out of memory", hint, phase, name, where)
    if kernels.missing(error):
        return Failure("nondeterministic", text, phase, name, where)
    if name == "BdbQuit" or (isinstance(error, EOFError) and "reading a line" in text):
        text = f"{text}; a run has no keyboard to read from"
    if isinstance(error, SweepError):
        return Failure("returned" if "metric" in text else "raised", str(error), phase, "", where)
    return Failure("raised", text, phase, name, where)


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE)


def of_the_disk(error: BaseException, folder: Path) -> str:
    """Why an exception is the disk's doing and not that of the code it came out of, or nothing."""
    if isinstance(error, OSError) and (error.errno in _DISK or not folder.is_dir()):
        return _text(error)
    if isinstance(error, RuntimeError) and "PytorchStreamWriter failed" in (text := _text(error)):
        return f"torch could not write a file ({text.splitlines()[0][:200]})"  # it hides the system's reason
    return ""


_CHILDREN_ENDED = ("BrokenProcessPool", "TerminatedWorkerError")  # of concurrent.futures and of joblib
_LOADER_ENDED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly$)")


def of_an_accident(error: BaseException) -> str:
    """Why an exception need not be the doing of the code that it came out of, or nothing.

    The system, short of memory, or a person may have ended a program, or a child of the training code.
    """
    why = ""
    each: BaseException | None = error
    while each is not None:
        ended = isinstance(each, RuntimeError) and _LOADER_ENDED.match(_text(each))
        if isinstance(each, Accident) or ended or type(each).__name__ in _CHILDREN_ENDED:
            why = _text(each).splitlines()[0][:300]  # the first cause tells the signal
        each = each.__cause__ or each.__context__
    return why


def _text(error: BaseException) -> str:
    try:
        # Escapes for what is no Unicode, such as a file name in other bytes: it travels to a screen and a file.
        return str(error).encode(errors="backslashreplace").decode() or "no message"
    except Exception:  # a broken __str__ must not hide that the run failed
        return "its message cannot be read"


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
    """The metrics of a failed run: of a diverged one, as they were last seen."""
    if isinstance(failure, Diverged):
        return failure.metrics
    return dict(run.last) if failure.kind == "diverged" else {}


def _in_time(
    results: Iterator[tuple[int, Metrics | Failure]], place: Place, runs: Sequence[Run]
) -> Iterator[tuple[int, Metrics | Failure]]:
    """The results, for as long as the runs have time; never interrupted while one is being recorded.

    A pack has the time of all its runs: it may come down to one after the other.
    """
    until = time.monotonic() + (place.timeout or math.inf) * len(runs)
    while True:
        with _time_limit(place, runs[0].attempt, until):
            try:
                with nursery.alone():
                    result = next(results, None)
            except GeneratorExit as error:  # raised by the user's code; passed on, it would end us in silence
                raise RuntimeError("the training code raised GeneratorExit") from error
        if result is None:
            return
        yield result


@contextlib.contextmanager
def _time_limit(place: Place, attempt: Attempt, until: float) -> Iterator[None]:
    """After the run's time: its stacks into its log, then an exception; a process of its own is ended if deaf."""
    if not place.timeout or place.forked or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Open for the watchdog below, which can open nothing; stderr is no file while runs are captured.
    with atomic.append(attempt.path / LOG) as log:

        def over(*_: object) -> None:
            with contextlib.suppress(OSError):  # the record will say the same
                attempt.log_text(_stacks())
            raise TimeLimit(f"still running after {place.timeout:g} s")

        left = max(until - time.monotonic(), 0.001)
        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, left)
        if place.own_process:
            # Of a process in which no Python runs any more, nobody else can write the stacks.
            faulthandler.dump_traceback_later(left + 30, exit=True, file=log.fd)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            faulthandler.cancel_dump_traceback_later()


def _stacks() -> str:
    """Where each thread is, innermost call first, without a look at any source file."""
    said = []
    for thread, frame in sys._current_frames().items():
        said.append(f"Thread {thread:#x} (most recent call first):")
        for each, line in islice(traceback.walk_stack(frame), DEPTH):
            said.append(f'  File "{each.f_code.co_filename}", line {line} in {each.f_code.co_name}')
    return "\n".join(said) + "\n"


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
