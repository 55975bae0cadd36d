"""A run directory that is kept at a URL: worked on here, copied there as each run ends, read back anywhere.

An object store has no rename, no append and no lock that a dead process lets go of. So a launch works in a directory
of this machine, with all its promises, and copies: the files of a run first, its record last, as one object each.
Whoever reads the URL copies it here first. Checkpoints stay here: another machine starts an unfinished run anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from sweep.errors import StoreError, SweepError
from sweep.store import atomic, lock, manifest, record
from sweep.store.attempt import is_checkpoint
from sweep.store.names import ATTEMPT, EVENTS, LOCK, MANIFEST, MEMBERS, RECORD, inside
from sweep.store.owner import Owner

HANDS = 8  # copies at once: most of one is waiting for the network
_URL = re.compile(r"([a-z][a-z0-9+.-]+):(//?)(.*)", re.DOTALL)  # a Path has made one slash of two


def url_of(place: str | os.PathLike[str]) -> str | None:
    """The URL that `place` is, or None for a path."""
    found = _URL.fullmatch(os.fspath(place))
    if found is None:
        return None
    scheme, slashes, rest = found.groups()
    return f"{scheme}://{rest}" if slashes == "//" or scheme != "file" else f"file:///{rest}"


def located(place: str | os.PathLike[str]) -> tuple[Path, Remote | None]:
    """The directory of this machine to work in, and where it is to be copied, if `place` is a URL.

    Raises: StoreError for no name at all, and for a URL that no file system answers to.
    """
    if not os.fspath(place):
        raise StoreError("names no directory", where="--out", hint="leave it out for runs/NAME, or give . for this one")
    url = url_of(place)
    if url is None:
        return Path(place), None
    if re.match(r"[^/@]*:[^/@]*@", url.partition("://")[2]):
        raise StoreError(
            "a password stands in the URL, and would stand in messages and reports", where=url.partition("://")[0],
            hint="put it where the file system's plug-in looks for it: a file or variables of its own",
        )  # fmt: skip
    from fsspec.core import url_to_fs
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
    return _mirror(url), Remote(url, files, root)


def fetched(place: str | os.PathLike[str]) -> tuple[Path, str]:
    """A directory of this machine that holds what is at `place`, and the URL that it is a copy of, if it is one.

    Raises: StoreError.
    """
    folder, remote = located(place) if url_of(place) is not None else (Path(place), None)
    # While a launch of this machine works in it, nothing anywhere is newer.
    if remote is not None and not _at_work(folder):
        remote.pull()
    return folder, remote.url if remote is not None else ""


def _mirror(url: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    name = re.sub(r"[^A-Za-z0-9._-]", "_", url.rstrip("/").rpartition("/")[2])[:40]
    return cache / "sweep" / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"


def _at_work(folder: Path) -> bool:
    owner = lock.read_owner(folder / LOCK)
    return owner is not None and owner.dead() is not True


class Remote:
    """The place at a URL, and its mirror on this machine.

    Every method raises StoreError when the place does not answer.
    """

    def __init__(self, url: str, files: Any, root: str) -> None:
        self.url, self.files, self.root = url, files, root.rstrip("/")
        self.mirror = _mirror(url)
        self._manifest = b""  # as it was last copied

    # Reading

    def pull(self) -> None:
        """Copy here what is there and not here. Runs appear whole: their records are copied last."""
        with self._answering():
            there = self._listing()
        if MANIFEST not in there:
            raise StoreError(
                "no sweep is here (sweep.json is missing)", where=self.url,
                hint="name a place that `sweep run --out` wrote to",
            )  # fmt: skip
        files = [name for name, size in there.items() if Path(name).name not in (MANIFEST, RECORD, EVENTS)
                 and self._size(name) != size]  # fmt: skip
        with self._answering():
            self._each(self._fetch, files)
            # A name that stays while its content changes has to be looked at.
            self._each(self._fetch_whole, [n for n in there if Path(n).name in (MANIFEST, RECORD, EVENTS)])

    def look(self) -> None:
        """`refresh` for a command that has not begun, and may be about to hear that another is at work here."""
        if not _at_work(self.mirror):
            self.refresh()

    def refresh(self) -> Path | None:
        """Before a launch: `pull`, or begin anew where nothing is at the URL.

        Returns: where a former copy, of what has gone from there, was put out of the way.
        """
        with self._answering():
            if MANIFEST in self._listing():
                self.pull()
                return None
        if not (self.mirror / MANIFEST).exists():
            return None
        former = self.mirror.with_name(f"{self.mirror.name}.old-{os.urandom(4).hex()}")
        former.mkdir()
        for name in (MANIFEST, MEMBERS, EVENTS):
            if (self.mirror / name).exists():
                atomic.move(self.mirror / name, former / name)
        return former

    # Writing

    def settle(self) -> None:
        """After a launch has looked through its mirror: make the place what the mirror is.

        A record that was moved aside here is removed there, once its copy has arrived.
        """
        with self._answering():
            there = self._listing()
            self._put(there, self.mirror / MEMBERS)
            for name in there:
                of_a_run = Path(name).name == RECORD and not Path(name).parent.name.startswith(ATTEMPT)
                if of_a_run and not (self.mirror / name).exists():
                    self.files.rm_file(f"{self.root}/{name}")
            self._put_logs()

    def withdraw(self) -> None:
        """Take back the plan of a sweep in which nothing was begun."""
        with self._answering():
            if set(self._listing()) <= {MANIFEST, EVENTS}:
                self.files.rm_file(f"{self.root}/{MANIFEST}")

    def push(self, key: str) -> bool:
        """Copy one run that has ended. False: another launch had recorded it there first; that one is now here."""
        with self._answering():
            there = self._listing(f"{MEMBERS}/{key}")
            # A record that is there already is not taken for ours before it was compared.
            there.pop(f"{MEMBERS}/{key}/{RECORD}", None)
            won = self._put(there, self.mirror / MEMBERS / key)
            if (self.mirror / MANIFEST).read_bytes() != self._manifest:  # a stopping rule has added seeds
                self._put_logs()
        return won

    def push_all(self) -> None:
        """Copy whatever could not be copied before."""
        with self._answering():
            self._put(self._listing(), self.mirror / MEMBERS)
            self._put_logs()

    @contextmanager
    def held(self, owner: Owner, *, break_lock: bool = False) -> Iterator[None]:
        """Be the only launch at the URL, as far as its file system can tell.

        Where it cannot create an object only if there is none, two launches of the same second may both go on;
        `push` then keeps the first record of each run.
        Raises: StoreError naming the other launch.
        """
        path, data = f"{self.root}/{LOCK}", (atomic.dumps(owner.to_json()) + "\n").encode()
        with self._answering():
            try:
                self._create(path, data)
            except FileExistsError:
                previous = self._lock_owner(path)
                if not break_lock and (previous is None or previous.dead() is not True):
                    raise StoreError(
                        f"another run is at work here ({previous or 'its lock cannot be read'})", where=self.url,
                        hint="wait for it, or use another --out; if that process is surely gone, "
                        "--break-lock takes over",
                    ) from None  # fmt: skip
                self._pipe(path, data)
        try:
            yield
        finally:
            with suppress(Exception):  # a lock that stays behind is taken over here, and broken elsewhere
                if self._lock_owner(path) == owner:
                    self.files.rm_file(path)

    def _lock_owner(self, path: str) -> Owner | None:
        try:
            return Owner.from_json(atomic.loads(self.files.cat_file(path)))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _put(self, there: dict[str, int], folder: Path) -> bool:
        """Everything below `folder` that a record answers for and that is not there; records last."""
        files: list[str] = []
        records: list[str] = []
        for path in sorted(folder.rglob(RECORD)):
            if path.parent.name.startswith(ATTEMPT):  # a failed record that was moved aside
                files += self._below(path.parent)
                continue
            name = self._name(path)
            if name not in there:
                records.append(name)
                with suppress(record.Damaged):
                    found = record.decode(atomic.read(path, record.LIMIT))
                    files += self._below(path.parent / f"{ATTEMPT}{found.attempt}")
        self._each(self._upload, [name for name in files if there.get(name) != self._size(name)])
        return all(self._each(self._record, records))

    def _record(self, name: str) -> bool:
        path = f"{self.root}/{name}"
        data = (self.mirror / name).read_bytes()
        try:
            self._create(path, data)
        except FileExistsError:
            if self.files.cat_file(path) != data:
                self.pull()
                return False
        return True

    def _put_logs(self) -> None:
        """The plan and the launches' log: written by one launch at a time, and replaced whole."""
        data = (self.mirror / MANIFEST).read_bytes()
        self._pipe(f"{self.root}/{MANIFEST}", data)
        self._manifest = data
        if (self.mirror / EVENTS).exists():
            self._pipe(f"{self.root}/{EVENTS}", (self.mirror / EVENTS).read_bytes())

    def _create(self, path: str, data: bytes) -> None:
        """Put an object where none is; only some file systems can make sure. Raises: FileExistsError."""
        self.files.invalidate_cache()
        if self.files.exists(path):
            raise FileExistsError(path)
        try:
            self._pipe(path, data, mode="create")
        except (TypeError, NotImplementedError):
            self._pipe(path, data)

    def _pipe(self, path: str, data: bytes, **how: str) -> None:
        self._in_a_folder(path, partial(self.files.pipe_file, path, data, **how))

    def _in_a_folder(self, path: str, put: Callable[[], Any]) -> None:
        """Object stores have no folders to make; elsewhere it is found out by trying."""
        try:
            put()
        except FileNotFoundError:
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            put()

    # Names and copies

    def _listing(self, below: str = "") -> dict[str, int]:
        """Name -> bytes of every file of ours there. Raises: StoreError for a name that leads out."""
        self.files.invalidate_cache()
        try:
            found = self.files.find(f"{self.root}/{below}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        start = len(self.files._strip_protocol(self.root).rstrip("/")) + 1
        sizes = {path[start:]: int(about.get("size") or 0) for path, about in found.items()}
        return {name: size for name, size in sizes.items() if _ours(name)}

    def _below(self, folder: Path) -> list[str]:
        paths = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())
        return [name for name in map(self._name, paths) if _ours(name)]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.mirror).as_posix()

    def _size(self, name: str) -> int:
        try:
            return (self.mirror / name).stat().st_size
        except OSError:
            return -1

    def _each(self, function: Any, names: list[str]) -> list[Any]:
        if not names:
            return []
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(HANDS, len(names))) as hands:
            return list(hands.map(function, names))

    def _upload(self, name: str) -> None:
        path = f"{self.root}/{name}"
        self._in_a_folder(path, partial(self.files.put_file, os.fspath(self.mirror / name), path))

    def _fetch(self, name: str) -> None:
        path = self._place(name)

        def copy(stream: IO[bytes]) -> None:
            with self.files.open(f"{self.root}/{name}", "rb") as source:
                shutil.copyfileobj(source, stream, 1 << 20)

        atomic.write(path, copy, durable=False)

    def _fetch_whole(self, name: str) -> None:
        limit = manifest.LIMIT if name == MANIFEST else record.LIMIT
        with self.files.open(f"{self.root}/{name}", "rb") as source:
            data = source.read(limit + 1)
        path = self._place(name)
        if len(data) <= limit and not (path.exists() and path.read_bytes() == data):
            atomic.write(path, data, durable=False)

    def _place(self, name: str) -> Path:
        path = inside(self.mirror, self.mirror / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except SweepError:
            raise
        except Exception as error:  # each plug-in has exceptions of its own
            raise StoreError(
                f"does not answer ({type(error).__name__}: {error})", where=self.url,
                hint="check the network and the plug-in's own settings; the same command goes on",
            ) from error  # fmt: skip


def _ours(name: str) -> bool:
    """Whether a file of a run directory is copied: the plan, the log, and what runs wrote; no checkpoints."""
    leaf = name.rpartition("/")[2]
    if name in (MANIFEST, EVENTS):
        return True
    return name.startswith(f"{MEMBERS}/") and not leaf.startswith(atomic.TEMPORARY) and not is_checkpoint(Path(leaf))
