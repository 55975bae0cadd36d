"""Locks: one launch per directory, by the lock of the kernel and, across hosts, by the name of the owner."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweep.errors import StoreError
from sweep.store import atomic
from sweep.store.owner import Owner, this_process

HELD = ".held"  # a file in place of a lock, if the file system has none: its maker holds the lock while it lives


def read_owner(path: Path) -> Owner | None:
    """Return the owner that a file names, or None if it is absent or damaged."""
    try:
        return Owner.from_json(atomic.loads(atomic.read(path, 1 << 20)))
    except (OSError, ValueError):
        return None


def holder(path: Path) -> Owner | None:
    """Return the owner that a file names unless its process is known to have ended, or None."""
    owner = read_owner(path)
    return owner if owner is not None and owner.dead() is not True else None


def is_lock(path: Path) -> bool:
    """Return whether a file may be a lock of ours: empty, complete, or cut short because its writer died."""
    begin = named(this_process()).partition(b":")[0]
    return begin.startswith(atomic.read(path, 1 << 20)[: len(begin)])


@contextmanager
def held(path: Path, *, break_lock: bool = False) -> Iterator[Owner]:
    """Hold the lock at `path` while the block runs.

    The kernel releases the lock when its owner dies, so a stale one is taken over. If the owner is on another host, the
    file system may not share locks between hosts: then the lock counts until it is broken.

    Raises: StoreError naming host, pid and start of the owner.
    """
    owner = this_process()
    with _taken(path, owner, force=break_lock) as file:
        previous = read_owner(path)
        if previous is not None and previous.dead() is None and not break_lock:
            raise _in_use(path, previous)
        file.overwrite(named(owner))
        try:
            yield owner
        finally:
            with suppress(OSError):  # the kernel releases it anyway, and its owner will have ended
                file.overwrite(b"")


@contextmanager
def briefly(path: Path) -> Iterator[None]:
    """Hold a lock that others hold only for one short step. Wait up to 30 s for it. Raises: StoreError."""
    with _taken(path, this_process(), seconds=30.0):
        yield


@contextmanager
def _taken(path: Path, owner: Owner, *, seconds: float = 0.0, force: bool = False) -> Iterator[atomic.Editor]:
    """Take a lock, waiting for it for `seconds`, and yield its file. Raises: StoreError."""
    give_up = time.monotonic() + seconds
    with atomic.Editor(path) as file:
        while True:
            locked, mark = _try(path, file.fd, owner, force)
            if locked:
                break
            if time.monotonic() >= give_up:
                raise _in_use(path, read_owner(path))
            time.sleep(0.01)
        try:
            yield file
        finally:
            if mark is not None:
                mark.unlink(missing_ok=True)


def create_once(path: Path, data: bytes) -> bool:
    """Write `data` to `path` and return True, or return False if it exists. This also works without hard links."""
    if (made := atomic.create_once(path, data)) is not None:
        return made
    with briefly(path.with_name(f"{path.name}.lock")):
        if os.path.lexists(path):
            return False
        atomic.write(path, data)
        return True


def _try(path: Path, fd: int, owner: Owner, force: bool) -> tuple[bool, Path | None]:
    """Return whether a lock could be taken, and the file that stands for it if the file system has no locks."""
    if (locked := atomic.flock(fd)) is not None:
        return locked, None
    mark = path.with_name(f"{path.name}{HELD}")
    if not atomic.create(mark, named(owner)):
        before = read_owner(mark)
        dead = None if before is None else before.dead()
        if dead or (force and dead is None):
            _take_away(mark, before)
        if not atomic.create(mark, named(owner)):
            return False, None
    return True, mark


def _take_away(mark: Path, dead: Owner | None) -> None:
    """Remove the mark of a dead process, unless another process has replaced it in the meantime."""
    aside = mark.with_name(f"{atomic.TEMPORARY}{this_process().nonce}")
    with suppress(FileNotFoundError):
        atomic.rename(mark, aside)
        if read_owner(aside) != dead:
            atomic.rename(aside, mark)
        aside.unlink(missing_ok=True)


def named(owner: Owner) -> bytes:
    """Return the content of a file that names an owner."""
    return atomic.encoded(owner.to_json())


def _in_use(path: Path, owner: Owner | None) -> StoreError:
    return StoreError(
        f"another command is using this directory ({owner or 'lock owner unknown'})",
        where=str(path.parent),
        hint="wait for it, or use another --out; if you are sure that this process has ended, add --break-lock",
    )
