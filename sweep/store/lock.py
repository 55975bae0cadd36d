"""One writer a directory: the kernel's lock where it reaches, the owner's name where it does not."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweep.errors import StoreError
from sweep.store import atomic
from sweep.store.owner import Owner, this_process


def read_owner(path: Path) -> Owner | None:
    """The owner named in a lock or attempt file; None when there is none or it cannot be read."""
    try:
        return Owner.from_json(atomic.loads(atomic.read(path, 1 << 20)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def held(path: Path, *, break_lock: bool = False) -> Iterator[Owner]:
    """Hold the lock at `path` for as long as the block runs.

    The kernel lets go of the lock when its owner dies, however it dies, so a stale one is taken over. A lock
    of another host may live on a file system that keeps locks to one host: it is believed until broken.

    Raises: StoreError naming host, pid and start of the owner.
    """
    fd = atomic.open_lock(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(path, read_owner(path)) from None
        previous = read_owner(path)
        if previous is not None and previous.dead() is None and not break_lock:
            raise _in_use(path, previous)
        owner = this_process()
        atomic.overwrite(fd, (atomic.dumps(owner.to_json()) + "\n").encode())
        try:
            yield owner
        finally:
            with suppress(OSError):  # the kernel lets go of it all the same, and its owner will be dead
                atomic.overwrite(fd, b"")
    finally:
        os.close(fd)


@contextmanager
def briefly(path: Path, seconds: float = 30.0) -> Iterator[None]:
    """Wait for a lock that others hold only for the length of one write."""
    fd = atomic.open_lock(path)
    try:
        give_up = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise _in_use(path, None) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _in_use(path: Path, owner: Owner | None) -> StoreError:
    return StoreError(
        f"another run is at work here ({owner or 'it has not said its name yet'})",
        where=str(path.parent),
        hint="wait for it, or use another --out; if that process is surely gone, --break-lock takes over",
    )
