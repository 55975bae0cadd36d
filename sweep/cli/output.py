"""Print results and messages; a stream that is closed or full does not stop the command."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import select
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweep.errors import printable
from sweep.number import number

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from sweep.report.document import Document

# Signs of our own texts that an ASCII or Latin-1 terminal may not show.
_PLAIN = {
    "±": "+-", "×": "x", "·": ".", "…": "...", "−": "-", "–": "-", "—": "-", "≥": ">=", "≤": "<=", "→": "->",
    "’": "'", "“": '"', "”": '"', "²": "^2", "√": "sqrt",
}  # fmt: skip


class _Stream(io.FileIO):
    """A standard stream that drops what it cannot write, so that a closed pipe or a full disk ends no sweep."""

    lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        while self.lost is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.lost = error
                break
            if written is not None:
                return written
            select.select([], [self], [])  # it is non-blocking, and full for now
        return size


def open_streams() -> None:
    """Replace stdout and stderr, even closed ones, by streams that never fail."""
    codecs.register_error("sweep.plain", _in_plain_signs)
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes this number, so that no other file gets it
    sys.stdout, sys.stderr = _text(1, sys.stdout), _text(2, sys.stderr)


def _text(fd: int, before: Any) -> io.TextIOWrapper:
    raw = _Stream(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=getattr(before, "encoding", None) or "utf-8", errors="sweep.plain",
        line_buffering=fd == 2 or raw.isatty(), write_through=getattr(before, "write_through", False),
    )  # fmt: skip


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or ascii(c)[1:-1] for c in text), error.end


def close_streams() -> bool:
    """Flush the buffers, and return whether stdout has lost output, other than to a reader that went away."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    lost = raw.lost if isinstance(raw, _Stream) else None
    incomplete = lost is not None and not isinstance(lost, BrokenPipeError)
    if incomplete:
        say(f"sweep: the output is incomplete: {lost.strerror if lost else ''}", err=True)
    sys.stderr.flush()
    return incomplete


def say(text: str, *, err: bool = False) -> None:
    """Print text that may contain names and messages of others."""
    show(printable(text) + "\n", err=err)


def show(text: str, *, err: bool = False) -> None:
    """Print text as it is; it was made safe for the screen."""
    (sys.stderr if err else sys.stdout).write(text)


def note(text: str) -> None:
    """Print a message beside the results, on stderr."""
    say(text, err=True)


def width() -> int:
    """Return the width of text: that of the terminal within bounds."""
    return max(60, min(shutil.get_terminal_size().columns, 120))


def terminal() -> dict[str, Any]:
    """Return the width and colour of text for the terminal."""
    from sweep.report.document import wants_color

    return {"width": width() if sys.stdout.isatty() else 100, "color": wants_color(sys.stdout)}


def show_document(made: Document, format_: str) -> None:
    """Print a document as text, or as md or latex."""
    from sweep.report import document

    if format_ == "text":
        show(document.text(made, **terminal()))
    else:
        show(document.latex(made) if format_ == "latex" else document.markdown(made))


def emit(value: Any) -> None:
    """Print one JSON document on stdout. Characters of names of others that do not print are escaped."""
    from sweep.store import atomic  # here, because the start of a command loads neither numpy nor pydantic

    ascii_only = not str(sys.stdout.encoding).lower().startswith("utf")
    text = json.dumps(atomic.strict(value), indent=2, ensure_ascii=ascii_only, allow_nan=False)
    show(re.sub(r"[^\n -~]", lambda c: c[0] if c[0].isprintable() else json.dumps(c[0])[1:-1], text) + "\n")


def in_short(metrics: Mapping[str, float]) -> str:
    """Return up to three metrics for a line, those of the test split first."""
    chosen = sorted(metrics.items(), key=lambda item: not item[0].startswith("test/"))[:3]
    return "  ".join(f"{name} {number(value, digits=4)}" for name, value in chosen)
