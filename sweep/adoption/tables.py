"""Tables: one row per run, or one per run and step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.adoption.runs import AT_WORK, SEEDS, Opened, Roles, differing, settled
from sweep.errors import ConfigError, SweepError, no_column
from sweep.goals import direction, is_score
from sweep.metrics import csv, parquet
from sweep.metrics.files import LARGEST
from sweep.metrics.read import CSV, JSON
from sweep.metrics.rows import STEPS, Row, as_number
from sweep.store import atomic

if TYPE_CHECKING:
    import pandas as pd

TABLES = (*CSV, *JSON, ".parquet")
_WANDB = ("Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep", "ID", "GPU Type", "Hostname")


def _frame(path: Path) -> pd.DataFrame:
    """Return a table file. Raises: ConfigError."""
    import pandas as pd

    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            return parquet.frame(path)
        text = atomic.read(path.resolve(), LARGEST).decode("utf-8-sig")
        if ending in JSON:
            try:
                rows = json.loads(text)
            except ValueError:
                rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            rows = rows if isinstance(rows, list) else [rows]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a row is not a JSON object")
            return pd.json_normalize(rows)
        return pd.DataFrame({
            name: [cell or None for cell in cells] if csv.odd(cells, values) else values
            for name, (cells, values) in csv.columns(text).items()
        })  # fmt: skip
    except SweepError as error:
        raise ConfigError(error.what, where=str(path), hint=error.hint) from error
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"it cannot be read as a table ({error})", where=str(path)) from error


def of_file(text: str, roles: Roles, *, metrics: Sequence[str] = (), step: str | None = None) -> Opened:
    """Return the runs of a table file, such as an export of W&B. Raises: ConfigError."""
    path = Path(text)
    frame = _frame(path)
    exported = "Name" in frame.columns and ("State" in frame.columns or "Runtime" in frame.columns)
    kind = "W&B export" if exported else "table"
    return of_frame(frame, roles, metrics=metrics, step=step, place=text, name=path.stem, kind=kind)


def of_frame(
    frame: pd.DataFrame,
    roles: Roles,
    *,
    metrics: Sequence[str] = (),
    step: str | None = None,
    place: str = "the frame",
    name: str = "adopted",
    kind: str = "table",
) -> Opened:
    """Return the runs of a long table: one row per run, or one per run and step.

    Raises: ConfigError for missing columns, for a metric that is not a number, and if no column is a metric.
    """
    columns = [str(column) for column in frame.columns]
    frame = frame.set_axis(columns, axis=1)
    for wanted in (*roles.names, *metrics, step):
        if wanted is not None and wanted not in columns:
            raise no_column(wanted, columns, place)
    if twice := [column for at, column in enumerate(columns) if column in columns[:at]]:
        raise ConfigError(f"two columns are called {twice[0]!r}", where=place)
    named = {*roles.names, *metrics}
    step = step or next((column for column in STEPS if column in columns and column not in named), None)
    tracker = {column for column in columns if column in _WANDB or column.startswith("_")} if kind != "table" else set()
    left = [column for column in columns if column not in {*named, step, *tracker}]
    chosen = list(metrics) or _metrics(frame, left, place)
    numbers = {metric: _numbers(frame[metric], metric, place) for metric in chosen}
    about = [column for column in left if column not in chosen]
    if step is not None and roles.variant is None:  # a value that changes within a run cannot identify it
        about = [column for column in about if frame[column].dtype.kind not in "fiu" or column in SEEDS]
    about = [column for column in (*roles.names, *about) if column]
    names: list[dict[str, Any]] = [
        {str(key): _plain(each) for key, each in row.items()} for row in frame[about].to_dict("records")
    ]  # fmt: skip
    roles = differing(roles, names)
    used = roles.names
    steps = frame[step].tolist() if step is not None else None
    state = [str(each).lower() for each in frame["State"]] if kind != "table" and "State" in columns else None
    groups: dict[tuple[Any, ...], list[int]] = {}
    for at, row in enumerate(names):
        # Without names and steps, nothing joins two rows: each is a run.
        alone = () if steps is not None else (at,)
        groups.setdefault((*(json.dumps(row[key], default=str) for key in used), *alone), []).append(at)
    entries = []
    for rows in groups.values():
        logged: list[Row] = [
            {**({step: steps[at]} if steps is not None and step is not None else {}),
             **{metric: values[at] for metric, values in numbers.items() if values[at] == values[at]}}
            for at in rows
        ]  # fmt: skip
        said = {key: names[rows[0]][key] for key in used}
        ended = state[rows[0]] if state else ""
        entry = settled(said, f"{place}: row {rows[0] + 1}", logged, ended, step)
        lacking = entry.found is None and ended not in AT_WORK
        entries.append(replace(entry, why=f"it has no value of {', '.join(chosen[:5])}") if lacking else entry)
    return Opened(kind, entries, roles, name)


def _metrics(frame: pd.DataFrame, left: Sequence[str], place: str) -> list[str]:
    """Return the columns that are metrics by their names, or the only one that can be. Raises: ConfigError."""
    numeric = [column for column in left if frame[column].dtype.kind in "fiu" and column not in SEEDS]
    known = [column for column in numeric if direction(column) is not None]
    if known:
        return known
    scores = [column for column in numeric if is_score(column)]
    if len(scores) == 1:
        return scores
    raise ConfigError(
        "the names of the columns do not show which columns are metrics", where=place,
        hint=f"name them: --metrics {','.join(scores[:3]) or 'NAME'}",
    )  # fmt: skip


def _numbers(column: pd.Series[Any], metric: str, place: str) -> list[float]:
    if column.dtype.kind in "fiu":
        return [float(each) for each in column]
    made = []
    for at, raw in enumerate(column, 1):
        found = float("nan") if raw is None or raw != raw or not str(raw).strip() else as_number(_plain(raw))
        if found is None:
            raise ConfigError(f"row {at} of {metric!r} holds {str(raw)[:40]!r}, which is not a number", where=place)
        made.append(found)
    return made


def _plain(raw: Any) -> Any:
    """Return a cell as JSON has it: whole floats as integers, missing ones as None."""
    item = raw.item() if hasattr(raw, "item") else raw
    if isinstance(item, float):
        return None if item != item else int(item) if item.is_integer() and abs(item) < 1e15 else item
    return item if item is None or isinstance(item, (bool, int, str)) else str(item)
