"""Tables: a .csv, .tsv or .parquet file, or a frame, as numbers with a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweep.errors import ConfigError, EnvironmentRefused, no_column
from sweep.train.params import Data
from sweep.train.read import Raw, by_name

if TYPE_CHECKING:
    import pandas as pd

MOST = 100  # different texts in one column
MISSING = "(missing)"


def read_table(path: Path, data: Data) -> Raw:
    """Return the table of a file. Raises: ConfigError."""
    import pandas as pd

    try:
        if ".parquet" in path.suffixes:
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",")
    except ImportError as error:
        raise EnvironmentRefused(str(error), where=str(path), hint="pip install 'seed-sweep[parquet]'") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"it cannot be read as a table ({error})", where=str(path)) from error
    split = data.split if isinstance(data.split, str) else None
    return of_frame(
        frame, data.target or "", ignore=data.ignore, missing=data.missing, split=split, group=data.group,
        where=str(path),
    )  # fmt: skip


def of_frame(
    frame: pd.DataFrame,
    target: str,
    *,
    ignore: Sequence[str] = (),
    missing: Literal["refuse", "impute"] = "refuse",
    split: str | None = None,
    group: str | None = None,
    where: str = "data",
) -> Raw:
    """Return a frame as numbers: each text column becomes one column for each of its texts, in alphabetical order.

    Missing numbers stay NaN if they will be imputed. Raises: ConfigError.
    """
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    apart = {name for name in (split, group) if name is not None}
    for name in (target, *ignore, *sorted(apart)):
        if name not in frame:
            raise no_column(name, list(frame.columns), where)
    test, val = by_name(frame[split].to_numpy(), f"{where}: {split}") if split is not None else (None, None)
    used = [name for name in frame.columns if name not in {target, *apart, *ignore}]
    gaps = {name: int(count) for name in [*used, target] if (count := frame[name].isna().sum())}
    if target in gaps:
        raise ConfigError(
            f"the target {target!r} is missing in {gaps[target]} rows", where=where, hint="leave those rows out"
        )
    if gaps and missing == "refuse":
        said = ", ".join(f"{name} ({count} rows)" for name, count in list(gaps.items())[:5])
        raise ConfigError(
            f"values are missing in {said}", where=where,
            hint="set missing: impute (the median of train, or one more text for text columns), or ignore the columns",
        )  # fmt: skip
    columns = [column for name in used for column in _numbers(frame[name], where)]
    if not columns:
        raise ConfigError(f"no column is left besides the target {target!r}", where=where)
    inputs = np.stack(columns, axis=1)
    if np.isinf(inputs).any():
        raise ConfigError("the table holds infinite values", where=where)
    values, classes = _target(frame[target])
    together = frame[group].astype(str).to_numpy(dtype=str) if group is not None else None
    return Raw(inputs, values, classes=classes, test=test, val=val, together=together)


def _numbers(column: Any, where: str) -> list[NDArray[np.float64]]:
    """Return the columns of numbers that represent one column of a table. Raises: ConfigError."""
    if column.dtype.kind in "iufb":
        return [column.to_numpy(dtype=np.float64, na_value=np.nan)]
    if column.dtype.kind in "mM":
        raise ConfigError(
            f"the column {column.name!r} holds times",
            where=where,
            hint="convert them to numbers, or leave the column out with ignore",
        )
    texts = column.astype(object).where(column.notna(), MISSING).astype(str).to_numpy()
    known = sorted(set(texts))
    if len(known) > MOST:
        raise ConfigError(
            f"the column {column.name!r} has {len(known)} different texts, but at most {MOST} are supported",
            where=where, hint="leave the column out with ignore, or convert it to numbers",
        )  # fmt: skip
    return [(texts == text).astype(np.float64) for text in known]


def _target(column: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the targets, with text numbered in alphabetical order, and their class names if they are text."""
    if column.dtype.kind in "iuf":
        return column.to_numpy(), ()
    texts = column.astype(str).to_numpy(dtype=str)
    known = np.unique(texts)
    return np.searchsorted(known, texts), tuple(map(str, known))
