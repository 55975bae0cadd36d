"""Parquet tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweep.metrics.rows import NotFound, Row
from sweep.store import atomic

if TYPE_CHECKING:
    import pandas as pd

MOST = 50_000_000  # cells: a few bytes can encode any number of equal ones


def frame(path: Path) -> pd.DataFrame:
    """Return a table. Raises: ValueError for anything else, and for a table that is too large."""
    import pandas as pd  # imported here: every launch loads this package, and few need it

    try:
        from pyarrow.parquet import read_metadata

        with atomic.opened(path.resolve()) as stream:
            held = read_metadata(stream)
            if held.num_rows * held.num_columns <= MOST:
                return pd.read_parquet(stream)
        why = f"it holds {held.num_rows:,} rows of {held.num_columns:,} columns"
    except Exception as error:  # the library has exceptions of its own for each part of the format
        why = str(error)
    raise ValueError(why)


def rows(path: Path) -> list[Row]:
    """Return the rows of a table, each with the cells that it has. Raises: NotFound."""
    import pandas as pd

    try:
        table = frame(path)
    except ValueError as error:
        raise NotFound(f"{path.name} cannot be read as a table ({error})", where="collect.csv") from None
    return [{str(key): cell for key, cell in row.items() if pd.notna(cell)} for row in table.to_dict("records")]
