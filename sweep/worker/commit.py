"""The record of a run that has ended: put together and committed to the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.determinism.environment import environment_id, switches_stood
from sweep.handle import Run
from sweep.store import Failure, Record, Store
from sweep.worker.failure import Diverged, Metrics


def commit(store: Store, run: Run, result: Metrics | Failure, seen: Mapping[str, Any]) -> None:
    """Write the record of a run. The first attempt that commits one counts.

    seen: fields of the record that were read when training had ended.
    """
    failure = result if isinstance(result, Failure) else None
    metrics = result if not isinstance(result, Failure) else _kept(run, result)
    if run.deterministic and not failure and not switches_stood(seen["environment"]):
        run.note("not deterministic: the training code changed a setting that determinism needs")
    if run.attempt.number > 1 and not run.looked_back:
        run.note(f"attempt {run.attempt.number} started from zero: the training code saves no checkpoints")
    hide = run.attempt.hide
    if failure is not None:
        failure = Failure(failure.kind, hide(failure.message), failure.phase, failure.exception, failure.where)
    record = Record(
        spec=run.spec.to_json(), spec_id=run.id, status="failed" if failure else "ok",
        attempt=run.attempt.nonce, attempts=run.attempt.number, failure=failure, metrics=metrics,
        result=run.outcome, digests=run.chain, environment_id=environment_id(seen["environment"]),
        artifacts=run.attempt.artifacts(), notes=tuple(map(hide, run.notes)), collected=run.collected, **seen,
    )  # fmt: skip
    if store.commit(run.attempt, record):
        run.attempt.drop_checkpoints()


def _kept(run: Run, failure: Failure) -> Metrics:
    """Return the metrics of a failed run: the last ones if it diverged, otherwise none."""
    if isinstance(failure, Diverged):
        return failure.metrics
    return dict(run.last) if failure.kind == "diverged" else {}
