"""The folders of MLflow, Lightning and Ray Tune, and the database of MLflow."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sweep.adoption.runs import Entry, entry_of, settled, value
from sweep.config.schema import Collect
from sweep.errors import ConfigError, SweepError
from sweep.metrics.files import read_text, within
from sweep.metrics.rows import Row, as_number
from sweep.metrics.tensorboard import event_files
from sweep.nested import flatten
from sweep.seeds import natural

_RAY = frozenset({
    "date", "done", "experiment_tag", "hostname", "iterations_since_restore", "node_ip", "pid", "should_checkpoint",
    "time_since_restore", "time_this_iter_s", "time_total_s", "timestamp", "timesteps_total", "training_iteration",
    "trial_id",
})  # fmt: skip
_DEEPEST, _MOST = 32, 100_000  # levels and values of a YAML file of a tracker


def _mlflow(folder: Path, collect: Collect | None) -> Iterator[Entry]:
    """Yield the runs of an `mlruns` folder, the earliest first."""
    found = [path.parent for path in folder.glob("*/*/metrics")]
    if not any((run / "meta.yaml").is_file() for run in found):
        return
    about = {run: _yaml(run / "meta.yaml", folder) for run in found}
    names = {each: str(_yaml(each / "meta.yaml", folder).get("name", each.name)) for each in {r.parent for r in found}}
    several = len({*names.values()}) > 1

    def read(run: Path) -> Entry | None:
        if about[run].get("lifecycle_stage") == "deleted":
            return None
        rows = []
        for path in _files(run / "metrics"):
            for line in _text(path, folder).splitlines():
                _, measured, *at = line.split()
                name = path.relative_to(run / "metrics").as_posix()
                rows.append((name, float(measured), int(at[0]) if at else 0))
        params = {path.name: _text(path, folder).strip() for path in _files(run / "params")}
        state = {"1": "running", "4": "failed", "5": "killed"}.get(str(about[run].get("status")), "")
        return _of_mlflow(os.fspath(run), names[run.parent] if several else "", state, params, rows)

    yield from _each(
        sorted(found, key=lambda run: (as_number(about[run].get("start_time")) or 0, os.fspath(run))), read
    )


def mlflow_database(path: Path) -> Iterator[Entry]:
    """Yield the runs of MLflow's database, the earliest first. Raises: ConfigError for another file."""
    params: dict[str, dict[str, str]] = defaultdict(dict)
    logged: dict[str, list[Any]] = defaultdict(list)
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fspath(path))}?mode=ro", uri=True)) as data:
            # The rows of a view are computed, which may never end.
            stored = {name for (name,) in data.execute("select name from sqlite_master where rootpage > 0")}
            if lacking := {"runs", "experiments", "params", "metrics"} - stored:
                raise ValueError(f"it has no table {', '.join(sorted(lacking))}")
            runs = data.execute(
                "select r.start_time, cast(r.run_uuid as text), cast(e.name as text), lower(r.status) from runs r "
                "join experiments e using (experiment_id) where r.lifecycle_stage <> 'deleted'"
            ).fetchall()
            for run, key, text in data.execute("select cast(run_uuid as text), key, value from params"):
                params[run][str(key)] = str(text)
            for run, *row in data.execute(
                "select cast(run_uuid as text), cast(key as text), case when is_nan then 'nan' else value end, "
                "cast(step as integer) from metrics order by step, timestamp"
            ):
                logged[run].append(row)
    except (sqlite3.Error, ValueError) as error:
        raise ConfigError(f"it is not an MLflow database: {error}", where=str(path)) from error
    several = len({experiment for _, _, experiment, _ in runs}) > 1
    for _, run, experiment, state in sorted(runs, key=lambda each: (as_number(each[0]) or 0, each[1])):
        yield _of_mlflow(f"{path}: run {run}", experiment if several else "", str(state), params[run], logged[run])


def _of_mlflow(place: str, experiment: str, state: str, params: Mapping[str, str], logged: Sequence[Any]) -> Entry:
    """Return a run of MLflow. experiment: "" if there is only one. logged: (name, value, step)."""
    names = {key: value(text) for key, text in params.items()} | ({"experiment": experiment} if experiment else {})
    rows = [{"step": step, name: measured} for name, measured, step in sorted(logged, key=lambda row: row[2])]
    return settled(names, place, rows, state)


def _lightning(folder: Path, collect: Collect | None) -> Iterator[Entry]:
    """Yield the runs of a `lightning_logs` folder: `version_0` and so on, with metrics.csv or TensorBoard events."""
    runs = sorted(folder.glob("version_*"), key=lambda path: natural(path.name))
    if not any((run / "metrics.csv").is_file() or event_files(run) for run in runs):
        return
    for run in runs:
        names = dict(flatten({**_yaml(run / "config.yaml", folder), **_yaml(run / "hparams.yaml", folder)}))
        way = Collect(csv="metrics.csv") if (run / "metrics.csv").is_file() else Collect(tensorboard=".")
        yield entry_of(run, names, collect or way)


def _ray(folder: Path, collect: Collect | None) -> Iterator[Entry]:
    """Yield the trials of a folder of Ray Tune: each has params.json and result.json."""

    def read(run: Path) -> Entry:
        rows: list[Row] = []
        with suppress(OSError, ValueError, RecursionError):
            for line in _text(run / "result.json", folder).splitlines():
                kept = {key: each for key, each in _flat(line) if not key.startswith("config.")}
                step = kept.get("training_iteration")
                rows.append({"step": step, **{key: each for key, each in kept.items() if key not in _RAY}})
        failed = "failed" if (run / "error.txt").exists() else ""
        return settled(dict(_flat(_text(run / "params.json", folder) or "{}")), os.fspath(run), rows, failed)

    runs = (params.parent for depth in ("*", "*/*") for params in folder.glob(f"{depth}/params.json"))
    yield from _each(sorted(runs, key=lambda run: natural(os.fspath(run))), read)


def _each(runs: Iterable[Path], read: Callable[[Path], Entry | None]) -> Iterator[Entry]:
    """Yield the entry of each run, with the reason if its files are not what its tracker writes."""
    for run in runs:
        try:
            entry = read(run)
        except (OSError, ValueError, RecursionError, SweepError) as error:
            entry = Entry({}, os.fspath(run), None, str(error))
        if entry is not None:
            yield entry


def _flat(text: str) -> list[tuple[str, Any]]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return flatten(found)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _text(path: Path, folder: Path) -> str:
    """Return the text of a file in a tracker's folder.

    Raises: OSError, ValueError for a link that leads out of the folder, NotFound.
    """
    if not within(path, folder):
        raise ValueError(f"{path} is a link that leads out of {folder}")
    return read_text(path)


def _yaml(path: Path, folder: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, or {} if it holds more than a tracker's plain data."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with suppress(OSError, ValueError, RecursionError, SweepError, yaml.YAMLError):
        text, depth = _text(path, folder), 0
        for at, event in enumerate(yaml.parse(text, Loader=loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or at > _MOST:
                return {}
        found = loader(text).get_single_data()
        todo, count = [found], 0
        while todo:  # an alias counts as often as it is used
            each, count = todo.pop(), count + 1
            todo += each.values() if isinstance(each, dict) else each if isinstance(each, (list, tuple, set)) else ()
            if count + len(todo) > _MOST:
                return {}
        return found if isinstance(found, dict) else {}
    return {}


FOLDERS: Mapping[str, Callable[[Path, Collect | None], Iterator[Entry]]] = {
    "MLflow": _mlflow,
    "Lightning": _lightning,
    "Ray Tune": _ray,
}
