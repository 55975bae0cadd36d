"""Files of the user: text that is limited in size and in UTF-8, and the state of a file."""

from __future__ import annotations

import os
from pathlib import Path

from sweep.errors import ConfigError

Stat = tuple[int, int, int]


def read_text(path: Path, most: int, *, hint: str | None = None) -> str:
    """Return the text of a file of at most `most` bytes. hint: the next step if there is no such file.

    Raises: ConfigError.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where, hint = (repr(str(path)), None) if isinstance(error, ValueError) else (str(path), hint)
        raise ConfigError(f"cannot be read: {reason}", where=where, hint=hint) from None
    if len(data) > most:
        raise ConfigError(f"is larger than {most >> 20} MiB", where=str(path))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise ConfigError("the file is UTF-16", where=str(path), hint="save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the file is not UTF-8", where=f"{path}: line {line}", hint="save it as UTF-8") from None


def stat_of(path: str | Path, *, follow: bool = True) -> Stat:
    """Return (size, modification time in ns, inode) of a file. If they are equal, the content counts as unchanged."""
    found = os.stat(path, follow_symlinks=follow)
    return found.st_size, found.st_mtime_ns, found.st_ino
