"""Rows of named values as programs write them, and their final metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.config.schema import Collect
from sweep.errors import SweepError
from sweep.goals import direction

STEPS = ("step", "global_step", "epoch", "iteration")  # names of a step, if none is configured
NO_METRICS = frozenset({*STEPS, "seed", "hp_metric"})
# What a program is given and never measures. If other rows are logged, a row with one of these holds its options.
SETTINGS = frozenset(
    {"lr", "learning_rate", "batch_size", "epochs", "num_epochs", "max_epochs", "weight_decay", "momentum"}
)

Row = Mapping[str, Any]
History = tuple[tuple[int, dict[str, float]], ...]


class NotFound(SweepError):
    """Metrics that were not found, although the program ended well."""


@dataclass(frozen=True)
class Found:
    """The last value of each metric, by our names; history: (step, metrics), with growing steps; notes for the user.

    words: the `--metrics` values that read the headline, if it was chosen from logged text.
    """

    metrics: dict[str, float]
    history: History = ()
    notes: tuple[str, ...] = ()
    words: str = ""


def as_number(raw: Any) -> float | None:
    """Return a number, also from text, or None for anything else. JSON's booleans are not metrics."""
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, (int, float)):
        return float(raw) if abs(raw) < 1e308 or isinstance(raw, float) else math.inf
    if not isinstance(raw, str):
        return None
    text = raw.strip().replace("\N{MINUS SIGN}", "-")
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?", text):
        text = text.replace(",", "")
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def settle(rows: Sequence[Row], collect: Collect, where: str, *, aside: Collection[str] = ()) -> Found:
    """Return the last value of each name, and its history if steps are named. aside: names that are not metrics.

    Raises: NotFound.
    """
    names = collect.names
    step = collect.step or step_of(rows)
    last: dict[str, float] = {}
    behind: dict[str, int] = {}
    history: list[tuple[int, dict[str, float]]] = []
    between = 0
    for index, row in enumerate(rows):
        values: dict[str, float] = {}
        for key, raw in row.items():
            if key not in names if names else key in aside or key == step or key in NO_METRICS:
                continue
            name = names.get(key, key)
            value = as_number(raw)
            if raw is None and (name in last or direction(name) is not None):
                value = math.nan  # JSON has no NaN, so programs write null
            if value is not None:
                values[name] = value
        last |= values
        behind |= dict.fromkeys(values, len(rows) - 1 - index)
        at = as_number(row.get(step)) if step else None
        if values and at is not None and at.is_integer():
            history.append((int(at), values))
        elif values and at is not None:
            between += 1
    notes = [
        f"the last value of {name} is {late} row{'s' * (late > 1)} before the end of the table"
        for name, late in sorted(behind.items())
        if late and where == "collect.csv"
    ]
    if aside:
        notes.append(
            f"not taken as metrics, because they were printed only once, before the end: {', '.join(sorted(aside))}"
        )
    if not last and not names:
        seen = ", ".join(f"{key}={str(raw)[:30]}" for key, raw in (rows[-1] if rows else {}).items()) or "nothing"
        raise NotFound(f"no numbers in {len(rows)} rows", where=where, hint=f"the last row is {seen[:200]}")
    if between:
        notes.append(
            f"the learning curve leaves out {between} row{'s' * (between > 1)} whose step is not a whole number"
        )
    growing, again = _growing(history)
    if again:
        notes.append(
            f"steps start over after step {', '.join(map(str, again[:5]))}: the learning curve continues the count"
        )
    return Found(last, growing, tuple(notes))


def step_of(rows: Sequence[Row]) -> str | None:
    """Return the name of the step in rows, or None if they have none."""
    return next((name for name in STEPS if any(name in row for row in rows)), None)


def options(rows: Sequence[Row], *, ended: bool) -> frozenset[str]:
    """Return a program's options: the names that it printed once, and neither at its end nor in a log.

    ended: whether the last row is the end of the output. A usual metric name is not an option, unless its number is
    whole and another option is on its line, such as a precision of 16.
    """
    step = step_of(rows)
    last = len(rows) - 1 if ended else len(rows)
    lines: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for key, raw in row.items():
            if as_number(raw) is not None:
                lines.setdefault(key, []).append(index)
    once = {
        key: at[0] for key, at in lines.items()
        if len(at) == 1 and at[0] != last and not (step and step in rows[at[0]]) and key not in NO_METRICS
    }  # fmt: skip
    beside = {at for key, at in once.items() if direction(key) is None}
    return frozenset(
        key for key, at in once.items()
        if direction(key) is None or (at in beside and isinstance(rows[at][key], int))
    )  # fmt: skip


def _growing(history: Sequence[tuple[int, dict[str, float]]]) -> tuple[History, list[int]]:
    """Return one row per step, in growing order, and the steps after which the count started over.

    A step that falls back a little is added to its row (the program resumed from a checkpoint or logged an evaluation
    late). A step that falls back to the first one begins a new phase, which continues the count of the one before.
    """
    out: dict[int, dict[str, float]] = {}
    again: list[int] = []
    first: int | None = None
    newest, offset = 0, 0
    for step, values in history:
        if first is None:
            first = newest = step
        elif step < newest and step <= first:
            again.append(newest + offset)
            offset = newest + offset + (step <= 0)
            first = newest = step
        newest = max(newest, step)
        out.setdefault(step + offset, {}).update(values)
    return tuple(sorted(out.items())), again
