"""The places where a program's metrics are looked for, in order, and the readers of these places."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.config.schema import Collect
from sweep.errors import SweepError
from sweep.goals import direction
from sweep.metrics import csv, json, logged, parquet, printed, tensorboard
from sweep.metrics.files import OURS, Left, located, read_text, within
from sweep.metrics.rows import SETTINGS, Found, History, NotFound, Row, as_number, options, settle
from sweep.nested import flatten
from sweep.plan import content_id
from sweep.store import atomic
from sweep.store.archive import is_bomb

DEFAULT = "metrics.json"
HOW = (
    f'have it write {DEFAULT} into {{dir}}, or print a last line such as {{"test/accuracy": 0.93}}, '
    "or name where they are: --metrics results.csv, --metrics 'accuracy={number}'"
)
JSON = (".json", ".jsonl", ".ndjson")
CSV = (".csv", ".tsv")
_MOST = 500  # entries of a run's folder in which metrics are looked for automatically


@dataclass(frozen=True)
class Place:
    """Rows and their origin. aside: names in them that are not metrics. note, words: as in `Found`."""

    where: str
    rows: Sequence[Row]
    aside: frozenset[str] = frozenset()
    note: str = ""
    words: str = ""


def require(collect: Collect | None) -> None:
    """Check that the packages needed to read the metrics are installed. Raises: EnvironmentRefused."""
    if collect is not None and collect.tensorboard is not None:
        tensorboard.require()


def automatic(collect: Collect | None) -> bool:
    """Return whether no place is configured for the metrics."""
    return collect is None or not (collect.json_file or collect.csv or collect.regex or collect.tensorboard)


def identity(collect: Collect | None) -> str:
    """Return the identity of a way to read metrics. The automatic choice is one way."""
    stored = {} if collect is None else collect.model_dump(mode="json", by_alias=True)
    return content_id({key: value for key, value in stored.items() if value})


def metrics(collect: Collect | None, left: Left) -> Found:
    """Return the last value of every metric, and its history if steps are named.

    Raises: NotFound with what was looked for, where, and what was there instead.
    """
    sources = list(_sources(collect, left))
    found = [_settled(each, collect) for each in sources]
    merged: dict[str, float] = {}
    for each in found:
        merged |= each.metrics
    for name in merged:
        if not name.strip() or len(name) > 200 or not name.isprintable():
            raise NotFound(f"{name[:60]!r} is an invalid metric name", where="command")
    if collect and (missing := [theirs for theirs, ours in collect.names.items() if ours not in merged]):
        raise NotFound(
            f"the program reported no {missing[0]!r}", where="collect.names",
            hint=f"it reported {', '.join(merged) or 'none of the named metrics'}",
        )  # fmt: skip
    longest = max((each.history for each in found), key=len)
    notes = [*(each.note for each in sources if each.note), *(note for each in found for note in each.notes)]
    return Found(merged, longest, tuple(dict.fromkeys(notes)), sources[0].words)


def so_far(collect: Collect | None, left: Left) -> History:
    """Return the history of a running or failed program as far as it can be read, else an empty one."""
    with suppress(Exception):  # an unfinished file may hold anything, and reading it must not fail the run
        return max((_settled(each, collect).history for each in _sources(collect, left)), key=len)
    return ()


def _settled(source: Place, collect: Collect | None) -> Found:
    return settle(source.rows, collect or Collect(), source.where, aside=source.aside)


def predictions(collect: Collect | None, left: Left) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield (split, keyword arguments of `save_predictions`, a note or "") for every file that was named.

    Raises: NotFound, SweepError.
    """
    if collect is None or not collect.predictions:
        return
    import numpy as np  # imported here: every launch loads this module, and few need it

    for split, name in collect.predictions.items():
        where = f"collect.predictions.{split}"
        path = located(name, left, where)
        try:
            with atomic.opened(path.resolve()) as stream, np.load(stream, allow_pickle=False) as data:
                size = sum(item.file_size for item in data.zip.infolist())
                if is_bomb(size, os.fstat(stream.fileno()).st_size):
                    raise ValueError(f"it unpacks to {size:,} bytes")
                arrays = {key: data[key] for key in ("ids", "targets", "probs", "mean", "var") if key in data.files}
                names = ", ".join(data.files)
        except Exception as error:  # zip, its codecs and NumPy's headers each have exceptions of their own
            raise SweepError(f"{path.name} cannot be read as .npz ({error})", where=where) from None
        if "targets" not in arrays:
            raise SweepError(
                f"{path.name} has no targets; it holds {names or 'nothing'}", where=where,
                hint="save ids, targets, and probs (classes) or mean (regression)",
            )  # fmt: skip
        note = ""
        if "ids" not in arrays:
            arrays["ids"] = np.arange(len(arrays["targets"]))
            note = f"{path.name} has no ids: rows are assumed to be in the same order in every run"
        yield split, arrays, note


def _sources(collect: Collect | None, left: Left) -> Iterator[Place]:
    """Yield the rows of each place that was named, or else of the first place where metrics are found automatically."""
    if collect is None or automatic(collect):
        yield from _found(left, Collect() if collect is None else collect)
        return
    if collect.json_file is not None:
        yield _file(located(collect.json_file, left, "collect.json"), left, collect)
    if collect.csv is not None:
        yield _file(located(collect.csv, left, "collect.csv"), left, collect, table=True)
    if collect.regex is not None:
        yield from _matched(collect.regex, left)
    if collect.tensorboard is not None:
        yield _events(located(collect.tensorboard, left, "collect.tensorboard"), left)


def _found(left: Left, collect: Collect) -> Iterator[Place]:
    """Yield what is taken by default: metrics.json, printed objects, the only file with metrics, or logged text."""
    usual = left.folder / DEFAULT
    if usual.is_file() and within(usual, left.folder) and left.fresh(usual):
        yield _file(usual, left, Collect(), where=DEFAULT)
        return
    said = list(_printed(left, collect))
    if any(each.rows for each, _ in said):
        yield from (each for each, _ in said if each.rows)
        return
    files = list(candidates(left))
    if len(files) == 1:
        name, source = files[0]
        yield Place(source.where, source.rows, note=f"metrics were read from {name}, the only file that holds any")
        return
    found = logged.logged("\n".join(rest for _, rest in said))
    if files or not found.rows:
        raise NotFound("the program ended without an error but gave no metrics", where="command", hint=HOW)
    notes = [f"metrics were read from the text that the program logs: {', '.join(found.names)}"]
    notes += [f"not taken as a metric: {name}, because {why}" for name, why in found.left_out.items()]
    notes += [each.note for each, _ in said if each.note]
    yield Place("output", found.rows, note="; ".join(notes), words=found.words)


def streams(left: Left) -> dict[str, str]:
    """Return the output of a program: stderr, where logging writes, then stdout, which wins if both have a metric."""
    return {"stderr": left.stderr, "stdout": left.stdout}


def _printed(left: Left, collect: Collect) -> Iterator[tuple[Place, str]]:
    """Yield the objects printed to each stream, none if no number in them may be a metric, and the other text."""
    said = {stream: printed.objects(printed.clean(left.whole(raw))) for stream, raw in streams(left).items()}
    logs = {stream: "\n".join(between) for stream, (_, between) in said.items()}
    logging = any(direction(pair.key) is not None for log in logs.values() for pair in logged.pairs(log)[0])
    for stream, (rows, between) in said.items():
        ended = not logged.pairs(between[-1])[0] and not (logging and rows and SETTINGS & rows[-1].keys())
        aside = frozenset() if collect.names else options(rows, ended=ended)
        told = any(as_number(value) is not None and key not in aside for row in rows for key, value in row.items())
        yield Place(stream, rows if told else [], aside, _cut(left, stream)), logs[stream]


def _matched(pattern: str, left: Left) -> list[Place]:
    found = {stream: printed.matches(pattern, printed.clean(left.whole(raw))) for stream, raw in streams(left).items()}
    if not any(found.values()):
        lines = [line for line in printed.clean(left.stdout or left.stderr).splitlines() if line.strip()]
        seen = f"its last line was {lines[-1][:80]!r}" if lines else "it printed nothing"
        raise NotFound(f"{pattern!r} matches nothing in the output", where="collect.regex", hint=seen)
    return [Place("collect.regex", rows, note=_cut(left, stream)) for stream, rows in found.items() if rows]


def _cut(left: Left, stream: str) -> str:
    lost = left.cut.get(stream, 0)
    return f"{stream} was too long to be kept: {lost >> 20} MiB in its middle were not read" if lost else ""


def _file(path: Path, left: Left, collect: Collect, *, table: bool = False, where: str = "collect.json") -> Place:
    if path.suffix.lower() == ".parquet":
        return Place("collect.csv", parquet.rows(path))
    content = read_text(path)
    if table or path.suffix.lower() in CSV:
        return Place("collect.csv", csv.rows(left.whole(content), collect))
    return Place(
        where, [dict(flatten(each, mark="/")) for each in json.objects(content, left.whole(content), path.name)]
    )


def _events(folder: Path, left: Left) -> Place:
    made = tensorboard.rows(folder, left.fresh, seed=left.values.get("seed", ""), at_work=left.at_work)
    return Place("collect.tensorboard", made)


def candidates(left: Left) -> Iterator[tuple[str, Place]]:
    """Yield (name as `--metrics` takes it, its rows) of each place in a run's folder that holds usual metrics."""
    events: list[Path] = []
    for path in filter(left.fresh, _inside(left.folder)):
        name = path.relative_to(left.folder).as_posix()
        if "tfevents" in path.name:
            events.append(path)
        elif path.suffix.lower() in (*JSON, *CSV):
            with suppress(SweepError, OSError, ValueError):
                source = _file(path, left, Collect())
                if any(direction(metric) is not None for metric in _settled(source, None).metrics):
                    yield name, source
    if events:
        with suppress(SweepError, OSError, ValueError, ImportError):
            top = Path(os.path.commonpath([path.parent for path in events]))
            yield f"tensorboard:{top.relative_to(left.folder).as_posix()}", _events(top, left)


def _inside(folder: Path) -> list[Path]:
    found: list[Path] = []
    for top, folders, files in os.walk(folder):
        folders.sort()
        found += [Path(top, file) for file in sorted(files) if top != os.fspath(folder) or file not in OURS]
        if len(found) > _MOST:
            break
    return [path for path in found[:_MOST] if path.is_file() and not path.is_symlink()]
