"""history.jsonl: a line a step or epoch, no clock in it, a torn last line dropped with a note."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.store import atomic

Row = dict[str, Any]  # {"step": int, metric: float, …}; non-finite metrics as "nan", "inf", "-inf"


def line(step: int, metrics: Mapping[str, float]) -> str:
    """One row as text, keys in the order they were logged."""
    return atomic.dumps({"step": step, **metrics}, indent=None) + "\n"


def parse(data: bytes) -> tuple[list[Row], str]:
    """(rows, note): every whole line; the note says what was dropped, or is empty."""
    rows: list[Row] = []
    bad = 0
    lines = data.split(b"\n")
    torn = lines.pop()  # empty when the file ends as it should
    for text in lines:
        try:
            row = json.loads(text)
            rows.append({key: value if key == "step" else float(value) for key, value in row.items()})
        except (ValueError, TypeError, AttributeError):
            bad += 1
    notes = [f"{bad} unreadable history line{'s' * (bad > 1)} left out"] if bad else []
    if torn:
        notes.append("the last history line was torn and left out")
    return rows, "; ".join(notes)


def read(path: Path) -> tuple[list[Row], str]:
    """`parse` of a file; an absent one is an empty history."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return [], ""


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
