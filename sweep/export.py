"""The records and their aggregates in the formats of other tools."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweep.aggregate import frame_of, history, summary
from sweep.errors import EnvironmentRefused, StoreError
from sweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["csv", "parquet", "tensorboard"]

_NEEDS = {"parquet": "pyarrow", "tensorboard": "tensorboard"}
# What spreadsheets begin a formula with, the full-width forms included, and what they pass over before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def export(store: Store, kind: Kind, out: Path) -> list[Path]:
    """Write what a run directory says into the folder `out`; return the files or folders that were made.

    csv, parquet: `runs` (a row a run), `history` (a row a run and step) and `summary` (a row a metric, over
    seeds). tensorboard: one folder of events per run, with its curves and its results.

    Raises: EnvironmentRefused when a package is missing, StoreError when `out` cannot be used.
    """
    _require(kind)
    if kind == "tensorboard" and out.is_dir() and any(out.iterdir()):
        raise StoreError(
            "is not empty: TensorBoard would mix old curves with new ones", where=str(out), hint="name another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot be made ({error.strerror})", where=str(out), hint="name another --out") from error
    return _tensorboard(store, out) if kind == "tensorboard" else _tables(store, kind, out)


def _require(kind: Kind) -> None:
    package = _NEEDS.get(kind)
    if package is not None and find_spec(package) is None:
        raise EnvironmentRefused(
            f"{kind} needs the package {package}", where="export", hint=f'pip install "seed-sweep[{kind}]"'
        )


def _tables(store: Store, kind: Kind, out: Path) -> list[Path]:
    runs = frame_of(store.scan())
    made = []
    for name, table in {"runs": runs, "history": history(store), "summary": summary(runs)}.items():
        path = out / f"{name}.{kind}"
        if kind == "csv":
            _replaced(path, lambda partial, table=table: guarded(table).to_csv(partial, index=False))  # type: ignore[misc]
        else:
            _replaced(path, lambda partial, table=table: table.to_parquet(partial, index=False, engine="pyarrow"))  # type: ignore[misc]
        made.append(path)
    return made


def _replaced(path: Path, write: Callable[[Path], None]) -> None:
    """Replace the file at `path` in one step: a reader sees the old one or the new one, whole."""
    partial = path.with_name(f".{path.name}.part")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def guarded(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with an apostrophe before every text, headers included, that a spreadsheet would calculate.

    Names and messages come from training code: `=HYPERLINK(…)` in an error message must stay text.
    """
    out = table.copy()
    for place, name in enumerate(table.columns):
        if table.iloc[:, place].dtype.kind not in "biuf":
            out[name] = [_plain(value) for value in table.iloc[:, place]]
    return out.set_axis([_plain(name) for name in table.columns], axis=1)


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _tensorboard(store: Store, out: Path) -> list[Path]:
    made = []
    for member in store.scan():
        rows = store.history(member)
        results = member.record.metrics if member.record is not None and member.status == "ok" else {}
        if not rows and not results:
            continue
        folder = out.joinpath("seeds", *member.key.split("/"))
        last = max((row["step"] for row in rows), default=0)
        curves = [(row["step"], k, v) for row in rows for k, v in row.items() if k != "step"]
        _write_events(folder, curves + [(last, f"result/{name}", value) for name, value in results.items()])
        made.append(folder)
    return made


def _write_events(folder: Path, points: list[tuple[int, str, float]]) -> None:
    # TensorBoard's own writer, without torch.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True)
    writer = EventFileWriter(str(folder))
    try:
        for step, tag, value in sorted(points, key=lambda point: point[0]):
            scalar = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            # No clock stands in a history; a second a step keeps the relative axis in order.
            writer.add_event(Event(wall_time=float(step), step=step, summary=scalar))
    finally:
        writer.close()
