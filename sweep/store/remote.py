"""A run directory at a URL: worked on in a directory of this machine, and copied there as each run ends.

An object store has no rename, no append and no lock that a dead process lets go of, so the URL holds copies and
nothing else: the files of a run first, its record last, each an object of its own. A reader finds whole runs or none.
Nothing keeps two launches from one URL: they may train the same run twice, and then the record that was copied first
counts. Checkpoints are not copied: another machine starts an unfinished run anew.
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
from sweep.store.names import ATTEMPT, EVENTS, LOCK, MANIFEST, MEMBERS, RECORD, inside

_URL = re.compile(r"([a-z][a-z0-9+.-]+):(//?)(.*)", re.DOTALL)  # a Path has made one slash of two


def url_of(place: str | os.PathLike[str]) -> str | None:
    """Return the URL that `place` is, or None for a path."""
    found = _URL.fullmatch(os.fspath(place))
    if found is None:
        return None
    scheme, slashes, rest = found.groups()
    return f"{scheme}://{rest}" if slashes == "//" or scheme != "file" else f"file:///{rest}"


def located(place: str | os.PathLike[str]) -> tuple[Path, Remote | None]:
    """Return the directory of this machine to work in, and where it is copied, if `place` is a URL.

    Raises: StoreError for no name at all, and for a URL that no file system answers to.
    """
    if not os.fspath(place):
        raise StoreError("names no directory", where="--out", hint="leave it out for runs/NAME, or give . for this one")
    url = url_of(place)
    if url is None:
        return Path(place), None
    if re.match(r"[^/@]*:[^/@]*@", url.partition("://")[2]):
        raise StoreError(
            "a password is in the URL, and would appear in messages and reports", where=url.partition("://")[0],
            hint="put it where the file system's plug-in looks for it: a file or variables of its own",
        )  # fmt: skip
    from fsspec.core import url_to_fs
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(
            f"no file system answers to this URL ({error})", where=url,
            hint="install the fsspec plug-in it needs (s3fs, gcsfs, adlfs, ...), or name a directory",
        ) from error  # fmt: skip
    if isinstance(files, LocalFileSystem):
        return Path(root), None
    remote = Remote(url, DirFileSystem(root, files))
    return remote.mirror, remote


def fetched(place: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return a directory of this machine that holds what is at `place`, and the URL or zip it is a copy of, if any.

    Raises: StoreError.
    """
    if is_packed(place):
        return unpacked(Path(place), cache()), os.fspath(place)
    folder, remote = located(place) if url_of(place) is not None else (Path(place), None)
    if remote is None:
        return folder, ""
    if not remote.at_work and not remote.pull():
        raise StoreError(
            "no sweep is here (sweep.json is missing)", where=remote.url,
            hint="name a place that `sweep run --out` wrote to",
        )  # fmt: skip
    return folder, remote.url


def cache() -> Path:
    """Return the folder of this machine in which copies are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sweep"


class Remote:
    """The place at a URL, and the directory of this machine that is copied there.

    files: a file system of fsspec whose root is that place.
    Every method raises StoreError when the place does not answer.
    """

    def __init__(self, url: str, files: Any) -> None:
        self.url, self.files = url, files
        name = re.sub(r"[^A-Za-z0-9._-]", "_", url.rstrip("/").rpartition("/")[2])[:40]
        self.note = ""
        self.mirror = cache() / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"

    @property
    def at_work(self) -> bool:
        """Return whether a launch of this machine works in the directory: then nothing anywhere is newer."""
        return lock.holder(self.mirror / LOCK) is not None

    def pull(self) -> bool:
        """Copy here what is there and not here. False: no sweep is there."""
        with self._answering():
            there = self._listing()
            if MANIFEST not in there:
                return False
            # These keep their names while their content changes. Records last: runs appear whole.
            growing = [name for name in (MANIFEST, EVENTS, *filter(_is_record, there)) if name in there]
            changed = [name for name in there if name not in growing and self._size(name) != there[name]]
            self._get(changed)
            self._get(growing)
        return True

    def begin(self) -> None:
        """Prepare a launch: `pull`, or put the copy of what has gone from there out of the way, with a note of it."""
        if self.at_work or self.pull() or not (self.mirror / MANIFEST).exists():
            return
        former = self.mirror.with_name(f"{self.mirror.name}.old-{os.urandom(4).hex()}")
        self.mirror.rename(former)
        self.note = f"{self.url} holds no sweep any more: it starts again, and what was here is now {former}"

    def copy(self, key: str = "") -> None:
        """Copy there what is here and not there: one run that has ended, or all runs, then the plan and the log."""
        with self._answering():
            there = self._listing(f"{MEMBERS}/{key}" if key else "")
            records = sorted(self.mirror.joinpath(MEMBERS, key).rglob(RECORD))
            files = [name for path in records for name in self._beside(path)]
            self._put([name for name in files if there.get(name) != self._size(name)])
            self._put([name for name in map(self._name, records) if _is_record(name) and name not in there])
            self._put([name for name in (MANIFEST, EVENTS) if (self.mirror / name).exists()])

    def forget(self, keys: Iterable[str]) -> None:
        """Remove there the records of runs that are to be trained again."""
        with self._answering():
            self._remove(self._listing().keys() & {f"{MEMBERS}/{key}/{RECORD}" for key in keys})

    def withdraw(self) -> None:
        """Take back the plan of a sweep in which nothing was begun."""
        with self._answering():
            if (there := self._listing().keys()) <= {MANIFEST, EVENTS}:
                self._remove(there)

    def _remove(self, names: Set[str]) -> None:
        for name in names:
            self.files.rm_file(name)

    def _listing(self, below: str = "") -> dict[str, int]:
        """Return name -> bytes of every file of ours there."""
        self.files.invalidate_cache()
        try:
            found = self.files.find(below, detail=True)
        except FileNotFoundError:
            return {}
        return {name: int(about.get("size") or 0) for name, about in found.items() if _is_copied(name)}

    def _beside(self, path: Path) -> list[str]:
        """Return the files that a record answers for, or of the attempt into which it was moved aside."""
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
        """Raises: StoreError for a name that leads out of the directory."""
        places = {name: inside(self.mirror, self.mirror / name) for name in names}
        if places:
            self.files.get([*places], [os.fspath(each) for each in places.values()])

    def _put(self, names: Sequence[str]) -> None:
        sources = [os.fspath(self.mirror / name) for name in names]
        if not names:
            return
        try:
            self.files.put(sources, names)
        except FileNotFoundError:  # object stores have no folders to make; elsewhere it is found out by trying
            for folder in {name.rpartition("/")[0] for name in names}:
                self.files.makedirs(folder, exist_ok=True)
            self.files.put(sources, names)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except SweepError:
            raise
        except Exception as error:  # each plug-in has exceptions of its own
            raise StoreError(
                f"does not answer ({type(error).__name__}: {error})", where=self.url,
                hint="check the network and the plug-in's own settings; the same command continues",
            ) from error  # fmt: skip


def _is_record(name: str) -> bool:
    """Return whether a name is that of a run's record, not of one that was moved aside into its attempt."""
    *_, folder, leaf = ("", *name.split("/"))
    return leaf == RECORD and not folder.startswith(ATTEMPT)


def _is_copied(name: str) -> bool:
    """Return whether a file of a run directory is copied: the plan, the log, and what runs wrote; no checkpoints."""
    leaf = name.rpartition("/")[2]
    if name in (MANIFEST, EVENTS):
        return True
    return name.startswith(f"{MEMBERS}/") and not leaf.startswith(atomic.TEMPORARY) and not is_checkpoint(Path(leaf))
