"""Tables as programs write them: csv.writer, pandas, Lightning, stable-baselines3, spreadsheets."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.config.schema import Collect
from sweep.metrics.rows import NO_METRICS, NotFound, Row, as_number

_EPISODES = {"r": "reward", "l": "episode_length", "t": "time"}  # stable-baselines3's monitor.csv


Columns = Mapping[str, tuple[Sequence[str], Sequence[float | None]]]


def columns(text: str) -> Columns:
    """Return the cells of each column of a table with a header, as they are written and as numbers.

    Raises: NotFound if there is no header, a name occurs twice in it, or a row does not fit it.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    kept = [line for line in lines if line.strip() and not line.startswith("#")]
    if not kept:
        raise NotFound("the table is empty", where="collect.csv")
    mark = max(",;\t", key=kept[0].count)
    try:
        table = [[cell.strip() for cell in row] for row in csv.reader(kept, delimiter=mark, skipinitialspace=True)]
    except csv.Error as error:
        raise NotFound(f"the table cannot be read ({error})", where="collect.csv") from None
    header = table.pop(0)
    if all(as_number(cell) is not None for cell in header):
        above = [cell.strip() for cell in comments[-1].lstrip("# ").split(mark)] if comments else []
        if len(above) != len(header):
            raise NotFound(
                f"the table has no header; its first row is {_shown(header)}", where="collect.csv",
                hint="have the program write the names of the columns first",
            )  # fmt: skip
        table.insert(0, header)
        header = above
    if twice := [name for at, name in enumerate(header) if name and name in header[:at]]:
        raise NotFound(f"the column {twice[0]!r} occurs twice in the header {_shown(header)}", where="collect.csv")
    if header == list(_EPISODES):
        header = list(_EPISODES.values())
    for at, row in enumerate(table, 1):
        if row == header:
            raise NotFound(
                f"row {at} repeats the header: {_shown(row)}", where="collect.csv",
                hint="have each run write its own file: two runs wrote into this one",
            )  # fmt: skip
        if any(row[len(header) :]):
            raise NotFound(f"row {at} has more cells than the header: {_shown(row)}", where="collect.csv")
    named = [(at, name) for at, name in enumerate(header) if name]
    cells = {name: [row[at] if at < len(row) else "" for row in table] for at, name in named}
    return {name: (its, _numbers(its, mark)) for name, its in cells.items()}


def rows(text: str, collect: Collect) -> list[Row]:
    """Return the rows of a table, with numbers as numbers and empty cells left out or as NaN.

    Raises: NotFound, as `columns` does, and if a column that may be a metric mixes numbers and text.
    """
    made = {name: _column(name, cells, values, collect) for name, (cells, values) in columns(text).items()}
    _empty_ends(made, collect)
    size = max((len(cells) for cells in made.values()), default=0)
    return [{name: cells[at] for name, cells in made.items() if cells[at] not in (None, "")} for at in range(size)]


def _column(
    name: str, cells: Sequence[str], values: Sequence[float | None], collect: Collect
) -> list[str] | list[float | None]:
    """Return the numbers of a column, or its text if any cell is not a number. Raises: NotFound for a mixed metric."""
    text = odd(cells, values)
    wanted = name in collect.names or (not collect.names and name not in NO_METRICS)
    if wanted and text and (any(value is not None for value in values) or re.fullmatch(r"[-+]?[\d.,]+ ?%", text[0])):
        raise NotFound(
            f"the column {name!r} holds {text[-1][:40]!r}, which is not a number", where="collect.csv",
            hint="write plain numbers, such as 91.5 instead of 91.5%",
        )  # fmt: skip
    return list(cells) if text else list(values)


def odd(cells: Sequence[str], values: Sequence[float | None]) -> list[str]:
    """Return the cells of a column that are neither empty nor a number."""
    return [cell for cell, value in zip(cells, values, strict=True) if cell and value is None]


def _empty_ends(columns: dict[str, list[Any]], collect: Collect) -> None:
    """Put NaN in the empty cells at the end of a column that was filled until then: pandas leaves NaN empty.

    If each row fills only some columns, like Lightning's, nothing changes: there, a column's last value counts.
    """
    metrics = {
        name: cells
        for name, cells in columns.items()
        if name not in NO_METRICS and name != collect.step and any(isinstance(cell, float) for cell in cells)
    }
    filled: dict[str, int] = {}
    for name, cells in metrics.items():
        there = [cell is not None for cell in cells]
        filled[name] = there.index(False) if False in there else len(there)
        if any(there[filled[name] :]):
            return
    for name, upto in filled.items():
        if upto < len(metrics[name]):
            columns[name] = [*metrics[name][:upto], *[math.nan] * (len(metrics[name]) - upto)]


def _numbers(cells: Sequence[str], mark: str) -> list[float | None]:
    """Return the numbers in a column: `1,234.5`, and `0,93` if a comma cannot separate thousands.

    It cannot if another mark separates the cells and no point follows it, or if a quoted cell of the column does not
    have exactly three digits after it.
    """
    decimal = mark != "," or any(re.fullmatch(r"[-+]?(\d*,(\d{1,2}|\d{4,})|0,\d+|\d{4,},\d+)", cell) for cell in cells)
    return [
        as_number(cell.replace(".", "").replace(",", ".") if decimal and cell.rfind(",") > cell.rfind(".") else cell)
        for cell in cells
    ]


def _shown(row: Sequence[str]) -> str:
    return repr(", ".join(row))[:120]
