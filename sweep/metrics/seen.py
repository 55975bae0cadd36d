"""Hints after a program without metrics: what it left, and the `--metrics` value that would read it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.goals import direction, is_score
from sweep.metrics import logged, printed
from sweep.metrics.files import Left
from sweep.metrics.read import CSV, JSON, candidates, streams
from sweep.metrics.rows import STEPS

_MOST = 8  # names in one suggestion
_ENTRIES = 2000  # of the launch's folder that are looked at
_SKIPPED = (".git", ".venv", "venv", "node_modules", "__pycache__", "runs")


@dataclass(frozen=True)
class Seen:
    """One place where metrics may be. metrics: the value for `--metrics` that reads it, "" if there is none."""

    what: str
    metrics: str = ""


def seen(left: Left) -> list[Seen]:
    """Return the places where metrics may be, the most likely first."""
    return [*_files(left), *_printed(left), *_elsewhere(left)]


def _files(left: Left) -> Iterator[Seen]:
    for name, source in candidates(left):
        names = list(dict.fromkeys(key for row in source.rows for key in row))
        kind = "columns" if name.endswith(CSV) else "values"
        where = f"the TensorBoard log in {name.partition(':')[2]}" if name.startswith("tensorboard:") else name
        yield Seen(f"{where} has {kind} {', '.join(names[:_MOST])}", name)


def _printed(left: Left) -> Iterator[Seen]:
    for stream, raw in streams(left).items():
        found = logged.logged(printed.clean(raw))
        first = {pair.key: pair.name for pair in reversed(found.pairs) if pair.name.whole}
        known = [name for name in first if direction(name) is not None] or [name for name in first if is_score(name)]
        wanted = [name for name in reversed(first) if name in STEPS or name in known][:_MOST]
        if not set(wanted) - set(STEPS):
            continue
        lines = len({pair.line for pair in found.pairs if pair.key in wanted})
        told = ", ".join(f"{name}=" for name in wanted)
        unclear = "".join(f"; {name} is ambiguous: {why}" for name, why in found.left_out.items())
        parts = [_alone(first[name], first.values()) for name in wanted]
        yield Seen(f"{stream} has {told} ({lines} line{'s' * (lines != 1)}){unclear}", "|".join(parts))


def _alone(name: logged.Name, others: Collection[logged.Name]) -> str:
    """Return a pattern for a name that does not match at the end of a longer name."""
    inside = any(other.text != name.text and other.text.endswith(name.text) for other in others)
    return rf"(?<![\w/.-]){name.reading(name.key)}" if inside else name.reading(name.key)


def _elsewhere(left: Left) -> Iterator[Seen]:
    """Yield files that appeared next to the run while it ran. This is only a hint, so a clock may decide."""
    log = left.folder / "attempt.json"
    if left.beside is None or not log.exists():
        return
    begun, looked = log.stat().st_mtime, 0
    for top, folders, files in os.walk(left.beside):
        folders[:] = [f for f in sorted(folders) if f not in _SKIPPED and not Path(top, f, "sweep.json").exists()]
        looked += len(files) + len(folders)
        if looked > _ENTRIES:
            return
        for file in sorted(files):
            path = Path(top, file)
            usual = path.suffix.lower() in (*JSON, *CSV) or "tfevents" in file
            if usual and path.stat().st_mtime >= begun:
                yield Seen(
                    f"{path.relative_to(left.beside)} was written outside {{dir}}, where all seeds share it: have the "
                    "program write into {dir}, or add --cwd '{dir}' and another --out"
                )
