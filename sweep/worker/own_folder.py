"""A working folder for one run that shows the files of the launch folder under the same names.

Folders are created, so that files of the run stay in its own folder. Small files are copied. A large file is a link.
A folder is also a link if it is hidden, an environment, the folder of an experiment tracker, or too large. Files that
are written through a link are shared, and are watched like all others below the launch folder (see
`sweep.shared_files`). Run directories, `.git` and compiled code are left out. After the run, everything that it has not
changed is removed.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

from sweep.shared_files import LARGEST, MOST, NOT_HERE, OTHERS
from sweep.textfile import stat_of

COPIED = 1 << 20  # bytes of the largest file that is copied
TOGETHER = 64 << 20  # the most bytes that are copied for one run
LEFT_OUT = (".git", "__pycache__")


@contextmanager
def lent(launch: Path, own: Path, apart: Collection[str] = ()) -> Iterator[None]:
    """Show the files below `launch` in `own` while the block runs. Existing files there are not changed.

    apart: names directly below `launch` that are left out.
    """
    with ExitStack() as undo:
        _fill(launch, own, apart, undo)
        yield


def _fill(launch: Path, own: Path, apart: Collection[str], undo: ExitStack) -> None:
    left, room = MOST, TOGETHER
    todo = deque([Path()])
    while todo:
        folder = todo.popleft()
        with os.scandir(launch / folder) as listed:
            entries = sorted((e for e in listed if e.name not in LEFT_OUT), key=lambda entry: entry.name)
        left -= len(entries)
        for entry in entries:
            name = folder / entry.name
            if folder == Path() and entry.name in apart:
                continue
            if entry.is_dir(follow_symlinks=False):
                if (Path(entry.path) / "sweep.json").exists():
                    continue
                if left < 0 or _whole(entry):
                    _link(launch / name, own / name, undo)
                else:
                    _make(own / name, undo)
                    todo.append(name)
            elif entry.is_file(follow_symlinks=False) and (size := entry.stat().st_size) <= min(COPIED, room):
                _copy(launch / name, own / name, undo)
                room -= size
            elif entry.is_file() or entry.is_dir():
                _link(launch / name, own / name, undo)


def _make(folder: Path, undo: ExitStack) -> None:
    with suppress(FileExistsError):
        folder.mkdir()
        undo.callback(
            _take_away, folder.rmdir
        )  # which fails, as it should, for a folder that is not empty or was replaced


def _copy(source: Path, there: Path, undo: ExitStack) -> None:
    if not os.path.lexists(there):
        shutil.copy2(source, there)
    elif there.is_symlink() or not there.is_file() or not filecmp.cmp(source, there, shallow=False):
        return  # a file of the run, from an earlier attempt
    stat = stat_of(there, follow=False)
    undo.callback(_take_away, there.unlink, lambda: stat_of(there, follow=False) == stat)


def _link(source: Path, there: Path, undo: ExitStack) -> None:
    target = os.path.realpath(source)
    if not os.path.lexists(there):
        there.symlink_to(target)
    elif not there.is_symlink() or os.readlink(there) != target:
        return
    undo.callback(_take_away, there.unlink, lambda: os.readlink(there) == target)


def _take_away(remove: Callable[[], None], unchanged: Callable[[], bool] = lambda: True) -> None:
    """Remove a file or folder that the run has not changed."""
    with suppress(OSError):
        if unchanged():
            remove()


def _whole(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is shown as one link instead of entry by entry."""
    if entry.name.startswith(".") or entry.name in OTHERS:
        return True
    with os.scandir(entry.path) as inside:
        names = [each.name for each in islice(inside, LARGEST + 1)]
    return len(names) > LARGEST or any(name in NOT_HERE for name in names)
