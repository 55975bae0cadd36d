"""Names and messages of others as text that is safe to print, and plurals."""

from __future__ import annotations

import shlex
from bisect import bisect
from pathlib import Path

from rich.cells import cell_len

from sweep.errors import one_line

LIMIT = 60  # cells that a name or a message may take before it is cut


def shown(text: str, limit: int = LIMIT) -> str:
    """Return `text` on one line of at most `limit` terminal cells, safe to print; longer text loses its middle.

    Names and messages come from the code of users and from directories of others. Printed raw, they could move the
    cursor, clear the screen or reverse a line.
    """
    line = one_line(text[: 2 * limit] + text[-2 * limit :] if len(text) > 4 * limit else text)
    if cell_len(line) <= limit and len(text) <= 4 * limit:
        return line
    places = range(len(line))
    head = line[: bisect(places, limit // 2, key=lambda at: cell_len(line[: at + 1]))]
    room = limit - cell_len(head) - 1
    return f"{head}…{line[len(line) - bisect(places, room, key=lambda at: cell_len(line[-at - 1 :])) :]}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def every(count: int, noun: str) -> str:
    """Return "the only seed", "both seeds" or "all 3 seeds"."""
    return {1: f"the only {noun}", 2: f"both {noun}s"}.get(count, f"all {count} {noun}s")


def path_argument(path: Path | str) -> str:
    """Return a path as it can be typed into a shell, whatever its name."""
    text = str(path)
    return quoted(f"./{text}" if text.startswith("-") else text)


def quoted(word: str) -> str:
    """Return a word as bash, zsh and ksh read it; no character of it moves the cursor or reverses the line."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(c if c.isprintable() and c not in "\\'" else _escaped(ord(c)) for c in word) + "'"


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as Python represents it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
