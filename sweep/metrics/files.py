"""A run's files: where they are, and whether this run wrote them, judged by the files before it, not by a clock."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweep.config.schema import Collect
from sweep.metrics.rows import NotFound
from sweep.metrics.tensorboard import event_files
from sweep.store import atomic
from sweep.store.names import ABOUT, HISTORY, LOG, STDERR, STDOUT
from sweep.target.command import fill
from sweep.textfile import stat_of

OURS = (LOG, ABOUT, HISTORY, STDOUT, STDERR)
LARGEST = 256 << 20  # bytes of a text file that is read
_HASHED = 1 << 20  # bytes: a file up to this size is compared by content, a larger one by size and time

Stamp = tuple[int, int, int, str]  # size, time in ns, inode, digest
Before = Mapping[str, Stamp]


@dataclass(frozen=True)
class Left:
    """The traces of a program: its folder, the placeholders of its paths, the launch's folder, its output.

    before: the files outside its folder as they were when it started, as `look` found them.
    cut: bytes of stdout and stderr that were not kept. at_work: it has not ended, so the last line of any file may
    be incomplete.
    """

    folder: Path
    values: Mapping[str, str]
    beside: Path | None
    stdout: str
    stderr: str = ""
    before: Before = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    at_work: bool = False

    def whole(self, text: str) -> str:
        """Return the lines of a text that are certainly complete."""
        return text[: text.rfind("\n") + 1] if self.at_work else text

    def fresh(self, path: Path) -> bool:
        """Return whether this attempt at the run made or changed a file."""
        known = self.before.get(os.path.realpath(path))
        return known is None or known != _stamp(path)


def look(collect: Collect | None, folder: Path, values: Mapping[str, str], beside: Path) -> Before:
    """Return the state of a run's files before it starts: those in its folder and those that it will write."""
    paths = [Path(top, name) for top, _, names in os.walk(folder) for name in names]
    for name in _named(collect):
        there = beside / fill(name, values)
        if not within(there, folder):
            paths += event_files(there) if there.is_dir() else [there]
    return {os.path.realpath(path): _stamp(path) for path in paths if path.is_file()}


def _named(collect: Collect | None) -> Iterator[str]:
    if collect is not None:
        yield from filter(None, (collect.json_file, collect.csv, collect.tensorboard))
        yield from collect.predictions.values()
        yield from (word.partition(":")[0] for word in collect.scores.values())


def within(path: Path, folder: Path) -> bool:
    """Return whether a path leads into a folder, links resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))  # resolve() raises if links loop


def _stamp(path: Path) -> Stamp:
    found = stat_of(path)
    return (*found, hashlib.sha256(path.read_bytes()).hexdigest() if found[0] <= _HASHED else "")


def read_text(path: Path) -> str:
    """Return a file as text, with invalid UTF-8 replaced. Raises: OSError, NotFound if it is too large."""
    try:
        return atomic.read(Path(os.path.realpath(path)), LARGEST).decode("utf-8", errors="replace")
    except ValueError as error:
        raise NotFound(f"{path.name} is {error}", where="command") from None


def located(name: str, left: Left, where: str) -> Path:
    """Return the file or folder that a path of the config means.

    A relative one is looked for in the run's own folder, and in the launch's folder only if its name holds
    {seed} or {run_id}: every seed writes any other file there, and the last seed would replace the others.

    Raises: NotFound.
    """
    own = "{seed}" in name or "{run_id}" in name
    path = Path(fill(name, left.values))
    inside = left.folder / path
    if inside.exists() and within(inside, left.folder):
        if inside.is_file() and not left.fresh(inside):
            raise NotFound(f"an earlier attempt wrote {path}, and this one did not", where=where)
        return inside
    there = left.beside / path if left.beside is not None else inside
    if there.exists():
        if not own:
            raise NotFound(
                f"{path} is not in the run's folder; every seed writes the one in {there.parent}",
                where=where, hint="tell the program to write into {dir}, or put {seed} into the name",
            )  # fmt: skip
        if there.is_file() and not left.fresh(there):
            raise NotFound(f"{path} was there before this run and was not written by it", where=where)
        return there
    kept = " (files outside the run's folder are not kept)" if left.beside is None else ""
    wrote = sorted(path.name for path in left.folder.iterdir() if path.name not in OURS)
    hint = f"it wrote {', '.join(wrote[:8])}" if wrote else "it wrote nothing into {dir}"
    raise NotFound(f"the program did not write {path}{kept}", where=where, hint=hint)
