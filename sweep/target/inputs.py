"""Inputs: the files and values, apart from its source, that decide what a run computes, compared by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.errors import ConfigError, some
from sweep.plan import Json
from sweep.target import imports
from sweep.target.values import values_of
from sweep.textfile import Stat, stat_of

LARGEST = 8 << 30  # bytes of a file that is only named by a word of a command
MOST_FILES = 100_000  # files of one folder
LOOKED = 200  # files of one folder of data that are checked when a run starts and ends

_known: dict[tuple[str, Stat], str] = {}


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, or of all files below a folder. Unchanged files are read once per process."""
    if path.is_dir():
        whole = hashlib.sha256()
        for each in _below(path):
            whole.update(
                f"{each.relative_to(path).as_posix()}\0{file_digest(each)}\n".encode("utf-8", "surrogateescape")
            )
        return whole.hexdigest()
    key = (os.fspath(path.resolve()), stat_of(path))
    if key not in _known:
        with path.open("rb") as stream:
            _known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _known[key]


def _meaning(path: Path) -> str:
    """Return the digest of a file, for Python source without comments and layout."""
    return imports.meaning(path) if path.suffix == ".py" else file_digest(path)


def _below(folder: Path) -> list[Path]:
    found = [Path(at) / name for at, _, names in os.walk(folder) for name in names]
    files = sorted(each for each in found if each.is_file())
    if len(files) > MOST_FILES:
        raise ConfigError(
            f"it holds {len(files):,} files, but at most {MOST_FILES:,} can be compared", where=f"data: {folder}",
            hint="name a file that changes with them, or give a data_version",
        )  # fmt: skip
    return files


def files_of(data: Sequence[str], words: Sequence[str] = ()) -> dict[str, str]:
    """Return the digest of each path of `data`, and of each file among the words that follow the program of a command.

    A word counts if it, or the text after its `=` or a leading `@`, names an existing file. A folder counts only in
    `data`.

    Raises: ConfigError for a path of `data` that does not exist.
    """
    found = {}
    for name in data:
        path = Path(name).expanduser()
        if not path.exists():
            raise ConfigError(
                f"no such file or folder: {path}", where="data", hint="name the files and folders that the runs read"
            )
        found[name] = file_digest(path)
    for word in words:
        named = (word, word.partition("=")[2])
        for name in dict.fromkeys((*named, *(each.removeprefix("@") for each in named))):
            path = Path(name)
            if name and name not in found and "{" not in name and path.is_file() and path.stat().st_size <= LARGEST:
                found[name] = _meaning(path)  # as in the source digest of a script
    return found


@dataclass(frozen=True)
class Watched:
    """A file as it was at plan time."""

    stat: Stat
    digest: str
    shown: str


def watched(source: Sequence[Path], names: Iterable[str]) -> dict[str, Watched]:
    """Return the files of the source and of the named paths as they are now, by absolute path.

    Of a folder with more than LOOKED files, only some are checked, evenly spread. The next launch compares all of them.
    """
    found = {}
    for path in dict.fromkeys(source):
        found[os.fspath(path.resolve())] = Watched(stat_of(path), _meaning(path), os.path.relpath(path))
    for name in names:
        top = Path(name).expanduser()
        files = _below(top) if top.is_dir() else [top]
        for path in files[:: -(-len(files) // LOOKED) or 1]:
            key = os.fspath(path.resolve())
            if key not in found:
                found[key] = Watched(stat_of(path), file_digest(path), os.fspath(path))
    return found


def changed(files: Mapping[str, Watched]) -> list[str]:
    """Return the files that have changed since plan time. A file is read only if its stat has changed.

    A file that does not exist on this machine is skipped.
    """
    found = []
    for name, before in files.items():
        with suppress(FileNotFoundError):
            path = Path(name)
            if stat_of(name) != before.stat and before.digest not in (file_digest(path), _meaning(path)):
                found.append(before.shown)
    return found


def refusal(names: Sequence[str]) -> str:
    """Return why no run starts once files have changed, and the next step."""
    return (
        f"{some(names, 3)} changed after this sweep was planned. Restore the old version, or train with the new one, "
        "either in another directory (--out) or all runs again (--retrain). If the program itself writes the file, put "
        "{dir} or {seed} into its name"
    )


def inputs_of(
    data: Sequence[str], version: str | None, words: Sequence[str], function: Callable[..., Any] | None
) -> dict[str, Json]:
    """Return the part of an experiment's identity that covers its files and values, or {} if there are none.

    An explicit `version` replaces the values: the user changes it when they change.
    """
    made: dict[str, Json] = {}
    files = files_of(data, words)
    if files:
        made["files"] = files
    if version is not None:
        made["data_version"] = version
    elif function is not None:
        values, unknown = values_of(function)
        if values:
            made["values"] = values
        if unknown:
            made["not_compared"] = unknown
    return made
