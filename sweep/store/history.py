"""history.jsonl: a line a step or epoch, no clock in it, a torn last line dropped with a note."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweep.store import atomic

Row = dict[str, Any]  # {"step": int, metric: float, …}


def line(step: int, metrics: Mapping[str, float]) -> str:
    """One row as text, keys in the order they were logged."""
    return atomic.dumps({"step": step, **metrics}, indent=None) + "\n"


def parse(data: bytes) -> tuple[list[Row], str]:
    """(rows, note): every whole line; the note says what was dropped, or is empty."""
    lines = data.split(b"\n")
    torn = lines.pop()  # empty when the file ends as it should
    rows = [row for found in _decoded(lines) if (row := _row(found)) is not None]
    bad = len(lines) - len(rows)
    notes = [f"{bad} unreadable history line{'s' * (bad > 1)} left out"] if bad else []
    if torn:
        notes.append("the last history line was torn and left out")
    return rows, "; ".join(notes)


def _decoded(lines: Sequence[bytes]) -> Sequence[Any]:
    """The JSON value of each line, None for what is none; one call for all lines where they are sound."""
    try:
        found: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
        if len(found) == len(lines):  # otherwise a line held several values, or half of one
            return found
    except (ValueError, RecursionError):
        pass
    return [_value(text) for text in lines]


def _value(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _row(found: Any) -> Row | None:
    """A row with an integer step and numbers, or None; "nan", "inf" and "-inf" become the floats they mean."""
    if type(found) is not dict or type(step := found.get("step")) is not int or abs(step) >= 1 << 63:
        return None
    if [*map(type, found.values())].count(float) == len(found) - 1:  # as `line` writes it: nothing to convert
        return found
    try:
        return {key: value if key == "step" else float(value) for key, value in found.items()}
    except (ValueError, TypeError, OverflowError):
        return None


def read(path: Path) -> tuple[list[Row], str]:
    """`parse` of a file; an absent one is an empty history."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return [], ""


def stream(path: Path, block: int = 1 << 20) -> Iterator[Row]:
    """The rows of `read`, `block` bytes at a time: for histories that memory cannot hold."""
    with suppress(FileNotFoundError), open(path, "rb") as source:
        rest = b""
        while chunk := source.read(block):
            whole, end, rest = (rest + chunk).rpartition(b"\n")
            yield from parse(whole + end)[0]


def last(path: Path) -> Row | None:
    """The newest whole row, read from the end of the file only."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 8192))
            rows, _ = parse(stream.read())
    except OSError:
        return None
    return rows[-1] if rows else None
