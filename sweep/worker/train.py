"""Training: find the code of a run, seed, call it, and turn whatever it raises into what became of the run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.determinism import kernels, seeding
from sweep.errors import SweepError
from sweep.handle import Run, as_result, weighed
from sweep.job import Accident, Cancelled, CannotWrite, Interrupted, Job, Unpacked
from sweep.own_folder import lent
from sweep.plan import SPLIT, RunSpec
from sweep.store import Failure
from sweep.target.function import find, user_traceback
from sweep.target.params import bind
from sweep.worker.failure import (
    Metrics,
    TimeLimit,
    diverged,
    failure_of,
    of_an_accident,
    of_the_disk,
    text_of,
)  # fmt: skip
from sweep.worker.limit import in_time

if TYPE_CHECKING:
    from sweep.train.recipe import Recipe

Result = tuple[int, Metrics | Failure]  # of a pack: which of its runs, and what it came to
Trainer = Callable[[Sequence[Run]], Iterator[Result]]


def attempted(runs: Sequence[Run], job: Job) -> Iterator[Result]:
    """Yield what the trainer yields, every exception of the user's code turned into that run's failure.

    Raises: Interrupted, Unrecorded: the runs that are left have no result, and why.
    """
    pending = list(range(len(runs)))
    phase = "setup"
    try:
        spec = runs[0].spec
        effective = seeding.set_threads(spec.threads)
        if effective != spec.threads:
            raise SweepError(f"{spec.threads} threads were asked for, torch runs {effective}")
        # Deterministic mode leaves new memory unfilled: whether anything reads it shows in the canary, which fills it.
        seeding.fill_memory(job.fill_memory or not spec.deterministic)
        seeding.seed_everything(spec.seed, deterministic=spec.deterministic)
        trainer = _trainer(spec, job)
        phase = "train"
        for index, result in in_time(trainer(runs), job, runs):
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
            raise Unpacked(runs[0].attempt.hide(f"{type(error).__name__}: {text_of(error)}")) from error
        failure = _late(job) or failure_of(error, phase)
        if failure.kind == "nondeterministic" and phase == "train":
            failure = replace(failure, message=kernels.explained(error, spec.device))
        for index in pending:
            yield index, failure


def _late(job: Job) -> Failure | None:
    """Return the failure of a run that ended after its time: it was told to end, so its own result does not count."""
    if time.monotonic() <= job.until:
        return None
    return Failure("timeout", f"still running after {job.timeout:g} s")


def _from_the_keyboard(error: BaseException, job: Job) -> bool:
    """Return whether it is a Ctrl-C in a notebook, rather than a KeyboardInterrupt that the user's code raised."""
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and not job.own_process and default


def _trainer(spec: RunSpec, job: Job) -> Trainer:
    if spec.target.kind == "command":
        from sweep.command import trainer

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
                raise SweepError("gave no metrics", where=where, hint='return e.g. {"test/accuracy": 0.93}')
            if not run.outcome:
                run.result("returned", None)
            yield index, metrics

    return each


@contextlib.contextmanager
def _working_in(run: Run, job: Job) -> Iterator[None]:
    """Work in a folder of the run's own where that is asked for; a process that was forked for it stays there."""
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
    """Train runs on one split or fold together, and runs whose split varies one after the other."""
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
