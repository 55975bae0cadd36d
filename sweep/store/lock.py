"""One writer a directory: the kernel's lock where it reaches, the owner's name where it does not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweep.errors import StoreError
from sweep.store import atomic
from sweep.store.owner import Owner, this_process

HELD = ".held"  # of a lock on a file system that keeps none: who made the file holds it, for as long as that one lives


def read_owner(path: Path) -> Owner | None:
    """Return the owner named in a lock or attempt file; None when there is none or it cannot be read."""
    try:
        return Owner.from_json(atomic.loads(atomic.read(path, 1 << 20)))
    except (OSError, ValueError):
        return None


def holder(path: Path) -> Owner | None:
    """Return who holds the lock at `path`, as far as that can be told from here, or None."""
    owner = read_owner(path)
    return owner if owner is not None and owner.dead() is not True else None


def is_lock(path: Path) -> bool:
    """Return whether a file may be a lock of ours: empty, whole, or with its writing cut short by a death."""
    begin = named(this_process()).partition(b":")[0]
    return begin.startswith(atomic.read(path, 1 << 20)[: len(begin)])


@contextmanager
def held(path: Path, *, break_lock: bool = False) -> Iterator[Owner]:
    """Hold the lock at `path` for as long as the block runs.

    The kernel lets go of the lock when its owner dies, however it dies, so a stale one is taken over. A lock
    of another host may live on a file system that keeps locks to one host: it is believed until broken.

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
            with suppress(OSError):  # the kernel lets go of it all the same, and its owner will be dead
                file.overwrite(b"")


@contextmanager
def briefly(path: Path) -> Iterator[None]:
    """Wait for a lock that others hold only for the length of one write."""
    with _taken(path, this_process(), seconds=30.0):
        yield


@contextmanager
def _taken(path: Path, owner: Owner, *, seconds: float = 0.0, force: bool = False) -> Iterator[atomic.Editor]:
    """Take a lock, and wait for it so many seconds; yield its file. Raises: StoreError."""
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
    """Do `atomic.create_once` on a file system without hard links as well: there, look and write under a lock."""
    if (made := atomic.create_once(path, data)) is not None:
        return made
    with briefly(path.with_name(f"{path.name}.lock")):
        if os.path.lexists(path):
            return False
        atomic.write(path, data)
        return True


def _try(path: Path, fd: int, owner: Owner, force: bool) -> tuple[bool, Path | None]:
    """Take a lock: whether it was free, and the file that stands for it where the kernel keeps none."""
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
    """Remove what a dead process has left, unless another one was quicker and the file is that one's by now."""
    aside = mark.with_name(f"{atomic.TEMPORARY}{this_process().nonce}")
    with suppress(FileNotFoundError):
        atomic.rename(mark, aside)
        if read_owner(aside) != dead:
            atomic.rename(aside, mark)
        aside.unlink(missing_ok=True)


def named(owner: Owner) -> bytes:
    """Return the content of a file that names an owner."""
    return (atomic.dumps(owner.to_json()) + "\n").encode()


def _in_use(path: Path, owner: Owner | None) -> StoreError:
    return StoreError(
        f"another run is at work here ({owner or 'lock owner unknown'})",
        where=str(path.parent),
        hint="wait for it, or use another --out; if that process is surely gone, --break-lock takes over",
    )
