"""Results that are named by one text: a pattern of files, a long table, or the folder of a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.adoption.patterns import PART, of_pattern
from sweep.adoption.runs import Entry, Opened, Roles, differing
from sweep.adoption.tables import TABLES, of_file
from sweep.adoption.trackers import FOLDERS, mlflow_database
from sweep.config.schema import Collect
from sweep.errors import ConfigError


def opened(
    text: str, roles: Roles, metrics: Sequence[str] = (), collect: Collect | None = None, step: str | None = None
) -> Opened:
    """Return the runs that a pattern, a table or the folder of a tracker holds.

    metrics: the columns of a table. collect: where the metrics of a run's folder or log are. Raises: ConfigError.
    """
    path = Path(text)
    if not path.exists() and (PART.search(text) or "*" in text):
        return of_pattern(text, roles, collect)
    if path.suffix == ".db" and path.is_file():
        return _tracked("MLflow", list(mlflow_database(path)), roles, path)
    for kind, read in FOLDERS.items():
        if path.is_dir() and (entries := list(read(path, collect))):
            return _tracked(kind, entries, roles, path)
    if path.is_file() and path.suffix.lower() in TABLES:
        return of_file(text, roles, metrics=metrics, step=step)
    if not path.exists():
        raise ConfigError("no such file or folder", where=text)
    pattern = (path.parent if path.is_file() else path) / "{variant}/seed{seed}/metrics.csv"
    raise ConfigError(
        f"the file is not a table ({', '.join(TABLES)}) or an MLflow database (.db)" if path.is_file() else
        "the folder holds no runs of MLflow, Lightning or Ray Tune", where=text,
        hint=f"give a pattern of the files of the runs: sweep adopt '{pattern}'",
    )  # fmt: skip


def _tracked(kind: str, entries: Sequence[Entry], roles: Roles, path: Path) -> Opened:
    names = [entry.names for entry in entries if entry.found is not None]
    return Opened(kind, entries, differing(roles, names), path.resolve().stem)
