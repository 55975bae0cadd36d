"""Rehearse: train a run as the worker does, to see its digests; nothing of it is recorded."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import Tensor

from sweep import digest, fingerprint, seeding, worker
from sweep.handle import Interrupted, Run
from sweep.steps import Steps
from sweep.store import Attempt, Failure
from sweep.store.owner import this_process
from sweep.task import Accident, Interval
from sweep.train import lanes, loop
from sweep.verify.request import Request, Trained
from sweep.verify.watch import Watch

NEVER = Interval(epochs=0, seconds=0)


@dataclass
class Rehearsal(Run):
    """A run that keeps no checkpoints, and whose built-in loop ends after `limit` steps.

    each: every step is digested on the way there. marks: when each step was done.
    """

    limit: int | None = None
    each: bool = True
    marks: list[float] = field(default_factory=list)
    environment: tuple[dict[str, Any], dict[str, Any]] | None = None

    def checkpoint_due(self, *, epoch_end: bool) -> bool:
        if epoch_end or self.spec.target.kind != "recipe":  # a user's steps are seen at its optimizers
            return False
        self.marks.append(time.perf_counter())
        return self.limit is not None and (self.each or len(self.marks) >= self.limit)

    def checkpoint(self, state: Mapping[str, Any], *, step: int) -> None:
        if self.each:
            self.digest(f"step/{step}", digest.tensors(dict(_flat(state))))
        if self.limit is not None and step >= self.limit:
            self.look_around()
            raise Interrupted

    def look_around(self) -> None:
        """Read the environment while the training code still has it as it wants it."""
        self.environment = fingerprint.collect(self.threads, device=self.device)

    def restore(self) -> dict[str, Any] | None:
        return None


def _flat(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    return [found for key, each in items for found in _flat(each, f"{name}/{key}")]


def rehearse(request: Request, *, where: str = "this process") -> Trained:
    """Train in this process. Settings that training changes are put back; random streams are not."""
    spec = request.spec
    folder = Path(request.path)
    folder.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(folder, spec.id, this_process(), number=1)
    recipe = spec.target.kind == "recipe"
    run = Rehearsal(spec, attempt, NEVER, limit=request.steps if recipe else None, each=request.task != "cost")
    begun = time.monotonic()
    failure: Failure | None = None
    metrics: dict[str, float] = {}
    stopped = False
    heard = io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(heard))
        stack.enter_context(contextlib.redirect_stderr(heard))
        stack.enter_context(seeding.restored())
        stack.enter_context(_steps(run, request))
        if request.trace:
            stack.enter_context(_trace(request.trace))
        for _, result in worker.attempted([run], request.place):
            if isinstance(result, Interrupted):
                stopped = True
            elif isinstance(result, Failure):
                failure = Failure(result.kind, result.message, result.phase, result.exception, result.where)
            elif isinstance(result, Accident):
                failure = Failure("killed", str(result))
            elif isinstance(result, dict):
                metrics = result
            if run.environment is None:
                run.look_around()
    attempt.close()
    numeric, context = run.environment or ({}, {})
    if not recipe and not stopped and failure is None:
        # The built-in loop digests its weights and predictions; of a user's code these are what there is to see.
        for name, value in metrics.items():
            run.digest(f"metrics/{name}", hashlib.sha256(value.hex().encode()).hexdigest())
    return Trained(
        where=where, chain=dict(run.chain), metrics=metrics, environment=numeric, context=context,
        seconds=time.monotonic() - begun, steps=len(run.marks), stopped=stopped, failure=failure,
        notes=tuple(run.notes), folder=str(folder), marks=tuple(run.marks),
    )  # fmt: skip


def _steps(run: Rehearsal, request: Request) -> AbstractContextManager[Steps | None]:
    """The built-in loop says itself what it does; a user's function is seen at its optimizers, step by step here."""
    if run.spec.target.kind != "function":
        return contextlib.nullcontext()

    def link(name: str, value: Callable[[], str]) -> None:
        if name != "initial" and request.steps is not None and run.each:
            run.digest(name, value())

    def after(count: int) -> None:
        run.marks.append(time.perf_counter())
        if request.steps is not None and count >= request.steps:
            run.look_around()
            raise Interrupted

    return Steps(link, after)


@contextlib.contextmanager
def _trace(path: str) -> Any:
    with open(path, "w", encoding="utf-8", buffering=1) as stream:

        def say(step: int, what: str, where: str, kind: str, value: Callable[[], str]) -> None:
            stream.write("\t".join([str(step), what, where, kind, value()]) + "\n")

        # A captured graph calls no hooks; the plain loop has the same bits.
        with Watch(say), patch.object(lanes, "train", loop.train):
            yield
