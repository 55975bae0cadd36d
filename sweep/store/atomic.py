"""Every write of a run directory goes through here: whole and durable, or not there at all.

A file is written beside its place, flushed, fsynced, moved over its name, and the directory fsynced, so that
a crash at any instant leaves the old file or the new one. Logs and histories grow by whole lines. The small
functions at the top are the only calls into the operating system that write to a disk: tests make each of them fail
or die in turn.
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
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from sweep.errors import StoreError

Json = Any
Content = bytes | memoryview | Callable[[IO[bytes]], None]  # of a file, or what writes it to a stream

# What a file system answers that has no hard links (FAT, SMB, buckets) or no locks (some of Lustre and NFS).
_WITHOUT = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EMLINK)

DEEPEST = 100  # levels of JSON that is read: what goes through it level by level needs several calls for each

TEMPORARY = ".tmp-"  # prefix of files that a killed writer leaves behind: ignored by readers, cleaned on start


def _open(path: Path, flags: int) -> int:
    # A link in the place of a file of ours would lead a writer out of the directory.
    made = os.O_NOFOLLOW if flags & os.O_CREAT else 0
    try:
        return os.open(path, flags | made | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if made and error.errno == errno.ELOOP:
            raise StoreError(
                "is a link, and a run directory holds none", where=str(path), hint="remove it, or choose another --out"
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
    """Fsync a file that was written without it, or the names in a folder; file systems that cannot are left alone."""
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
        with _Writer(fd) as stream:
            if callable(data):
                data(cast("IO[bytes]", stream))
            else:
                stream.write(data)
            if durable:
                _fsync(fd)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


class _Writer(RawIOBase):
    """A binary stream over `_write`, seekable as zip files want it."""

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
    """Put `data` (bytes, or a function that writes them to a stream) at `path`, replacing what was there.

    durable=False leaves the fsync to `make_durable`, for files that count only once a record names them.
    """
    with _temporary(path, data, durable=durable) as scratch:
        _replace(scratch, path)
    if durable:
        make_durable(path.parent)


def create_once(path: Path, data: bytes) -> bool | None:
    """Put `data` at `path` unless something is there; False: somebody else was first.

    None: the file system has no hard links, and `lock.create_once` does it.
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
    """Take the kernel's lock on an open file; False: another has it, None: the file system keeps none."""
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
    """Make a small file, in place; False: there is one. What is read meanwhile may be a part of it."""
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
    """Rename a file that need not be durable, such as a lock's."""
    _replace(source, target)


def move(source: Path, target: Path) -> None:
    """Rename within one file system, durably."""
    _replace(source, target)
    for folder in {target.parent, source.parent}:
        make_durable(folder)


class Appender(_Writer):
    """The end of a file, for as long as it is open: readers see at once what is added, fsync is the record's.

    What a disk refuses in the middle is taken back, so that it does not spoil what is added after it. Only a death
    leaves half a line, as the last one: the reader's to drop.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(_open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        self._end = os.fstat(self.fd).st_size

    def write(self, data: Any) -> int:
        try:
            count = super().write(data)
        except OSError:
            with suppress(OSError):  # the reason why it was refused is the one to tell
                _truncate(self.fd, self._end)
            raise
        self._end += count
        return count


def append_line(path: Path, line: str) -> None:
    """Add one line to a log of the driver's own, durably."""
    with Appender(path) as stream:
        stream.write(line.encode() + b"\n")
        _fsync(stream.fd)


class Editor(_Writer):
    """A file that is changed in place, as fits a lock or a log; what is read meanwhile may be a part of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(_open(path, os.O_RDWR | os.O_CREAT))

    def overwrite(self, data: bytes) -> None:
        """Make this all that the file says."""
        _truncate(self.fd, 0)
        self.seek(0)
        self.write(data)


def opened(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a plain file of a run directory to read it.

    Neither a link is followed, nor a pipe waited for. Raises: OSError, for anything else than a plain file as well.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file", os.fspath(path))
    return os.fdopen(fd, "rb")


def read(path: Path, limit: int) -> bytes:
    """Return a plain file's bytes. Raises: ValueError when it is larger than `limit`: then we did not write it."""
    with opened(path) as stream:  # what is asked for is allocated, so no more than there is
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
    """Return the sha256 (hex) of what is left to read of an open file, and go back to its beginning."""
    found = hashlib.file_digest(stream, "sha256").hexdigest()
    stream.seek(0)
    return found


def strict(value: Json) -> Json:
    """Return `value` with non-finite floats as "nan", "inf", "-inf": what strict JSON in UTF-8 can carry.

    A lone surrogate, as in the message of an error about a file name that is no UTF-8, becomes its escape, and bytes,
    as the ids of examples may be, become text.
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
    """Return strict JSON text; see `strict`."""
    return json.dumps(strict(value), indent=indent, ensure_ascii=False, allow_nan=False)


def loads(data: str | bytes) -> Json:
    """Parse strict JSON: bare NaN and Infinity, repeated keys and deep nesting are refused with ValueError."""
    try:
        found = json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    marks = ("[", "{") if isinstance(data, str) else (b"[", b"{")
    if sum(map(data.count, marks)) > DEEPEST:  # type: ignore[arg-type]  # else it cannot be
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


def write_json(path: Path, value: Json) -> None:
    write(path, (dumps(value) + "\n").encode())
