"""A rehearsal: a run is trained in this process as a worker does, for its digests. Nothing is recorded."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sweep.determinism import digest, fingerprint, seeding
from sweep.determinism.steps import Steps
from sweep.handle import Run
from sweep.job import Accident, Interrupted
from sweep.plan import RunSpec
from sweep.store import Attempt, Failure
from sweep.store.owner import this_process
from sweep.verify.locate import TRACE, traced
from sweep.verify.process import Request, Trained
from sweep.worker.train import attempted


def scratch_run(spec: RunSpec, folder: Path, **options: Any) -> Run:
    """Return a run that writes to a folder and is not recorded. options: those of `Run`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Run(spec, Attempt(folder, spec.id, this_process(), number=1), (0, 0.0), **options)


def rehearse(request: Request, folder: Path, *, where: str = "this process", digests: bool = True) -> Trained:
    """Train in this process, writing to a folder. Restore settings that training changes, but not random streams.

    digests: take digests of the weights after each requested step. False if only the times matter.
    """
    spec, limit = request.spec, request.steps
    marks: list[float] = []  # the end of each step
    environment: dict[str, Any] = {}

    def look() -> None:
        """Read the environment as the training code left it."""
        if not environment:
            environment.update(fingerprint.collect(spec.device)[0])

    def link(name: str, value: Callable[[], str]) -> None:
        if name == "initial":
            return
        marks.append(time.perf_counter())
        if limit is None:
            return
        if digests:
            run.digest(name, value())
        if len(marks) >= limit:
            look()
            raise Interrupted

    def stepped(step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        link(f"step/{step}", lambda: digest.tensors(dict(_flat(state()))))

    run = scratch_run(spec, folder, rehearsal=True, plain=request.traced, on_step=stepped)
    begun = time.monotonic()
    failure: Failure | None = None
    metrics: dict[str, float] = {}
    stopped = False
    heard = io.StringIO()
    # The built-in loop reports its steps. Those of a user's function are seen at its optimizers.
    steps = Steps(link) if spec.target.kind == "function" else contextlib.nullcontext()
    watched = traced(folder / TRACE) if request.traced else contextlib.nullcontext()
    with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard), seeding.restored(), steps, watched:
        try:
            for _, result in attempted([run], request.job):
                if isinstance(result, Failure):
                    failure = Failure(result.kind, result.message, result.phase, result.exception, result.where)
                else:
                    metrics = result
                look()
        except Interrupted:
            stopped = True
        except Accident as accident:
            failure = Failure("killed", str(accident))
        look()
    run.attempt.close()
    if spec.target.kind != "recipe" and not stopped and failure is None:
        # The built-in loop makes digests of its weights and predictions. User code may have only its metrics.
        for name, value in metrics.items():
            run.digest(f"metrics/{name}", hashlib.sha256(value.hex().encode()).hexdigest())
    return Trained(
        where=where, chain=dict(run.chain), metrics=metrics, environment=environment,
        seconds=time.monotonic() - begun, steps=len(marks), stopped=stopped, failure=failure, marks=tuple(marks),
    )  # fmt: skip


def _flat(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    return [found for key, each in items for found in _flat(each, f"{name}/{key}")]
