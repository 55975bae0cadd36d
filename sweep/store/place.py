"""The place of a sweep: whether it can be used for one, and the marks and temporary files in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sweep.errors import StoreError, some
from sweep.store import atomic, lock
from sweep.store.names import EVENTS, LOCK, MANIFEST, MANIFEST_LOCK, MEMBERS, STOP, TOKEN, is_ours
from sweep.store.owner import Owner

_OURS = frozenset(
    {MANIFEST, MEMBERS, EVENTS, *(name + end for name in (LOCK, MANIFEST_LOCK) for end in ("", lock.HELD))}
)


def require(root: Path) -> None:
    """Refuse a place that is not writable, holds other files, or lies in another sweep. Raises: StoreError."""
    _require_writable(root)
    _require_own(root)


def claim(path: Path) -> None:
    """Create the directory and check that it can be written, before anything is trained.

    Raises: StoreError.
    """
    require(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        atomic.probe(path)
    except OSError as error:
        raise StoreError(
            f"its file system cannot keep results ({error.strerror})", where=str(path),
            hint="choose an --out on another file system",
        ) from error  # fmt: skip


def require_plain(folder: Path) -> None:
    """Refuse a folder of runs that is a link. Raises: StoreError."""
    if folder.is_symlink():
        raise StoreError(
            "is a link, but the runs must be inside the run directory", where=str(folder),
            hint="move the whole run directory and link to that",
        )  # fmt: skip


def scraps(folder: Path) -> Iterator[Path]:
    """Yield our temporary files in a folder."""
    return _ours(folder, atomic.TEMPORARY)


def marks(root: Path) -> Iterator[Path]:
    """Yield the files by which launches stop their runs and mark their directory."""
    return _ours(root, STOP, TOKEN)


def launches(root: Path) -> dict[str, Owner]:
    """Return the launches in a directory by nonce, without those whose process is known to have ended."""
    found = {path.name.removeprefix(TOKEN): lock.holder(path) for path in _ours(root, TOKEN)}
    return {nonce: owner for nonce, owner in found.items() if owner is not None}


def _ours(folder: Path, *prefixes: str) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from [path for path in folder.iterdir() if is_ours(path.name, *prefixes)]


def _is_ours(path: Path) -> bool:
    """Return whether a file or folder directly below a run directory belongs to sweep."""
    if path.name == LOCK and path.is_file():
        return lock.is_lock(path)  # otherwise it is a file of the user with this name
    return path.name in _OURS or is_ours(path.name, STOP, TOKEN, atomic.TEMPORARY)


def _require_own(root: Path) -> None:
    """Refuse a place that is not for one sweep alone, because a launch may replace all files of a run directory.

    Raises: StoreError for a directory that holds other files, or lies in another sweep.
    """
    for above in root.absolute().parents:
        if (above / MANIFEST).is_file():
            raise StoreError(f"lies inside the sweep at {above}", where=str(root), hint="choose an --out outside of it")
    if (root / MANIFEST).exists():
        return
    with suppress(FileNotFoundError, NotADirectoryError):
        # Listed once, because another `ml-train` may be creating its first files here.
        others = sorted(path.name for path in root.iterdir() if not _is_ours(path))
        if others:
            raise StoreError(
                f"holds other files ({some(others, 3)}), but a sweep needs its own directory", where=str(root),
                hint=f"name a new folder, e.g. --out {root / 'sweep'}",
            )  # fmt: skip


def _require_writable(root: Path) -> None:
    """Refuse a place that cannot be written. Raises: StoreError."""
    there = root
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise StoreError("is not a directory", where=str(there), hint="choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StoreError("is not writable", where=str(there), hint="choose another --out, or fix its permissions")
