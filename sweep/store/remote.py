"""A run directory at a URL: a directory of this machine that is copied there whenever a run ends.

An object store has no rename, no append, and no lock that ends with its process. The URL therefore holds only copies:
first the files of a run, then its record, each an object of its own. A reader finds complete runs or none. Two launches
with the same URL are not kept apart: they may train the same run twice, and the record that was copied first counts.
Checkpoints are not copied, so an unfinished run starts again on another machine.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.errors import StoreError, SweepError
from sweep.store import atomic, lock, record
from sweep.store.archive import is_packed, unpacked
from sweep.store.attempt import is_checkpoint
from sweep.store.names import ATTEMPT, EVENTS, LOCK, MANIFEST, MEMBERS, NO_SWEEP, RECORD, inside

_URL = re.compile(r"([a-z][a-z0-9+.-]+):(//?)(.*)", re.DOTALL)  # a Path joins two slashes to one


def url_of(place: str | os.PathLike[str]) -> str | None:
    """Return `place` as a URL, or None if it is a path."""
    found = _URL.fullmatch(os.fspath(place))
    if found is None:
        return None
    scheme, slashes, rest = found.groups()
    return f"{scheme}://{rest}" if slashes == "//" or scheme != "file" else f"file:///{rest}"


def located(place: str | os.PathLike[str]) -> tuple[Path, Remote | None]:
    """Return the directory of this machine to work in, and the remote copy if `place` is a URL.

    Raises: StoreError for an empty name, and for a URL without a file system.
    """
    if not os.fspath(place):
        raise StoreError(
            "is empty", where="--out", hint="leave it out for runs/NAME, or give . for the current directory"
        )
    url = url_of(place)
    if url is None:
        return Path(place), None
    if re.match(r"[^/@]*:[^/@]*@", url.partition("://")[2]):
        raise StoreError(
            "the URL contains a password, which would appear in messages and reports", where=url.partition("://")[0],
            hint="put it where the plug-in of this file system looks for it: in its configuration file or variables",
        )  # fmt: skip
    from fsspec.core import url_to_fs
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(
            f"there is no file system for this URL ({error})", where=url,
            hint="install the fsspec plug-in for it (s3fs, gcsfs, adlfs, ...), or name a directory",
        ) from error  # fmt: skip
    if isinstance(files, LocalFileSystem):
        return Path(root), None
    remote = Remote(url, DirFileSystem(root, files))
    return remote.mirror, remote


def fetched(place: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return a directory of this machine with the content of `place`, and the URL or zip that it was copied from.

    Raises: StoreError.
    """
    if is_packed(place):
        return unpacked(Path(place), cache()), os.fspath(place)
    folder, remote = located(place) if url_of(place) is not None else (Path(place), None)
    if remote is None:
        return folder, ""
    if not remote.at_work and not remote.pull():
        raise StoreError(
            NO_SWEEP, where=remote.url,
            hint="name a place that `sweep run --out` wrote to",
        )  # fmt: skip
    return folder, remote.url


def cache() -> Path:
    """Return the folder of this machine for copies."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sweep"


class Remote:
    """A place at a URL, and the directory of this machine that is copied there.

    files: a file system of fsspec whose root is that place.
    Every method raises StoreError if the place does not respond.
    """

    def __init__(self, url: str, files: Any) -> None:
        self.url, self.files = url, files
        name = re.sub(r"[^A-Za-z0-9._-]", "_", url.rstrip("/").rpartition("/")[2])[:40]
        self.note = ""
        self.mirror = cache() / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"

    @property
    def at_work(self) -> bool:
        """Return whether a launch on this machine is using the directory, which is then the newest state."""
        return lock.holder(self.mirror / LOCK) is not None

    def pull(self) -> bool:
        """Copy from the URL everything that is missing here. Return False if it holds no sweep."""
        with self._answering():
            there = self._listing()
            if MANIFEST not in there:
                return False
            # These files change under the same name. Records come last, so that runs appear complete.
            growing = [name for name in (MANIFEST, EVENTS, *filter(_is_record, there)) if name in there]
            changed = [name for name in there if name not in growing and self._size(name) != there[name]]
            self._get(changed)
            self._get(growing)
        return True

    def begin(self) -> None:
        """Prepare a launch: `pull`, or if the URL no longer holds a sweep, move the local copy aside and note that."""
        if self.at_work or self.pull() or not (self.mirror / MANIFEST).exists():
            return
        former = self.mirror.with_name(f"{self.mirror.name}.old-{os.urandom(4).hex()}")
        self.mirror.rename(former)
        self.note = (
            f"{self.url} no longer holds a sweep: all runs are trained again, and the local copy was moved to {former}"
        )

    def copy(self, key: str = "") -> None:
        """Copy to the URL what it lacks of one ended run or of all runs, and then the plan and the log."""
        with self._answering():
            there = self._listing(f"{MEMBERS}/{key}" if key else "")
            records = sorted(self.mirror.joinpath(MEMBERS, key).rglob(RECORD))
            files = [name for path in records for name in self._beside(path)]
            self._put([name for name in files if there.get(name) != self._size(name)])
            self._put([name for name in map(self._name, records) if _is_record(name) and name not in there])
            self._put([name for name in (MANIFEST, EVENTS) if (self.mirror / name).exists()])

    def forget(self, keys: Iterable[str]) -> None:
        """Remove from the URL the records of runs that will be trained again."""
        with self._answering():
            self._remove(self._listing().keys() & {f"{MEMBERS}/{key}/{RECORD}" for key in keys})

    def withdraw(self) -> None:
        """Remove the plan of a sweep in which no run has begun."""
        with self._answering():
            if (there := self._listing().keys()) <= {MANIFEST, EVENTS}:
                self._remove(there)

    def _remove(self, names: Set[str]) -> None:
        for name in names:
            self.files.rm_file(name)

    def _listing(self, below: str = "") -> dict[str, int]:
        """Return name -> size of every file at the URL that belongs to the sweep."""
        self.files.invalidate_cache()
        try:
            found = self.files.find(below, detail=True)
        except FileNotFoundError:
            return {}
        return {name: int(about.get("size") or 0) for name, about in found.items() if _is_copied(name)}

    def _beside(self, path: Path) -> list[str]:
        """Return the files of the attempt of a record, or of the attempt into which it was moved."""
        folder = path.parent
        if not folder.name.startswith(ATTEMPT):
            try:
                folder /= f"{ATTEMPT}{record.decode(atomic.read(path, record.LIMIT)).attempt}"
            except record.Damaged:
                return []
        paths = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())
        return [name for name in map(self._name, paths) if _is_copied(name)]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.mirror).as_posix()

    def _size(self, name: str) -> int:
        try:
            return (self.mirror / name).stat().st_size
        except OSError:
            return -1

    def _get(self, names: Iterable[str]) -> None:
        """Copy these files from the URL. Raises: StoreError for a name that leads out of the directory."""
        places = {name: inside(self.mirror, self.mirror / name) for name in names}
        if places:
            self.files.get([*places], [os.fspath(each) for each in places.values()])

    def _put(self, names: Sequence[str]) -> None:
        sources = [os.fspath(self.mirror / name) for name in names]
        if not names:
            return
        try:
            self.files.put(sources, names)
        except FileNotFoundError:  # object stores need no folders; other file systems raise this if one is missing
            for folder in {name.rpartition("/")[0] for name in names}:
                self.files.makedirs(folder, exist_ok=True)
            self.files.put(sources, names)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except SweepError:
            raise
        except Exception as error:  # each plug-in raises different exceptions
            raise StoreError(
                f"does not respond ({type(error).__name__}: {error})", where=self.url,
                hint="check the network and the settings of the plug-in, and run the same command to resume",
            ) from error  # fmt: skip


def _is_record(name: str) -> bool:
    """Return whether a name is that of a run's record, and not of one that was moved into its attempt."""
    *_, folder, leaf = ("", *name.split("/"))
    return leaf == RECORD and not folder.startswith(ATTEMPT)


def _is_copied(name: str) -> bool:
    """Return whether a file of a run directory is copied: the plan, the log, and files of runs except checkpoints."""
    leaf = name.rpartition("/")[2]
    if name in (MANIFEST, EVENTS):
        return True
    return name.startswith(f"{MEMBERS}/") and not leaf.startswith(atomic.TEMPORARY) and not is_checkpoint(Path(leaf))
