"""Find results in the files that a pattern names, in long tables, and in the folders of four usual trackers."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sweep.config.schema import Collect
from sweep.errors import ConfigError, SweepError
from sweep.goals import direction, is_score
from sweep.metrics import Found, Left, csv, metrics, parquet
from sweep.metrics.files import LARGEST, read_text, within
from sweep.metrics.printed import Backtracks, in_time
from sweep.metrics.read import CSV, JSON, candidates
from sweep.metrics.rows import STEPS, Row, number, settle
from sweep.metrics.tensorboard import event_files
from sweep.nested import flatten
from sweep.seeds import natural
from sweep.store import atomic

if TYPE_CHECKING:
    import pandas as pd

SEEDS = ("seed", "random_seed", "random_state", "seed_everything", "rng_seed", "global_seed")
TABLES = (*CSV, *JSON, ".parquet")
_PART = re.compile(r"\{([A-Za-z_]\w*)\}")
_WANDB = ("Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep", "ID", "GPU Type", "Hostname")
_RAY = frozenset({
    "date", "done", "experiment_tag", "hostname", "iterations_since_restore", "node_ip", "pid", "should_checkpoint",
    "time_since_restore", "time_this_iter_s", "time_total_s", "timestamp", "timesteps_total", "training_iteration",
    "trial_id",
})  # fmt: skip
_DEEPEST, _MOST = 32, 100_000  # levels and values of a YAML file of a tracker
_ENDED_BADLY = frozenset({"failed", "crashed", "killed"})
_AT_WORK = frozenset({"running", "scheduled", "pending", "preempting"})


@dataclass(frozen=True)
class Entry:
    """One run that exists.

    names: what its place says of it; found: None if nothing could be read, and `why`; failed: how it ended, if its
    tracker says that it ended badly.
    """

    names: Mapping[str, Any]
    place: str
    found: Found | None
    why: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Roles:
    """The names of a run's seed and task, and those that tell variants apart; None: those that differ."""

    seed: str | None = None
    task: str | None = None
    variant: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that have a role."""
        return tuple(name for name in (self.seed, self.task, *(self.variant or ())) if name is not None)


@dataclass(frozen=True)
class Source:
    """Opened results: entries in a fixed order, the roles of their names, and a name for all of them."""

    kind: str
    entries: Sequence[Entry]
    roles: Roles
    name: str


def opened(
    text: str, roles: Roles, metrics: Sequence[str] = (), collect: Collect | None = None, step: str | None = None
) -> Source:
    """Return the runs that a pattern, a table or the folder of a tracker holds.

    metrics: the columns of a table; collect: where the metrics of a run's folder or log are. Raises: ConfigError.
    """
    path = Path(text)
    if not path.exists() and (_PART.search(text) or "*" in text):
        return _pattern(text, roles, collect)
    if path.suffix == ".db" and path.is_file():
        return _tracked("MLflow", list(_mlflow_database(path)), roles, path)
    for kind, read in _TRACKERS.items():
        if path.is_dir() and (entries := list(read(path, collect))):
            return _tracked(kind, entries, roles, path)
    if path.is_file() and path.suffix.lower() in TABLES:
        frame, kind = _frame(path), "table"
        if {"Name", "State"} <= set(frame.columns) or {"Name", "Runtime"} <= set(frame.columns):
            kind = "W&B export"
        return of_frame(frame, roles, metrics=metrics, step=step, place=text, name=path.stem, kind=kind)
    if not path.exists():
        raise ConfigError("no such file or folder", where=text)
    raise ConfigError(
        "is neither a table nor a folder of MLflow, Lightning or Ray Tune" if path.is_file() else
        "holds no runs of MLflow, Lightning or Ray Tune", where=text,
        hint=f"name the files of its runs: sweep adopt '{path / '{variant}/seed{seed}/metrics.csv'}'",
    )  # fmt: skip


def _tracked(kind: str, entries: Sequence[Entry], roles: Roles, path: Path) -> Source:
    names = [entry.names for entry in entries if entry.found is not None]
    return Source(kind, entries, differing(roles, names), path.resolve().stem)


def value(text: str) -> Any:
    """Return the number that a part of a path means, or the text."""
    if re.fullmatch(r"-?(0|[1-9]\d*)", text):
        return int(text)
    found = number(text) if re.match(r"[-+.\d]", text) else None
    return text if found is None else found


# Patterns


def matching(pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Return the paths that a pattern fits, each with what its named parts stand for there.

    `{name}` is a part of a folder's or a file's name, `*` any part, `**` any folders; a name that stands twice means
    the same. {seed} takes digits where any file has them there.
    """
    start, *parts = Path(pattern).parts
    root, parts = (Path(start), parts) if Path(pattern).is_absolute() else (Path(), [start, *parts])
    try:
        for seed in (r"\d+", ".+?"):
            if found := sorted(_walk(root, parts, {}, seed), key=lambda each: natural(os.fspath(each[0]))):
                return list({path: (path, names) for path, names in found}.values())
    except RecursionError:
        raise ConfigError("folders are nested too deeply", where=pattern) from None
    return []


def _walk(
    folder: Path, parts: Sequence[str], known: dict[str, str], seed: str
) -> Iterator[tuple[Path, dict[str, str]]]:
    if not parts:
        yield folder, known
        return
    part, *rest = parts
    if part == "**":
        for each in sorted(Path(at) for at, _, _ in os.walk(folder)):
            yield from _walk(each, rest, known, seed)
        return
    if "*" not in part and not _PART.search(part):
        if (folder / part).exists():
            yield from _walk(folder / part, rest, known, seed)
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    fits = re.compile(_expression(part, known, seed))
    for name in names:
        with in_time(part, len(name)):
            match = fits.fullmatch(name)
        if match and (not rest or (folder / name).is_dir()):
            yield from _walk(folder / name, rest, {**known, **match.groupdict()}, seed)


def _expression(part: str, known: Mapping[str, str], seed: str) -> str:
    out = ""
    for at, piece in enumerate(_PART.split(part)):
        if at % 2 == 0:  # between two names
            out += re.escape(piece).replace(r"\*", "[^/]*")
        elif piece in known:
            out += re.escape(known[piece])
        elif f"(?P<{piece}>" in out:
            out += f"(?P={piece})"
        else:
            out += f"(?P<{piece}>{seed if piece == 'seed' else '.+?'})"
    return out


def _pattern(text: str, roles: Roles, collect: Collect | None) -> Source:
    names = _PART.findall(text)
    for role in roles.names:
        if role not in names:
            raise ConfigError(f"the pattern has no part {{{role}}}", where=text, hint=f"it has {', '.join(names)}")
    found = matching(text)
    if not found:
        raise ConfigError("no file or folder fits this pattern", where=text, hint=_near(text))
    seed = roles.seed or next((name for name in names if name in SEEDS), None)
    task = roles.task or ("task" if "task" in names else None)
    rest = tuple(dict.fromkeys(name for name in names if name not in (seed, task)))
    entries = [_read(path, {name: value(part) for name, part in values.items()}, collect) for path, values in found]
    fixed = [part for part in Path(text).parts[:-1] if not _PART.search(part) and "*" not in part and part != os.sep]
    called = fixed[-1] if fixed and fixed[-1] not in (".", "..") else "adopted"
    return Source("files", entries, Roles(seed, task, roles.variant if roles.variant is not None else rest), called)


def _near(text: str) -> str:
    """Say how far a pattern leads."""
    parts = Path(text).parts
    for count in range(len(parts) - 1, 0, -1):
        if found := matching(os.path.join(*parts[:count])):
            folder = found[0][0]
            inside = ", ".join(sorted(os.listdir(folder))[:8]) if folder.is_dir() else "no folder"
            return f"{folder} has {inside or 'nothing in it'}"
    return f"there is no {parts[0]} here"


def _read(path: Path, names: Mapping[str, Any], collect: Collect | None) -> Entry:
    try:
        return Entry(names, os.fspath(path), read(path, collect))
    except Backtracks:
        raise
    except (SweepError, OSError) as error:
        return Entry(names, os.fspath(path), None, error.what if isinstance(error, SweepError) else str(error))


def read(path: Path, collect: Collect | None = None) -> Found:
    """Return the metrics of a run's file or folder, as those of a program that has ended. Raises: SweepError."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        left = Left(path, {}, None, "")
        try:
            return metrics(collect, left)
        except SweepError as error:
            held = [name for name, _ in candidates(left)] if collect is None else []
            if not held:
                raise
            raise ConfigError(f"{' and '.join(held)} hold metrics: --metrics {held[0]}", where=str(path)) from error
    if collect is not None and (collect.json_file or collect.csv or collect.tensorboard):
        raise ConfigError("the pattern names files, and --metrics files in folders", hint="name one of them")
    ending = path.suffix.lower()
    if "tfevents" in path.name:
        wanted = Collect(tensorboard=".")
    elif ending in JSON:
        wanted = Collect.model_validate({"json": path.name})
    elif ending in (*CSV, ".parquet"):
        wanted = Collect(csv=path.name)
    else:
        return metrics(collect, Left(path, {}, None, read_text(path)))
    return metrics(wanted, Left(path.parent, {}, None, ""))


# Tables


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
        raise ConfigError(f"cannot be read as a table: {error}", where=str(path)) from error


def of_frame(
    frame: pd.DataFrame,
    roles: Roles,
    *,
    metrics: Sequence[str] = (),
    step: str | None = None,
    place: str = "the frame",
    name: str = "adopted",
    kind: str = "table",
) -> Source:
    """Return the runs of a long table: one row per run, or one per run and step.

    Raises: ConfigError for missing columns, for a metric that is no number, and where no column is a metric.
    """
    columns = [str(column) for column in frame.columns]
    frame = frame.set_axis(columns, axis=1)
    for wanted in (*roles.names, *metrics, step):
        if wanted is not None and wanted not in columns:
            raise ConfigError(f"no column {wanted!r}", where=place, hint=f"columns: {', '.join(columns[:20])}")
    if twice := [column for at, column in enumerate(columns) if column in columns[:at]]:
        raise ConfigError(f"two columns are called {twice[0]!r}", where=place)
    named = {*roles.names, *metrics}
    step = step or next((column for column in STEPS if column in columns and column not in named), None)
    tracker = {column for column in columns if column in _WANDB or column.startswith("_")} if kind != "table" else set()
    left = [column for column in columns if column not in {*named, step, *tracker}]
    chosen = list(metrics) or _metrics(frame, left, place)
    numbers = {metric: _numbers(frame[metric], metric, place) for metric in chosen}
    about = [column for column in left if column not in chosen]
    if step is not None and roles.variant is None:  # what changes within a run names none
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
        # Without a seed or a step, nothing joins two rows: each is a run.
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
        entry = _settled(said, f"{place}: row {rows[0] + 1}", logged, ended, step)
        lacking = entry.found is None and ended not in _AT_WORK
        entries.append(replace(entry, why=f"no value of {', '.join(chosen[:5])}") if lacking else entry)
    return Source(kind, entries, roles, name)


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
        "which columns are metrics is not plain from their names", where=place,
        hint=f"say so: --metrics {','.join(scores[:3]) or 'NAME'}",
    )  # fmt: skip


def _numbers(column: pd.Series[Any], metric: str, place: str) -> list[float]:
    if column.dtype.kind in "fiu":
        return [float(each) for each in column]
    made = []
    for at, raw in enumerate(column, 1):
        found = float("nan") if raw is None or raw != raw or not str(raw).strip() else number(_plain(raw))
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


def differing(roles: Roles, names: Sequence[Mapping[str, Any]]) -> Roles:
    """Return the roles with the seed and the task that are plain from the names, and as variants those that differ.

    A name that has another value in every run tells runs apart and no variants, unless it is all that differs.
    """
    keys = list(dict.fromkeys(key for row in names for key in row))
    leaf = {key: key.rpartition(".")[2].rpartition("/")[2] for key in keys}
    seed = roles.seed or next((key for word in SEEDS for key in keys if leaf[key] == word), None)
    task = roles.task or ("task" if "task" in keys else None)
    if roles.variant is not None:
        return Roles(seed, task, roles.variant)
    if seed is not None:  # what has no seed beside others that have one is no run of theirs, such as an aggregate
        names = [row for row in names if row.get(seed) is not None]
        keys = list(dict.fromkeys(key for row in names for key in row))
    found = {}
    for key in keys:
        if key not in (seed, task) and leaf[key] not in SEEDS:
            values = [json.dumps(row.get(key), default=str) for row in names]
            if len(set(values)) > 1:
                found[key] = len(set(values)) == len(values)
    seeds = {json.dumps(row.get(seed), default=str) for row in names} if seed else set()
    one_seed = seed is not None and len(seeds) == 1
    return Roles(seed, task, tuple(key for key, alone in found.items() if not alone or one_seed))


# The folders of trackers


def _each(runs: Iterable[Path], read: Callable[[Path], Entry | None]) -> Iterator[Entry]:
    """Yield the entry of each run, and of one whose files are not such as its tracker writes, why."""
    for run in runs:
        try:
            entry = read(run)
        except (OSError, ValueError, RecursionError, SweepError) as error:
            entry = Entry({}, os.fspath(run), None, str(error))
        if entry is not None:
            yield entry


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

    yield from _each(sorted(found, key=lambda run: (number(about[run].get("start_time")) or 0, os.fspath(run))), read)


def _mlflow_database(path: Path) -> Iterator[Entry]:
    """Yield the runs of MLflow's database, the earliest first. Raises: ConfigError for another file."""
    params: dict[str, dict[str, str]] = defaultdict(dict)
    logged: dict[str, list[Any]] = defaultdict(list)
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fspath(path))}?mode=ro", uri=True)) as data:
            # What is computed, as that of a view is, may never end.
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
        raise ConfigError(f"is not a database of MLflow: {error}", where=str(path)) from error
    several = len({experiment for _, _, experiment, _ in runs}) > 1
    for _, run, experiment, state in sorted(runs, key=lambda each: (number(each[0]) or 0, each[1])):
        yield _of_mlflow(f"{path}: run {run}", experiment if several else "", str(state), params[run], logged[run])


def _of_mlflow(place: str, experiment: str, state: str, params: Mapping[str, str], logged: Sequence[Any]) -> Entry:
    """Return a run of MLflow. experiment: "" where there is only one; logged: (name, value, step)."""
    names = {key: value(text) for key, text in params.items()} | ({"experiment": experiment} if experiment else {})
    rows = [{"step": step, name: measured} for name, measured, step in sorted(logged, key=lambda row: row[2])]
    return _settled(names, place, rows, state)


def _lightning(folder: Path, collect: Collect | None) -> Iterator[Entry]:
    """Yield the runs of a `lightning_logs` folder: `version_0` and on, with metrics.csv or TensorBoard events."""
    runs = sorted(folder.glob("version_*"), key=lambda path: natural(path.name))
    if not any((run / "metrics.csv").is_file() or event_files(run) for run in runs):
        return
    for run in runs:
        names = dict(flatten({**_yaml(run / "config.yaml", folder), **_yaml(run / "hparams.yaml", folder)}))
        way = Collect(csv="metrics.csv") if (run / "metrics.csv").is_file() else Collect(tensorboard=".")
        yield _read(run, names, collect or way)


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
        return _settled(dict(_flat(_text(run / "params.json", folder) or "{}")), os.fspath(run), rows, failed)

    runs = (params.parent for depth in ("*", "*/*") for params in folder.glob(f"{depth}/params.json"))
    yield from _each(sorted(runs, key=lambda run: natural(os.fspath(run))), read)


def _flat(text: str) -> list[tuple[str, Any]]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return flatten(found)


def _settled(names: Mapping[str, Any], place: str, rows: Sequence[Row], state: str, step: str | None = "step") -> Entry:
    if state in _AT_WORK:
        return Entry(names, place, None, f"its tracker says that it is {state}")
    failed = state if state in _ENDED_BADLY else ""
    try:
        return Entry(names, place, settle(rows, Collect(step=step), "results"), failed=failed)
    except SweepError as error:
        return Entry(names, place, Found({}) if failed else None, "" if failed else error.what, failed)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _text(path: Path, folder: Path) -> str:
    """Return what a file of a tracker's folder says.

    Raises: OSError, ValueError for a link that leads out of the folder, NotFound.
    """
    if not within(path, folder):
        raise ValueError(f"{path} is a link that leads out of {folder}")
    return read_text(path)


def _yaml(path: Path, folder: Path) -> dict[str, Any]:
    """Return a YAML file's table, nothing where it holds more than the plain data of a tracker."""
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
        while todo:  # a name that stands for a value counts as often as it stands
            each, count = todo.pop(), count + 1
            todo += each.values() if isinstance(each, dict) else each if isinstance(each, (list, tuple, set)) else ()
            if count + len(todo) > _MOST:
                return {}
        return found if isinstance(found, dict) else {}
    return {}


_TRACKERS: Mapping[str, Callable[[Path, Collect | None], Iterator[Entry]]] = {
    "MLflow": _mlflow,
    "Lightning": _lightning,
    "Ray Tune": _ray,
}
