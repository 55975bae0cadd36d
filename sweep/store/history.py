"""history.jsonl: one line per step or epoch, without times. A torn last line is dropped."""

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
    """Rows with the same metrics, by column: the steps and the values of each metric, (rows,), in the logged order."""

    steps: npt.NDArray[np.int64]
    metrics: dict[str, npt.NDArray[np.float64]]


def line(step: int, metrics: Mapping[str, float]) -> str:
    """Return one row as text, with the keys in the order in which they were logged."""
    return atomic.dumps({"step": step, **metrics}, indent=None) + "\n"


def encode(rows: Iterable[tuple[int, Mapping[str, float]]]) -> bytes:
    """Return the content of the file for (step, metrics) rows."""
    return "".join(line(step, metrics) for step, metrics in rows).encode()


def parse(data: bytes) -> list[Row]:
    """Return the rows of a history. A torn last line, and lines that are not rows, are dropped."""
    lines = data.split(b"\n")[:-1]  # the last part is empty, or a torn line
    return [row for found in _together(lines) or map(_value, lines) if (row := _row(found)) is not None]


def tabulate(data: bytes) -> Table | None:
    """Return the rows by column, in half the time of `parse`, or None if not every row has the metrics of the first.

    Nearly every history can be read this way: one call logs all metrics, and all are finite.
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
    # Bools are not numbers, and text may be one: left to `parse`.
    if {*map(type, logged)} != {int} or not {*map(type, values)} <= {int, float} or -(1 << 63) in logged:
        return None
    try:
        columns = np.array(values, dtype=np.float64).reshape(len(rows), len(names))
        steps = np.array(logged, dtype=np.int64)
    except OverflowError:
        return None
    return Table(steps, {name: columns[:, i] for i, name in enumerate(names) if i != at})


def _together(lines: Sequence[bytes]) -> list[Any]:
    """Return the JSON values of all lines from one call, or none if a line is damaged."""
    try:
        found: list[Any] = from_json(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return []
    return found if len(found) == len(lines) else []  # a line may hold several values, or a part of one


def _value(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _row(found: Any) -> Row | None:
    """Return a row with an integer step and floats, or None. "nan", "inf" and "-inf" become floats."""
    if type(found) is not dict or type(step := found.get("step")) is not int or abs(step) >= 1 << 63:
        return None
    if [*map(type, found.values())].count(float) == len(
        found
    ) - 1:  # as `line` writes it, so there is nothing to convert
        return found
    try:
        return {key: value if key == "step" else float(value) for key, value in found.items()}
    except (ValueError, TypeError, OverflowError):
        return None


def read(path: Path) -> list[Row]:
    """Return the rows of a file, or none if it is absent."""
    with suppress(FileNotFoundError), atomic.opened(path) as source:
        return parse(source.read())
    return []


def table(data: bytes) -> Table | list[Row]:
    """Return the rows by column if possible, otherwise one by one."""
    found = tabulate(data)
    return parse(data) if found is None else found


def last(path: Path) -> Row | None:
    """Return the newest complete row, or None. Only the end of the file is read."""
    try:
        with atomic.opened(path) as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 8192))
            rows = parse(stream.read())
    except OSError:
        return None
    return rows[-1] if rows else None
