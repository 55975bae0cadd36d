"""What a program without metrics left to be read, and the words that would read it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.goals import direction
from sweep.metrics import text
from sweep.metrics.files import Left
from sweep.metrics.read import CSV, JSON, candidates
from sweep.metrics.rows import STEPS

_MOST = 8  # names in one suggestion
_ENTRIES = 2000  # of the launch's folder that are looked at
_SKIPPED = (".git", ".venv", "venv", "node_modules", "__pycache__", "runs")


@dataclass(frozen=True)
class Seen:
    """One place where metrics may be. metrics: what to give `--metrics`, "" where no words of it would do."""

    what: str
    metrics: str = ""


def seen(left: Left) -> list[Seen]:
    """Return where metrics may be, the most likely first."""
    return [*_files(left), *_printed(left), *_elsewhere(left)]


def _files(left: Left) -> Iterator[Seen]:
    for name, source in candidates(left):
        names = list(dict.fromkeys(key for row in source.rows for key in row))
        kind = "columns" if name.endswith(CSV) else "values"
        where = f"TensorBoard events in {name.partition(':')[2]}" if name.startswith("tensorboard:") else name
        yield Seen(f"{where} has {kind} {', '.join(names[:_MOST])}", name)


def _printed(left: Left) -> Iterator[Seen]:
    for stream, raw in (("stdout", left.stdout), ("stderr", left.stderr)):
        cleaned = text.clean(raw)
        found = dict(text.assignments(cleaned))
        known = {name: pattern for name, pattern in found.items() if direction(name) is not None}
        chosen = known or {name: pattern for name, pattern in found.items() if name not in STEPS}
        if not chosen:
            continue
        steps = {name: pattern for name, pattern in found.items() if name in STEPS}
        wanted = {name: found[name] for name in found if name in chosen or name in steps}
        names = list(wanted)[:_MOST]
        parts = [_alone(name, wanted[name], found) for name in names]
        lines = Counter(bool(re.search("|".join(map(re.escape, names)), line)) for line in cleaned.splitlines())[True]
        told = ", ".join(f"{name}=" for name in names)
        yield Seen(f"{stream} has {told} ({lines} line{'s' * (lines != 1)})", "|".join(parts))


def _alone(name: str, pattern: str, found: dict[str, str]) -> str:
    """The pattern, kept from matching inside a longer name that ends alike."""
    inside = any(other != name and other.endswith(name) for other in found)
    return rf"(?<![\w/.-]){pattern}" if inside else pattern


def _elsewhere(left: Left) -> Iterator[Seen]:
    """Files that appeared beside the run while it ran: a hint, so that a clock may decide."""
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
                yield Seen(f"{path.relative_to(left.beside)} was written outside {{dir}}, which all seeds share")
