"""Parcels: finished runs on their way from a machine that does not share the run directory to the one that has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sweep.errors import IntegrityError
from sweep.plan import RunSpec
from sweep.store import record
from sweep.store.attempt import Attempt, is_checkpoint, is_result
from sweep.store.directory import Store
from sweep.store.names import ABOUT, ATTEMPT, MEMBERS, RECORD, TOKEN, inside


@dataclass(frozen=True)
class Parcel:
    """The record of a run and its files, by name."""

    key: str
    record: bytes
    files: tuple[tuple[str, bytes], ...]


def shared(path: str, launch: str) -> bool:
    """Return whether the directory at `path` is that of the launch, and not another of the same name."""
    return not launch or (Path(path) / f"{TOKEN}{launch}").exists()


@contextmanager
def elsewhere() -> Iterator[Store]:
    """Create a temporary directory for runs whose files will be sent."""
    with TemporaryDirectory(prefix="sweep-") as folder:
        yield Store.bare(Path(folder))


def sent(store: Store, specs: Iterable[RunSpec]) -> Iterator[Parcel]:
    """Yield a parcel for each run that left a record."""
    for spec in specs:
        member = store.path / MEMBERS / spec.key
        if not (member / RECORD).exists():
            continue
        data = (member / RECORD).read_bytes()
        folder = member / f"{ATTEMPT}{record.decode(data).attempt}"
        files = [
            (path.relative_to(folder).as_posix(), path.read_bytes())
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink() and not is_checkpoint(path) and path.name != ABOUT
        ]
        yield Parcel(spec.key, data, tuple(files))


def unpack(store: Store, spec: RunSpec, parcel: Parcel, launch: str) -> bool:
    """Commit a parcel as the record of its run. Return False if another attempt was first and its record stays.

    Raises: IntegrityError if it holds another run, or other bytes than its record lists.
    """
    made = record.decode(parcel.record)
    if made.spec_id != spec.id:
        raise IntegrityError("a worker sent the result of another run", where=spec.key)
    attempt: Attempt = store.begin(spec, launch)
    try:
        for name, data in parcel.files:
            path = inside(attempt.path, attempt.path / name)
            path.parent.mkdir(parents=True, exist_ok=True)
            attempt.write(name, data)
        arrived = attempt.artifacts()
        # A file of the training code may have grown since the record was made.
        if any(arrived.get(name) != artifact for name, artifact in made.artifacts.items() if is_result(name)):
            raise IntegrityError("its files differ from those that its worker recorded", where=spec.key)
        made = replace(made, attempt=attempt.nonce, attempts=attempt.number, artifacts=arrived)
        return store.commit(attempt, made)
    except BaseException:
        attempt.abandon()
        raise
