"""history.jsonl: a line a step or epoch, no clock in it; a torn last line is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from sweep.store import atomic

Row = dict[str, Any]  # {"step": int, metric: float, …}


class Table(NamedTuple):
    """Rows that all have the same metrics, by column: steps and each metric's values, (rows,), as logged."""

    steps: npt.NDArray[np.int64]
    metrics: dict[str, npt.NDArray[np.float64]]


def line(step: int, metrics: Mapping[str, float]) -> str:
    """Return one row as text, keys in the order they were logged."""
    return atomic.dumps({"step": step, **metrics}, indent=None) + "\n"


def encode(rows: Iterable[tuple[int, Mapping[str, float]]]) -> bytes:
    """Return the content of the file for these steps and their metrics."""
    return "".join(line(step, metrics) for step, metrics in rows).encode()


def parse(data: bytes) -> list[Row]:
    """Return the row of every whole line; what is no row, and a torn last line, is left out."""
    lines = data.split(b"\n")[:-1]  # empty where the file ends as it should
    return [row for found in _together(lines) or map(_value, lines) if (row := _row(found)) is not None]


def tabulate(data: bytes) -> Table | None:
    """Return what `parse` finds, by column and in half the time, where every row is like the first; else None.

    Nearly every history is such: one call logs all metrics, and all are finite.
    """
    *lines, torn = data.split(b"\n")
    rows = [] if torn else _together(lines)
    if not rows or {*map(type, rows)} != {dict} or "step" not in rows[0]:
        return None
    names = tuple(rows[0])
    if [*map(tuple, rows)] != [names] * len(rows):
        return None
    values = [*chain.from_iterable(map(dict.values, rows))]
    at = names.index("step")
    logged = values[at :: len(names)]
    # A bool is no number, and text may mean one: `parse` knows.
    if {*map(type, logged)} != {int} or not {*map(type, values)} <= {int, float} or -(1 << 63) in logged:
        return None
    try:
        columns = np.array(values, dtype=np.float64).reshape(len(rows), len(names))
        steps = np.array(logged, dtype=np.int64)
    except OverflowError:
        return None
    return Table(steps, {name: columns[:, i] for i, name in enumerate(names) if i != at})


def _together(lines: Sequence[bytes]) -> list[Any]:
    """Return the JSON value of each line by one call for all of them, or nothing where a line is not sound."""
    try:
        found: list[Any] = from_json(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return []
    return found if len(found) == len(lines) else []  # a line may hold several values, or half of one


def _value(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _row(found: Any) -> Row | None:
    """Return a row with an integer step and numbers, or None; "nan", "inf" and "-inf" become the floats they mean."""
    if type(found) is not dict or type(step := found.get("step")) is not int or abs(step) >= 1 << 63:
        return None
    if [*map(type, found.values())].count(float) == len(found) - 1:  # as `line` writes it: nothing to convert
        return found
    try:
        return {key: value if key == "step" else float(value) for key, value in found.items()}
    except (ValueError, TypeError, OverflowError):
        return None


def read(path: Path) -> list[Row]:
    """Return `parse` of a file; an absent one is an empty history."""
    with suppress(FileNotFoundError), atomic.opened(path) as source:
        return parse(source.read())
    return []


def table(data: bytes) -> Table | list[Row]:
    """Return `tabulate` where that is possible, else the rows of `parse`."""
    found = tabulate(data)
    return parse(data) if found is None else found


def last(path: Path) -> Row | None:
    """Return the newest whole row, read from the end of the file only."""
    try:
        with atomic.opened(path) as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 8192))
            rows = parse(stream.read())
    except OSError:
        return None
    return rows[-1] if rows else None
