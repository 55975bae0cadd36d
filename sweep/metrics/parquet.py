"""Parquet tables."""

from __future__ import annotations

from pathlib import Path

from sweep.metrics.rows import Row


def rows(path: Path) -> list[Row]:
    """Return the rows of a table, each with the cells that it has."""
    import pandas as pd  # here: every launch reads this package, and most have no use for it

    table = pd.read_parquet(path)
    return [{str(key): cell for key, cell in row.items() if pd.notna(cell)} for row in table.to_dict("records")]
