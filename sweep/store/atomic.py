"""All writes to a run directory: a file is complete and durable, or absent.

A file is written under a temporary name in the same folder, flushed, fsynced and renamed, and the folder is fsynced. A
crash at any moment therefore leaves the old file or the new one. Logs and histories grow by whole lines. The small
functions at the top are the only system calls that write to a disk. Tests make each of them fail, or kill the process
in it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter, RawIOBase
from pathlib import Path
from typing import IO, Any

from sweep.errors import StoreError

Json = Any
Content = bytes | memoryview | Callable[[IO[bytes]], None]  # of a file, or a function that writes it to a stream

# Errors of file systems without hard links (FAT, SMB, buckets) or without locks (some of Lustre and NFS).
_WITHOUT = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EMLINK)

DEEPEST = 100  # levels of JSON that are read: recursive functions need several calls for each level

TEMPORARY = ".tmp-"  # prefix of files that a killed writer leaves behind: readers ignore them, a launch removes them


def _open(path: Path, flags: int) -> int:
    # A link in place of our file would lead a writer out of the directory.
    made = os.O_NOFOLLOW if flags & os.O_CREAT else 0
    try:
        return os.open(path, flags | made | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if made and error.errno == errno.ELOOP:
            raise StoreError(
                "is a link, and a run directory must not contain links",
                where=str(path),
                hint="remove it, or choose another --out",
            ) from None
        raise


def _write(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _fsync(fd: int) -> None:
    os.fsync(fd)


def _replace(source: Path, target: Path) -> None:
    os.replace(source, target)


def _link(source: Path, target: Path) -> None:
    os.link(source, target)


def _flock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _truncate(fd: int, size: int) -> None:
    os.ftruncate(fd, size)


def make_durable(path: Path) -> None:
    """Fsync a file that was written without it, or the entries of a folder. Do nothing if the file system cannot."""
    fd = _open(path, os.O_RDONLY)
    try:
        _fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


@contextmanager
def _temporary(path: Path, data: Content, *, durable: bool) -> Iterator[Path]:
    scratch = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}")
    try:
        fd = _open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with BufferedWriter(_Writer(fd)) as stream:  # a zip is written in many small pieces
            if callable(data):
                data(stream)
            else:
                stream.write(data)
            stream.flush()
            if durable:
                _fsync(fd)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


class _Writer(RawIOBase):
    """A binary stream over `_write`. It can seek, which zip files need."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self.fd)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        _write(self.fd, view)
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        return os.lseek(self.fd, offset, whence)

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True


def write(path: Path, data: Content, *, durable: bool = True) -> None:
    """Write `data` (bytes, or a function that writes them to a stream) to `path`, replacing an existing file.

    durable=False leaves the fsync to `make_durable`, for files that count only once a record names them.
    """
    with _temporary(path, data, durable=durable) as scratch:
        _replace(scratch, path)
    if durable:
        make_durable(path.parent)


def create_once(path: Path, data: bytes) -> bool | None:
    """Write `data` to `path` unless it exists. Return False if another process was first.

    Return None if the file system has no hard links; `lock.create_once` handles that.
    """
    with _temporary(path, data, durable=True) as scratch:
        try:
            _link(scratch, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _WITHOUT:
                return None
            raise
    make_durable(path.parent)
    return True


def flock(fd: int) -> bool | None:
    """Lock an open file. Return False if another process holds the lock, None if the file system has no locks."""
    try:
        _flock(fd)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _WITHOUT:
            return None
        raise
    return True


def create(path: Path, data: bytes = b"") -> bool:
    """Create a small file in place. Return False if it exists. A reader may see a part of it."""
    try:
        fd = _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    with _Writer(fd) as stream:
        stream.write(data)
    return True


def probe(folder: Path) -> None:
    """Write, rename and fsync a file, as each run will. Raises: OSError."""
    path = folder / f"{TEMPORARY}{secrets.token_hex(4)}"
    try:
        write(path, b"probe\n")
    finally:
        path.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename a file that need not be durable, such as that of a lock."""
    _replace(source, target)


def move(source: Path, target: Path) -> None:
    """Rename within one file system, durably."""
    _replace(source, target)
    for folder in {target.parent, source.parent}:
        make_durable(folder)


class Appender(_Writer):
    """An open file that grows at its end. Readers see added bytes at once; committing the record makes them durable.

    A write that fails halfway is undone, so that it does not spoil later ones. Only a killed process leaves half a
    line at the end, which readers drop.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(_open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        self._end = os.fstat(self.fd).st_size

    def write(self, data: Any) -> int:
        try:
            count = super().write(data)
        except OSError:
            with suppress(OSError):  # the first error is the one to report
                _truncate(self.fd, self._end)
            raise
        self._end += count
        return count


def append_line(path: Path, line: str) -> None:
    """Add one line to a log of the launch, durably."""
    with Appender(path) as stream:
        stream.write(line.encode() + b"\n")
        _fsync(stream.fd)


class Editor(_Writer):
    """A file that is changed in place, such as a lock or a log. A reader may see a part of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(_open(path, os.O_RDWR | os.O_CREAT))

    def overwrite(self, data: bytes) -> None:
        """Replace the content of the file."""
        _truncate(self.fd, 0)
        self.seek(0)
        self.write(data)


def opened(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a plain file of a run directory for reading. No link is followed, and a pipe does not block.

    Raises: OSError, also for anything but a plain file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file", os.fspath(path))
    return os.fdopen(fd, "rb")


def read(path: Path, limit: int) -> bytes:
    """Return the bytes of a plain file. Raises: ValueError if it is larger than `limit`, as no file of ours is."""
    with opened(path) as stream:  # `read` allocates the size that it is given, so it gets at most the size of the file
        data = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    return data


def bytes_digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with opened(path) as stream:
        return stream_digest(stream)


def stream_digest(stream: BufferedReader) -> str:
    """Return the sha256 (hex) of the rest of an open file, and go back to its beginning."""
    found = hashlib.file_digest(stream, "sha256").hexdigest()
    stream.seek(0)
    return found


def strict(value: Json) -> Json:
    """Return `value` in a form that strict JSON in UTF-8 can hold: non-finite floats become "nan", "inf" and "-inf".

    A lone surrogate (from a file name that is not UTF-8, for example) becomes its escape. Bytes (as ids of examples may
    be) become text.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, Mapping):
        return {strict(str(key)): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value


def dumps(value: Json, *, indent: int | None = 1) -> str:
    """Return strict JSON text (see `strict`)."""
    return json.dumps(strict(value), indent=indent, ensure_ascii=False, allow_nan=False)


def loads(data: str | bytes) -> Json:
    """Parse strict JSON. Raises: ValueError for bare NaN and Infinity, repeated keys and deep nesting."""
    try:
        found = json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    marks = ("[", "{") if isinstance(data, str) else (b"[", b"{")
    if sum(map(data.count, marks)) > DEEPEST:  # type: ignore[arg-type]  # fewer cannot nest so deep
        _require_shallow(found)
    return found


def _require_shallow(value: Json) -> None:
    level = [value]
    for _ in range(DEEPEST):
        inner = [each for each in level if isinstance(each, (dict, list))]
        level = [each for one in inner for each in (one.values() if isinstance(one, dict) else one)]
    if any(isinstance(each, (dict, list)) for each in level):
        raise ValueError("it is nested too deeply")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("repeated key")
    return out


def encoded(value: Json) -> bytes:
    """Return the content of a file of strict JSON."""
    return (dumps(value) + "\n").encode()
