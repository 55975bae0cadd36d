"""Training: find the code of a run, seed, call it within its time limit, and turn its exceptions into failures."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweep import forkserver
from sweep.determinism import kernels, seeding
from sweep.errors import MetricError, SweepError
from sweep.handle import RETURN, Run, as_result, weighed
from sweep.job import Accident, Cancelled, CannotWrite, Interrupted, Job, OneByOne
from sweep.plan import SPLIT, RunSpec
from sweep.store import Attempt, Failure, atomic
from sweep.store.names import LOG
from sweep.target.function import find, user_traceback
from sweep.target.params import bind
from sweep.worker.failure import Metrics, TimeLimit, diverged, failure_of, of_an_accident, of_the_disk, text_of
from sweep.worker.own_folder import lent

if TYPE_CHECKING:
    from sweep.train.recipe import Recipe

Result = tuple[int, Metrics | Failure]  # the position of a run in its bundle, and its result
Trainer = Callable[[Sequence[Run]], Iterator[Result]]


def attempted(runs: Sequence[Run], job: Job) -> Iterator[Result]:
    """Yield the results of the trainer. An exception of the user's code becomes the failure of its run.

    Raises: Interrupted, Unrecorded: the reason why the remaining runs have no result.
    """
    pending = list(range(len(runs)))
    phase = "setup"
    try:
        spec = runs[0].spec
        effective = seeding.set_threads(spec.threads)
        if effective != spec.threads:
            raise SweepError(f"{spec.threads} threads were requested, but torch uses {effective}")
        # Deterministic mode leaves new memory unfilled. The canary, which fills it, shows whether code reads it.
        seeding.fill_memory(job.fill_memory or not spec.deterministic)
        seeding.seed_everything(spec.seed, deterministic=spec.deterministic)
        trainer = _trainer(spec, job)
        phase = "train"
        for index, result in _in_time(trainer(runs), job, runs):
            pending.remove(index)
            yield index, _late(job) or (result if isinstance(result, Failure) else (diverged(result) or result))
        for index in pending:
            yield index, Failure("returned", "the trainer ended without a result for this run", phase)
    except (Interrupted, Cancelled, GeneratorExit):
        raise
    except BaseException as error:
        if _from_the_keyboard(error, job):
            raise
        if reason := of_the_disk(error, runs[0].dir):
            raise CannotWrite(reason) from error
        for index in pending:
            runs[index].attempt.log_text(f"{user_traceback(error)}\n")
        if reason := of_an_accident(error):
            raise Accident(runs[0].attempt.hide(reason)) from error
        if len(pending) > 1 and phase == "train" and not isinstance(error, TimeLimit):
            first = text_of(error).strip().partition("\n")[0]
            raise OneByOne(runs[0].attempt.hide(f"{type(error).__name__}: {first}")) from error
        failure = _late(job) or failure_of(error, phase)
        if failure.kind == "nondeterministic" and phase == "train":
            failure = replace(failure, message=kernels.explained(error, spec.device))
        for index in pending:
            yield index, failure


def _in_time(results: Iterator[Result], job: Job, runs: Sequence[Run]) -> Iterator[Result]:
    """Yield the results within the time limit, which never interrupts the recording of a result.

    A bundle gets the time of all its runs, because they may be trained one after the other.
    """
    until = time.monotonic() + (job.timeout or math.inf) * len(runs)
    while True:
        with _time_limit(job, runs[0].attempt, until):
            try:
                with forkserver.alone():
                    result = next(results, None)
            except GeneratorExit as error:  # raised by the user's code; passed on, it would end this generator silently
                raise RuntimeError("the training code raised GeneratorExit") from error
        if result is None:
            return
        yield result


@contextlib.contextmanager
def _time_limit(job: Job, attempt: Attempt, until: float) -> Iterator[None]:
    """Write stacks to the log when the time is over, then raise. End a process of its own that does not react."""
    if not job.timeout or job.forked or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Opened here, because faulthandler cannot open files, and stderr is not a file while output is captured.
    with atomic.Appender(attempt.path / LOG) as log:

        def over(*_: object) -> None:
            faulthandler.dump_traceback(log.fd)
            raise TimeLimit(f"still running after {job.timeout:g} s")

        left = max(until - time.monotonic(), 0.001)
        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, left)
        if job.own_process:
            # If Python code no longer runs, only this timer can write the stacks.
            faulthandler.dump_traceback_later(left + 30, exit=True, file=log.fd)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            faulthandler.cancel_dump_traceback_later()


def _late(job: Job) -> Failure | None:
    """Return the failure of a run that ended too late, whose result does not count, or None if it was in time."""
    if time.monotonic() <= job.until:
        return None
    return Failure("timeout", f"still running after {job.timeout:g} s")


def _from_the_keyboard(error: BaseException, job: Job) -> bool:
    """Return whether an error is a Ctrl-C in a notebook, and not a KeyboardInterrupt raised by the user's code."""
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and not job.own_process and default


def _trainer(spec: RunSpec, job: Job) -> Trainer:
    if spec.target.kind == "command":
        from sweep.worker.command import trainer

        return trainer(spec, job.collect, own_folder=job.own_folder, gpus=job.gpus)
    if job.function is not None:
        import cloudpickle

        function = cloudpickle.loads(job.function)  # the user's own, from this session, never from a file
    else:
        function = find(spec.target.reference)
    arguments = bind(function, spec.params, kind=spec.target.kind)
    if spec.target.kind == "recipe":
        return partial(_recipe, function(**arguments))

    def each(runs: Sequence[Run]) -> Iterator[Result]:
        for index, run in enumerate(runs):
            with _working_in(run, job), weighed(run):
                returned = function(run, **arguments)
            where = f"{spec.target.reference} with seed {run.seed}"
            if returned is None and (run.last or run.scored):
                returned = run.last
            metrics, notes = as_result(returned, where=where)
            metrics = run.scored | metrics
            for note in notes:
                run.note(note)
            if not metrics:
                raise MetricError("gave no metrics", where=where, hint=RETURN)
            if not run.outcome:
                run.result("returned", None)
            yield index, metrics

    return each


@contextlib.contextmanager
def _working_in(run: Run, job: Job) -> Iterator[None]:
    """Work in a folder of the run if the job requires it. A process that was forked for the run stays there."""
    if not job.own_folder:
        yield
        return
    launch, own = Path.cwd(), run.dir / "cwd"
    own.mkdir()
    with lent(launch, own):
        os.chdir(own)
        try:
            yield
        finally:
            if not job.forked:
                os.chdir(launch)


def _recipe(recipe: Recipe, runs: Sequence[Run]) -> Iterator[Result]:
    """Train runs with one split or fold together, and runs whose split varies one after the other."""
    if runs[0].spec.vectorize:
        from sweep.train.vector import train
    else:
        from sweep.train.lanes import train

    from sweep.train.splits import Fold

    first = runs[0].spec
    if SPLIT not in first.streams and not first.folds:
        yield from train(recipe, runs)
        return
    if recipe.resplit is None:
        raise SweepError("this recipe does not draw its split", hint="leave out folds, or split in vary")
    if first.folds:
        yield from train(recipe.resplit(Fold(first.fold, first.folds)), runs)
        return
    for index, run in enumerate(runs):
        for _, result in train(recipe.resplit(run.streams[SPLIT]), [run]):
            yield index, result
