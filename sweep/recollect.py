"""Metrics of programs, read again from their output and files, without training."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.config.schema import Collect
from sweep.errors import StoreError, SweepError, some
from sweep.metrics import Found, Left, identity, metrics, raw_output, so_far
from sweep.metrics.printed import Backtracks
from sweep.metrics.read import DEFAULT, automatic
from sweep.metrics.seen import Seen, seen
from sweep.plan import RunSpec, content_id
from sweep.store import Failure, Member, Record, Store, atomic, history
from sweep.store.names import HISTORY_AGAIN
from sweep.store.record import Artifact, diverged
from sweep.target.command import placeholders
from sweep.words import plural

READABLE = ("returned", "diverged")  # kinds of failure that another reading may resolve


def collect_of(stored: Mapping[str, Any] | None) -> Collect | None:
    """Return how the metrics of a directory are read, from the config in its manifest."""
    return Collect.model_validate({k: v for k, v in stored.items() if v}) if stored and any(stored.values()) else None


def needed(store: Store, collect: Collect | None) -> bool:
    """Return whether the directory's metrics were read in another way, or an earlier rereading was cut short."""
    wanted = identity(collect)
    if wanted != identity(collect_of(store.manifest.config.get("collect"))):
        return True
    return bool(store.manifest.collected) and any(
        m.record is not None and m.record.collected.get("id") != wanted for m in store.scan()
    )


def recollect(store: Store, collect: Collect | None) -> Iterator[str]:
    """Read the metrics of every run with a record again. New records replace the old ones, which are kept.

    Needs the lock of the directory. The record of each run changes at once or not at all; if the launch dies between
    two of them, the next command reads the rest.

    Raises: StoreError, before anything is changed, if not enough was kept of some runs, or if the new way finds no
    metrics in any run.
    """
    before = collect_of(store.manifest.config.get("collect"))
    for what in ("predictions", "scores"):
        if (getattr(before, what) if before else {}) != (getattr(collect, what) if collect else {}):
            raise StoreError(
                f"{what} are read only when a run ends, and cannot be read again later", where=str(store.path),
                hint=f"leave collect.{what} as it is, or choose another --out",
            )  # fmt: skip
    members = [m for m in store.scan(verify=True) if m.record is not None]
    lacking = [f"{m.key} ({why})" for m in members if (why := _lacking(m, collect))]
    if lacking:
        raise StoreError(
            f"not enough was kept to read these runs again: {some(lacking)}",
            where=str(store.path), hint="train them again with another --out",
        )  # fmt: skip
    made = [(member, *_read(member, collect)) for member in members]
    if made and not any(record.status == "ok" or record.metrics for _, record, _ in made):
        first = next((r.failure for _, r, _ in made if r.failure and r.failure.kind == "returned"), None)
        if first is not None:
            raise StoreError(
                f"no run has metrics there: {first.message}", where=str(store.path),
                hint="name another place with --metrics; nothing was changed",
            )  # fmt: skip
    stored = None if collect is None else collect.model_dump(mode="json", by_alias=True)
    store.reading(stored, identity(collect))
    for member, record, rows in made:
        store.reread(member, record, rows)
    if made:
        ok = sum(record.status == "ok" for _, record, _ in made)
        yield f"the metrics of {plural(len(made), 'run')} were read again, without training: {ok} ok"


def suggestions(store: Store, member: Member) -> list[Seen]:
    """Return the metrics that could be read from a run without any."""
    record, folder = member.record, member.folder
    return [] if record is None or folder is None else seen(_left(record, folder, beside=Path.cwd()))


def _left(record: Record, folder: Path, *, beside: Path | None = None) -> Left:
    values = placeholders(RunSpec.from_json(record.spec), folder, folder)
    texts = {stream: raw_output.kept(folder / name) for stream, name in raw_output.FILES.items()}
    return Left(folder, values, beside, texts["stdout"], texts["stderr"])


def _lacking(member: Member, collect: Collect | None) -> str:
    """Return why the output of a run cannot be read again; "" if it can, or is not needed."""
    folder, record = member.folder, member.record
    if folder is None or record is None or (record.failure is not None and record.failure.kind not in READABLE):
        return ""
    if not (collect.regex if collect is not None and not automatic(collect) else not (folder / DEFAULT).is_file()):
        return ""
    if not record.collected:
        return "made by a version that kept no raw output"
    lost = sum(raw_output.lost(folder / name) for name in raw_output.FILES.values())
    return f"its output was {lost >> 20} MiB over the limit" if lost else ""


def _read(member: Member, collect: Collect | None) -> tuple[Record, bytes]:
    """Return the record of a run after reading it again, and its learning curve in stored form."""
    old, folder = member.record, member.folder
    assert old is not None
    assert folder is not None
    left = _left(old, folder)
    found, failure = None, old.failure
    if failure is None or failure.kind in READABLE:
        try:
            found = metrics(collect, left)
            failure = diverged(found.metrics)
        except Backtracks:
            raise
        except SweepError as problem:
            message = "; ".join(part for part in (problem.what, problem.hint) if part)
            failure = Failure("returned", message, where=problem.where or "")
        except OSError as problem:
            failure = Failure("returned", str(problem))
    found = found or Found({}, so_far(collect, left))
    rows = history.encode(found.history)
    id_ = identity(collect)
    name = HISTORY_AGAIN.format(id=secrets.token_hex(4))
    said = old.collected.get("notes") or ()
    artifacts = {**old.artifacts, name: Artifact(atomic.bytes_digest(rows), len(rows))}
    digests = {key: value for key, value in old.digests.items() if key != "metrics"}
    if found.metrics:
        digests["metrics"] = content_id(atomic.strict(found.metrics))
    made = replace(
        old, status="failed" if failure else "ok", failure=failure, metrics=found.metrics, digests=digests,
        result={"rule": "last reported", "epoch": found.history[-1][0] if found.history else None},
        artifacts=artifacts, collected={"id": id_, "notes": list(found.notes), "words": found.words, "history": name},
        notes=(*(note for note in old.notes if note not in said), *found.notes),
    )  # fmt: skip
    return made, rows
