"""The run that a command trains again, from a config or from a run directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sweep.config import Collect
from sweep.errors import ConfigError, StoreError
from sweep.job import Job
from sweep.plan import Plan, RunSpec
from sweep.prepare import data_digest_of, job_of
from sweep.redaction import HIDDEN, NOT_RECORDED
from sweep.store import Member, Record, Store, atomic
from sweep.target.function import resolve
from sweep.target.trust import require_trust
from sweep.words import path_argument


@dataclass(frozen=True)
class Subject:
    """One run and the job to train it, with store and record if it comes from a directory."""

    spec: RunSpec
    job: Job
    store: Store | None = None
    record: Record | None = None


def of_config(plan: Plan, *, seed: int | None = None, variant: str | None = None) -> Subject:
    """Return the first run of a plan, or the run of a seed and a variant (a part of its name is enough).

    Raises: ConfigError.
    """
    specs = list(plan.of_seed(plan.config.seeds[0] if seed is None else seed))
    found = [s for s in specs if variant is None or variant in s.variant]
    if not found:
        names = ", ".join(dict.fromkeys(s.variant for s in specs))
        raise ConfigError(f"there is no variant {variant!r}", hint=f"variants: {names or 'only one, without a name'}")
    return Subject(found[0], replace(job_of(plan), timeout=None))


def of_directory(
    path: Path,
    *,
    seed: int | None = None,
    variant: str | None = None,
    repeat: int = 0,
    trust: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Subject:
    """Return a finished run of a directory, which may come from anywhere.

    The code that would be imported or started is reported first, and refused without `trust` unless it is a built-in
    recipe. Raises: StoreError, TargetError, ConfigError, before anything is imported.
    """
    store = Store.open(path)
    member = _member(store, seed, variant, repeat)
    record = member.record
    assert record is not None
    spec = RunSpec.from_json(record.spec)
    require_trust(spec.target, trust, say, record.spec["params"])
    if HIDDEN in atomic.dumps(spec.to_json()):
        raise StoreError(
            NOT_RECORDED, where=f"{store.path}: {member.key}",
            hint="verify it from its config: sweep verify CONFIG",
        )  # fmt: skip
    require_same_code(spec)
    asked = {k: v for k, v in (store.manifest.config.get("collect") or {}).items() if v is not None}
    job = Job(
        folder=os.getcwd(), own_folder=bool(store.manifest.experiment.get("cwd")),
        collect=Collect.model_validate(asked) if asked else None,
    )  # fmt: skip
    return Subject(spec, job_as_of(record, job), store, record)


def job_as_of(record: Record, job: Job) -> Job:
    """Return a job that fills new memory as for a record. Earlier versions always filled it."""
    return replace(job, fill_memory=record.environment.get("fill_uninitialized_memory") is not False)


def _member(store: Store, seed: int | None, variant: str | None, repeat: int) -> Member:
    members = list(store.scan())
    found = [
        m for m in members
        if seed in (None, m.seed) and m.repeat == repeat and (variant is None or variant in m.variant)
    ]  # fmt: skip
    if not found:
        seeds = ", ".join(str(s) for s in sorted({m.seed for m in members})[:20])
        raise StoreError(
            f"there is no run of seed {seed}" + (f" and variant {variant!r}" if variant else ""), where=str(store.path),
            hint=f"choose one of its seeds: {seeds}",
        )  # fmt: skip
    done = [m for m in found if m.status == "ok"]
    if not done:
        raise StoreError(
            f"the status of {found[0].key} is {found[0].status}, so there is no result to compare with",
            where=str(store.path),
            hint=f"see its runs: sweep status {path_argument(str(store.path))}",
        )  # fmt: skip
    return done[0]


def require_same_code(spec: RunSpec) -> None:
    """Refuse code or data that differ from those of the run. Raises: StoreError."""
    if spec.target.kind == "command":
        return
    now, function = resolve(spec.target.kind, spec.target.reference)
    if now.digest != spec.target.digest:
        raise StoreError(
            f"its source has changed: {spec.target.digest[:16]} then, {now.digest[:16]} now",
            where=spec.target.reference,
            hint="check out the commit that it was trained with (git_commit in its record)",
        )  # fmt: skip
    data = data_digest_of(spec.target, spec.params, function)
    if data.partition(",")[0] == spec.data.partition(",")[0] != data:
        raise StoreError(
            "an earlier version of sweep normalised these data in float32, which is not precise enough",
            where="params.data",
            hint="train it again: sweep run with another --out",
        )  # fmt: skip
    if data != spec.data:
        raise StoreError(
            f"the data have changed: {spec.data[:16]} then, {data[:16]} now", where="params.data",
            hint="restore the files that it was trained with",
        )  # fmt: skip
