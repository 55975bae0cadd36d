"""A working folder of a run's own, in which what the launch folder holds is found under the same names.

Folders are made anew, so what a run writes stays its own. Small files are copied; a large one is a link, and so is a
folder that is hidden, an environment, an experiment tracker's, or holds too much: what is written through a link is
shared, and is looked for as anything else below the launch folder is (see `sweep.written`). Run directories, `.git`
and compiled code are left out. When the run has ended, what it has not changed is taken away.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from sweep.written import LARGEST, MOST, NOT_HERE, OTHERS

COPIED = 1 << 20  # bytes of a file up to which it is copied
TOGETHER = 64 << 20  # bytes that are copied for one run
LEFT_OUT = (".git", "__pycache__")


@contextmanager
def lent(launch: Path, own: Path, apart: Collection[str] = ()) -> Iterator[None]:
    """Show what is below `launch` in `own` meanwhile; nothing that is there already is touched.

    apart: names directly below that are left out.
    """
    found = _Lent(launch, own)
    found.fill(apart)
    try:
        yield
    finally:
        found.clear()


class _Lent:
    """What was put into a folder, each with what tells later whether the run has changed it."""

    def __init__(self, launch: Path, own: Path) -> None:
        self.launch, self.own = launch, own
        self._copies: dict[str, tuple[int, int, int]] = {}
        self._links: dict[str, str] = {}
        self._folders: list[str] = []

    def fill(self, apart: Collection[str]) -> None:
        left, room = MOST, TOGETHER
        todo = deque([""])
        while todo:
            folder = todo.popleft()
            with os.scandir(self.launch / folder) as listed:
                entries = sorted((e for e in listed if e.name not in LEFT_OUT), key=lambda entry: entry.name)
            left -= len(entries)
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if not folder and entry.name in apart:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if (Path(entry.path) / "sweep.json").exists():
                        continue
                    if left < 0 or _whole(entry):
                        self._link(name)
                    else:
                        self._folder(name)
                        todo.append(name)
                elif entry.is_file(follow_symlinks=False) and (size := entry.stat().st_size) <= min(COPIED, room):
                    self._copy(name)
                    room -= size
                elif entry.is_file() or entry.is_dir():
                    self._link(name)

    def _folder(self, name: str) -> None:
        with suppress(FileExistsError):
            (self.own / name).mkdir()
            self._folders.append(name)

    def _copy(self, name: str) -> None:
        there = self.own / name
        if not os.path.lexists(there):
            shutil.copy2(self.launch / name, there)
        elif there.is_symlink() or not there.is_file() or not filecmp.cmp(self.launch / name, there, shallow=False):
            return  # the run's own, of an earlier attempt
        self._copies[name] = _stamp(there)

    def _link(self, name: str) -> None:
        there, target = self.own / name, os.path.realpath(self.launch / name)
        if not os.path.lexists(there):
            there.symlink_to(target)
        elif not there.is_symlink() or os.readlink(there) != target:
            return
        self._links[name] = target

    def clear(self) -> None:
        """Take away what the run has not changed."""
        for name, stamp in self._copies.items():
            with suppress(OSError):
                if _stamp(self.own / name) == stamp:
                    (self.own / name).unlink()
        for name, target in self._links.items():
            with suppress(OSError):
                if os.readlink(self.own / name) == target:
                    (self.own / name).unlink()
        for name in reversed(self._folders):
            with suppress(OSError):  # it holds something of the run's
                (self.own / name).rmdir()


def _stamp(path: Path) -> tuple[int, int, int]:
    at = os.lstat(path)
    return at.st_size, at.st_mtime_ns, at.st_ino


def _whole(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is shown as one link rather than entry by entry."""
    if entry.name.startswith(".") or entry.name in OTHERS:
        return True
    with os.scandir(entry.path) as inside:
        names = [each.name for each in islice(inside, LARGEST + 1)]
    return len(names) > LARGEST or any(name in NOT_HERE for name in names)
