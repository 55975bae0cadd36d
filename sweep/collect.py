"""The metrics of a program that does not know us: read from its files or its output after it has ended."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from sweep.argv import fill
from sweep.config.schema import Collect
from sweep.errors import EnvironmentRefused, SweepError
from sweep.plan import Json

DEFAULT = "metrics.json"
HOW = (
    f'let it write {DEFAULT} into {{dir}}, or print a last line such as {{"test/accuracy": 0.93}}, '
    r"or say where they are: --metrics results.csv, --metrics 'accuracy=(?P<accuracy>[0-9.]+)'"
)
STEPS = ("step", "global_step", "epoch", "iteration")  # what a step is called when nobody says
NO_METRICS = frozenset({*STEPS, "seed"})

Row = Mapping[str, Any]


class NotFound(SweepError):
    """The program ended well and left no metrics where they were looked for."""


@dataclass(frozen=True)
class Left:
    """What a program left behind: its folder, the words its paths may hold, the launch's folder, its stdout.

    begun: seconds since the epoch; a file of the launch's folder that is older is another run's.
    at_work: it has not ended, so the last line of anything may be half of one.
    """

    folder: Path
    values: Mapping[str, str]
    beside: Path
    stdout: str
    begun: float
    at_work: bool = False

    def whole(self, text: str) -> str:
        """The lines of a text that are surely whole."""
        return text[: text.rfind("\n") + 1] if self.at_work else text


@dataclass(frozen=True)
class Found:
    """metrics by our names, the last value of each; history: (step, metrics), steps growing; notes to say."""

    metrics: dict[str, float]
    history: tuple[tuple[int, dict[str, float]], ...] = ()
    notes: tuple[str, ...] = ()


def require(collect: Collect | None) -> None:
    """Raises: EnvironmentRefused when what is needed to read the metrics is not installed."""
    if collect is not None and collect.tensorboard is not None and find_spec("tensorboard") is None:
        raise EnvironmentRefused(
            "TensorBoard files need the package tensorboard", where="collect.tensorboard",
            hint='pip install "seed-sweep[tensorboard]"',
        )  # fmt: skip


def metrics(collect: Collect | None, left: Left) -> Found:
    """The last value of every metric, and the way there where steps are named.

    Raises: NotFound saying what was looked for, where, and what was there instead.
    """
    found: list[Found] = []
    for where, rows, last_row_only in _sources(collect, left):
        found.append(_settled(rows, collect or Collect(), where, last_row_only=last_row_only))
    merged: dict[str, float] = {}
    for each in found:
        merged |= each.metrics
    _require_named(merged, collect)
    longest = max((each.history for each in found), key=len)
    return Found(merged, longest, tuple(note for each in found for note in each.notes))


def so_far(collect: Collect | None, left: Left) -> tuple[tuple[int, dict[str, float]], ...]:
    """The history of a program that is at work, or has failed, as far as it can be read; empty where it cannot."""
    with suppress(Exception):  # what is being written may be anything, and a look at it fails no run
        found = [
            _settled(rows, collect or Collect(), where, last_row_only=only).history
            for where, rows, only in _sources(collect, left)
        ]
        return max(found, key=len)
    return ()


def predictions(collect: Collect | None, left: Left) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(split, keyword arguments of `save_predictions`, a note or "") of every file that was named.

    Raises: NotFound, SweepError.
    """
    if collect is None or not collect.predictions:
        return
    import numpy as np  # here: every launch reads this module, and most have no use for it

    for split, name in collect.predictions.items():
        where = f"collect.predictions.{split}"
        path = located(name, left, where)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
                arrays = {key: data[key] for key in ("ids", "targets", "probs", "mean", "var") if key in data.files}
                names = ", ".join(data.files)
        except Exception as error:  # zip, its codecs and NumPy's headers each have exceptions of their own
            raise SweepError(f"{path.name} cannot be read as .npz ({error})", where=where) from None
        if "targets" not in arrays:
            raise SweepError(
                f"{path.name} holds {names or 'nothing'}, no targets", where=where,
                hint="save ids, targets, and probs (classes) or mean (regression)",
            )  # fmt: skip
        note = ""
        if "ids" not in arrays:
            arrays["ids"] = np.arange(len(arrays["targets"]))
            note = f"{path.name} has no ids: rows are taken to be in the same order in every run"
        yield split, arrays, note


def located(name: str, left: Left, where: str) -> Path:
    """The file or folder that a path of the config means.

    A relative one is looked for in the run's own folder; in the launch's folder only where its name holds
    {seed} or {run_id}: any other is written by all seeds alike, and the last one would stand for them all.
    """
    own = "{seed}" in name or "{run_id}" in name
    path = Path(fill(name, left.values))
    if (left.folder / path).exists():
        return left.folder / path
    there = left.beside / path
    if there.exists():
        if not own and not there.resolve().is_relative_to(left.folder.resolve()):
            raise NotFound(
                f"{path} is not in the run's folder; the one in {left.beside} is written by every seed",
                where=where, hint="tell the program to write into {dir}, or put {seed} into the name",
            )  # fmt: skip
        if there.is_file() and there.stat().st_mtime < left.begun - 2:  # some file systems keep whole seconds
            raise NotFound(f"{path} is older than this run: it was not written by it", where=where)
        return there
    raise NotFound(f"the program did not write {path}", where=where, hint=_instead(left.folder))


def _instead(folder: Path) -> str:
    own = sorted(p.name for p in folder.iterdir() if p.name not in ("log.txt", "attempt.json"))
    return f"it wrote {', '.join(own[:8])}" if own else "it wrote nothing into {dir}"


Source = tuple[str, list[Row], bool]


def _sources(collect: Collect | None, left: Left) -> Iterator[Source]:
    """(where, rows in the order they were written, whether only the last of them counts)."""
    named = False
    if collect is not None and collect.json_file is not None:
        named = True
        yield "collect.json", _json_rows(located(collect.json_file, left, "collect.json"), left), False
    if collect is not None and collect.csv is not None:
        named = True
        yield "collect.csv", _csv_rows(located(collect.csv, left, "collect.csv"), left), not collect.names
    if collect is not None and collect.regex is not None:
        named = True
        yield "collect.regex", _matches(collect.regex, left.whole(left.stdout)), False
    if collect is not None and collect.tensorboard is not None:
        named = True
        yield "collect.tensorboard", _events(located(collect.tensorboard, left, "collect.tensorboard")), False
    if named:
        return
    if (left.folder / DEFAULT).is_file():
        yield DEFAULT, _json_rows(left.folder / DEFAULT, left), False
        return
    rows = [row for row in map(_object, left.whole(left.stdout).splitlines()) if row is not None]
    if not rows:
        raise NotFound("the program ended well but gave no metrics", where="command", hint=HOW)
    yield "stdout", rows, False


def _settled(rows: Sequence[Row], collect: Collect, where: str, *, last_row_only: bool) -> Found:
    names = collect.names
    step = collect.step or next((name for name in STEPS if any(name in row for row in rows)), None)
    last: dict[str, float] = {}
    behind: dict[str, int] = {}
    history: list[tuple[int, dict[str, float]]] = []
    for number, row in enumerate(rows):
        values = {
            names.get(key, key): value
            for key, raw in row.items()
            if (key in names if names else key != step and key not in NO_METRICS)
            and (value := _number(raw)) is not None
        }
        if number == len(rows) - 1 or not last_row_only:
            last |= values
            behind |= dict.fromkeys(values, len(rows) - 1 - number)
        at = _number(row.get(step)) if step else None
        if values and at is not None and at.is_integer():
            history.append((int(at), values))
    notes = (
        f"{name}: the last value stands {late} row{'s' * (late > 1)} before the end of the table"
        for name, late in sorted(behind.items())
        if late and where == "collect.csv"
    )
    if not last and not names:
        seen = ", ".join(dict.fromkeys(str(key) for row in rows for key in row)) or "nothing"
        raise NotFound(f"no numbers in {len(rows)} rows", where=where, hint=f"names found: {seen[:200]}")
    return Found(last, tuple(_growing(history)), tuple(notes))


def _growing(history: Iterable[tuple[int, dict[str, float]]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Neighbours of one step as one row; a step that falls back starts nothing new and is left out."""
    before: int | None = None
    for step, rows in groupby(history, key=lambda row: row[0]):
        if before is not None and step <= before:
            continue
        before = step
        yield step, {name: value for _, row in rows for name, value in row.items()}


def _require_named(found: Mapping[str, float], collect: Collect | None) -> None:
    missing = [theirs for theirs, ours in (collect.names if collect else {}).items() if ours not in found]
    if missing:
        raise NotFound(
            f"the program reported no {missing[0]!r}", where="collect.names",
            hint=f"found: {', '.join(found) or 'none of the named metrics'}",
        )  # fmt: skip


def _number(raw: Any) -> float | None:
    """A number, or the text of one; None for all else. JSON's booleans are no metrics."""
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, (int, float)):
        return float(raw) if abs(raw) < 1e308 or isinstance(raw, float) else math.inf
    if not isinstance(raw, str):
        return None
    try:
        return float(raw)
    except ValueError:
        return None


def _json_rows(path: Path, left: Left) -> list[Row]:
    """The objects of a JSON file: one, a list of them, or one a line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        whole: Json = json.loads(text)
    except (ValueError, RecursionError):
        rows = []
        for number, line in enumerate(left.whole(text).splitlines(), 1):
            if not line.strip():
                continue
            row = _object(line)
            if row is None:
                raise NotFound(f"line {number} is no JSON object: {line[:60]!r}", where=path.name) from None
            rows.append(row)
        return rows
    items = whole if isinstance(whole, list) else [whole]
    return [_flat(item) for item in items if isinstance(item, dict)]


def _object(line: str) -> Row | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return _flat(value) if isinstance(value, dict) else None


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"test": {"accuracy": 0.9}} -> {"test/accuracy": 0.9}"""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{above}/{key}" if above else str(key)
        out |= _flat(inner, name) if isinstance(inner, dict) else {name: inner}
    return out


def _csv_rows(path: Path, left: Left) -> list[Row]:
    text = left.whole(path.read_text(encoding="utf-8-sig", errors="replace"))
    header = text.partition("\n")[0]
    mark = max(",;\t", key=header.count)
    rows = csv.DictReader(text.splitlines(), delimiter=mark, skipinitialspace=True)
    return [{key: value for key, value in row.items() if key and value not in (None, "")} for row in rows]


def _matches(pattern: str, text: str) -> list[Row]:
    """The named groups of every match; `^` and `$` stand for the ends of a line.

    Raises: NotFound when a group matched something that is no number.
    """
    rows: list[Row] = []
    for match in re.finditer(pattern, text, re.MULTILINE):
        row = {name: value for name, value in match.groupdict().items() if value is not None}
        for name, value in row.items():
            if _number(value) is None:
                raise NotFound(f"the group {name!r} matched {value[:40]!r}, not a number", where="collect.regex")
        # A step that was printed before its metrics holds for them.
        carried = {name: rows[-1][name] for name in STEPS if rows and name in rows[-1] and name not in row}
        rows.append({**carried, **row})
    if not rows:
        lines = [line for line in text.splitlines() if line.strip()]
        seen = f"its last line was {lines[-1][:80]!r}" if lines else "it printed nothing on stdout"
        raise NotFound(f"{pattern!r} matches nothing in the output", where="collect.regex", hint=seen)
    return rows


def _events(folder: Path) -> list[Row]:
    """A row for each (step, tag) of every event file below `folder`, each file's folder before its tags."""
    require(Collect(tensorboard="."))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    rows: list[tuple[int, dict[str, Any]]] = []
    inside = sorted({Path(top) for top, _, files in os.walk(folder) if any("tfevents" in f for f in files)})
    for place in inside:
        kept = EventAccumulator(str(place), size_guidance={"scalars": 0, "tensors": 0})
        kept.Reload()
        prefix = "" if len(inside) == 1 else f"{place.relative_to(folder).as_posix()}/".removeprefix("./")
        tags = kept.Tags()
        for tag in tags["scalars"]:
            rows += [(e.step, {"step": e.step, prefix + tag: e.value}) for e in kept.Scalars(tag)]
        for tag in tags["tensors"]:
            for event in kept.Tensors(tag):
                value = tensor_util.make_ndarray(event.tensor_proto)
                if value.size == 1 and value.dtype.kind in "fiu":
                    rows.append((event.step, {"step": event.step, prefix + tag: float(value.item())}))
    if not rows:
        raise NotFound(f"no scalars in {folder}", where="collect.tensorboard", hint=f"{len(inside)} event files")
    return [row for _, row in sorted(rows, key=lambda each: each[0])]
