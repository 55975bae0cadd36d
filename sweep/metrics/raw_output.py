"""The raw output of a program, kept with its run so that metrics can be read again without training."""

from __future__ import annotations

import re
from pathlib import Path

from sweep.store import atomic
from sweep.store.names import STDERR, STDOUT

FILES = {"stdout": STDOUT, "stderr": STDERR}
BEGINNING = 32 << 20  # bytes of each stream that are kept from its beginning
END = 16 << 20  # at least this many bytes of its end are kept, if there are more
_GAP = b"\n[... %d bytes were not kept ...]\n"


class Kept:
    """One stream: its beginning on disk as it arrives, its end in memory until it is closed.

    lost: bytes between the two that are not kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0
        self._size = 0
        self._end = bytearray()
        self._file: atomic.Appender | None = None

    def take(self, data: bytes) -> None:
        room = BEGINNING - self._size
        if room > 0:
            if self._file is None:
                self._file = atomic.Appender(self.path)
            self._file.write(data[:room])
            self._size += len(data[:room])
            data = data[room:]
        self._end += data
        if len(self._end) > 2 * END:
            self.lost += len(self._end) - END
            del self._end[:-END]

    def text(self) -> str:
        """Return the text that has been kept so far."""
        begin = self.path.read_bytes() if self._size else b""
        return (begin + self._rest()).decode("utf-8", errors="replace")

    def close(self) -> None:
        if self._file is not None:
            self._file.write(self._rest())
            self._size += len(self._rest())
            self._file.close()
            self._file, self._end = None, bytearray()

    def _rest(self) -> bytes:
        return (_GAP % self.lost if self.lost else b"") + bytes(self._end)


def kept(path: Path) -> str:
    """Return the kept text of a finished stream, or "" if it is absent or not a plain file of ours."""
    try:
        with atomic.opened(path) as stream:
            return stream.read(BEGINNING + 2 * END + 80).decode("utf-8", errors="replace")  # no more was kept
    except OSError:
        return ""


def lost(path: Path) -> int:
    """Return how many bytes of a finished stream were not kept."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size <= BEGINNING:
        return 0
    with atomic.opened(path) as stream:
        stream.seek(BEGINNING)
        found = re.match(rb"\n\[\.\.\. (\d+) bytes were not kept", stream.read(80))
    return int(found[1]) if found else 0
