"""Files below the launch folder that two runs shared.

A run is watched by the names, sizes and times of these files when it begins and when it has ended, so a file that
changed meanwhile may be its own or another's. Two runs shared a file that was written while both were under way,
unless its name shows that each of them has its own: by its seed, or by a date, a number of a process or the like, of
which there are as many as runs. A file that runs write one after the other is told apart: none is marked for it, but
one that reads such a file before it writes it reads what another seed has left.

Not looked at: source code, pictures, pages and logs (nothing of them returns into a number), run directories, virtual
environments, the stores of experiment trackers, and what version control, editors and test tools keep.
"""

from __future__ import annotations

import math
import os
import re
import stat
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.nested import flatten

if TYPE_CHECKING:
    from sweep.store import Member

MOST = 3_000  # entries of folders that are looked at
LARGEST = 1_000  # entries of one folder: larger ones hold data sets
SECONDS = 0.25  # for one look, on a slow file system
SHARE = 0.01  # of the time of runs that looking may take
FREE = 0.002  # seconds of looking that are not counted: a record takes longer to write
FEWEST = 100  # one run in this many is always watched
KEPT = 200  # names of written files that a record keeps

OTHERS = frozenset((
    "__pycache__", "node_modules", "site-packages", "dist-packages", "venv", "env", "wandb", "mlruns", "mlartifacts",
    ".git", ".hg", ".svn", ".tox", ".nox", ".eggs", ".idea", ".vscode", ".ipynb_checkpoints", ".pytest_cache",
    ".mypy_cache", ".ruff_cache", ".hypothesis", ".coverage", ".DS_Store", ".aim", ".dvc", ".neptune",
))  # fmt: skip
_SUFFIXES = frozenset(
    (
        ".py", ".pyc", ".pyi", ".ipynb", ".md", ".rst", ".tex", ".sh", ".toml", ".c", ".cc", ".cpp", ".cu", ".h", ".so",
        ".log", ".out", ".err", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".eps", ".mp4", ".html", ".lock",
        ".tmp", ".swp",
    )
)  # fmt: skip
NOT_HERE = ("sweep.json", "pyvenv.cfg")  # a folder with such a file is a run directory, or an environment

Version = tuple[int, int, int, int]  # size, time of the content, inode, time of the change, which no program sets


@dataclass
class Watch:
    """The files below a folder from now on. apart: real paths of files that others write, such as our own output."""

    folder: Path
    apart: Collection[str] = ()
    spent: float = 0.0  # seconds of a core that looking has taken
    _begin: _Look = field(init=False)

    def __post_init__(self) -> None:
        self._begin = self._seen()

    def _seen(self) -> _Look:
        begun = time.thread_time()
        found = _look(self.folder)
        self.spent += time.thread_time() - begun
        return found

    def evidence(self, host: str = "") -> dict[str, Any]:
        """Return what a record keeps: names with the times of change before and after; {} where none was written.

        host: named where its disk need not be that of other runs.
        """
        written = {
            name: [self._begin.since(name), version[3]]
            for name, version in self._seen().files.items()
            if self._begin.changed(name, version) and os.path.realpath(self.folder / name) not in self.apart
        }
        first = sorted(written, key=lambda name: (name.count("/"), name))
        found: dict[str, Any] = {}
        if first:
            below = f"{host}:{os.path.realpath(self.folder)}:{os.stat(self.folder).st_ino}"
            found |= {"written": {name: written[name] for name in first[:KEPT]}, "below": below}
        if len(first) > KEPT:
            found["more"] = len(first) - KEPT
        if self._begin.beyond:
            found["unwatched"] = self._begin.beyond
        return found


class Share:
    """Choose which runs of a process are watched, so that watching takes at most SHARE of their time.

    The first one always is: the first runs of all workers run side by side, and show what runs share.
    """

    def __init__(self) -> None:
        self._left_out = 0  # the next runs, which are not watched

    def due(self) -> bool:
        """Return whether the next run is watched."""
        self._left_out -= 1
        return self._left_out < 0

    def took(self, looking: float, seconds: float) -> None:
        """Record how long watching a run took."""
        if looking > FREE:
            self._left_out = math.ceil(min(looking / (SHARE * max(seconds, 1e-9)), FEWEST)) - 1


@dataclass
class _Look:
    files: dict[str, Version] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)  # all that were seen, each with its time of change
    read: set[str] = field(default_factory=set)  # those whose files are known
    beyond: str = ""  # the first that is too large, or beyond the limit

    def since(self, name: str) -> int:
        """Return since when a file is as it was seen: one that is not there, since what is above it last changed."""
        if name in self.files:
            return self.files[name][3]
        while name and name not in self.folders:
            name = name.rpartition("/")[0]
        return self.folders.get(name, 0)

    def changed(self, name: str, version: Version) -> bool:
        """Return whether a file was another one then, or surely not there: what is next above it was read."""
        if name in self.files:
            return self.files[name][:3] != version[:3]
        while name and name not in self.folders and name not in self.files:
            name = name.rpartition("/")[0]
            if name in self.read:
                return True
        return False


def _look(top: Path) -> _Look:
    found = _Look()
    todo, hidden = deque([""]), deque[str]()  # hidden folders come last: they take no place from the others
    left, until = MOST, time.monotonic() + SECONDS
    while todo or hidden:
        shown = bool(todo)
        folder = (todo or hidden).popleft()
        try:
            found.folders[folder] = os.stat(top / folder).st_ctime_ns
            with os.scandir(top / folder) as entries:
                listed = [*islice(entries, min(left, LARGEST) + 1)]
        except OSError:
            continue
        if any(entry.name in NOT_HERE for entry in listed):
            continue
        left -= len(listed)
        if left < 0 or len(listed) > LARGEST or time.monotonic() > until:
            if shown:
                found.beyond = found.beyond or folder or "."
            continue
        found.read.add(folder)
        for entry in listed:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name in OTHERS or entry.is_symlink():
                continue
            if entry.is_dir():
                (todo if shown and not entry.name.startswith(".") else hidden).append(name)
            elif os.path.splitext(name)[1].lower() not in _SUFFIXES:
                with suppress(OSError):
                    at = entry.stat()
                    if stat.S_ISREG(at.st_mode):
                        found.files[name] = at.st_size, at.st_mtime_ns, at.st_ino, at.st_ctime_ns
    return found


def outputs(folder: Path) -> frozenset[str]:
    """Return the files below a folder that processes of this session write already: no run does, before the first.

    Such are our own output, and what `| tee` writes.
    """
    import psutil  # not where a directory is only read

    ours, top = os.getsid(0), os.path.realpath(folder) + os.sep
    found: set[str] = set()
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):  # it may end while it is looked at
            if os.getsid(pid) == ours:
                found |= {each.path for each in psutil.Process(pid).open_files() if each.path.startswith(top)}
    return frozenset(found)


@dataclass(frozen=True)
class Trace:
    """One run: its key, its seed, the words of its parameters, whether it is ok, its `evidence`."""

    key: str
    seed: int
    words: frozenset[str]
    ok: bool
    files: Mapping[str, Any]

    @classmethod
    def of(cls, key: str, spec: Mapping[str, Any], ok: bool, files: Mapping[str, Any]) -> Trace:
        """Return the trace of a run by its spec as a record keeps it."""
        return cls(
            key,
            int(spec["seed"]),
            frozenset(word for _, word in flatten(spec["params"]) if isinstance(word, str)),
            ok,
            files,
        )

    def span(self, name: str) -> tuple[int, int]:
        """Return when a file had changed last before the run began, and before it ended."""
        before, after = self.files["written"][name]
        return int(before), int(after)


@dataclass(frozen=True)
class Shared:
    """A file below the launch folder, and the runs that wrote it while others of them were under way, or in turn."""

    path: str
    runs: tuple[str, ...]
    in_turn: bool = False


def shared_by(members: Iterable[Member]) -> tuple[Shared, ...]:
    """Return the files that several of the runs of a directory wrote; see `shared`."""
    ended = ((m, m.record) for m in members if m.record is not None and m.record.files)
    return shared(Trace.of(m.key, record.spec, m.status == "ok", record.files) for m, record in ended)


def shared(traces: Iterable[Trace]) -> tuple[Shared, ...]:
    """Return the files that several runs wrote; those that any wrote side by side first."""
    places: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        if trace.files.get("written"):
            places[str(trace.files.get("below"))].append(trace)
    found = [each for its in places.values() for each in _in_one_place(its)]
    return tuple(sorted(found, key=lambda each: (each.in_turn, each.path)))


def _in_one_place(traces: Sequence[Trace]) -> Iterator[Shared]:
    writers: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        for name in trace.files["written"]:
            writers[name].append(trace)
    names = _Names(writers)
    for name, its in writers.items():
        if len(its) < 2:
            continue
        groups = list(_together(name, its))
        marked = [each for group in groups if len(group) > 1 and not names.own(name, group) for each in group]
        if marked:
            yield Shared(name, tuple(sorted(each.key for each in marked)))
        elif all(len(group) == 1 for group in groups):
            yield Shared(name, tuple(sorted(each.key for each in its)), in_turn=True)


def _together(name: str, traces: Sequence[Trace]) -> Iterator[list[Trace]]:
    """Yield the runs in groups, in each of which a file was written while one and the next were under way.

    By the order of the file's own times of change: a run that began with what another had left last came after it.
    """
    group: list[Trace] = []
    latest = 0
    for trace in sorted(traces, key=lambda each: each.span(name)):
        before, after = trace.span(name)
        if group and before >= latest:
            yield group
            group = []
        group.append(trace)
        latest = max(latest, after) if len(group) > 1 else after
    yield group


_COUNTED = re.compile(r"(?i)(epoch|ep|step|iter(ation)?|it|batch|checkpoint|ckpt|best|loss|acc(uracy)?)[-_=.]?\d[\d.]*")
_UNIQUE = re.compile(
    r"(?i)\d{6,}|\d\d[-_.:]\d\d[-_.:]\d\d|(?=[a-z]*\d)(?=\d*[a-z])[0-9a-z]{8,}|^(version|run|exp|trial)[-_]?\d*$"
)


class _Names:
    """The names of all files that runs wrote: whether they are such that each run has one of its own."""

    def __init__(self, writers: Mapping[str, Sequence[Trace]]) -> None:
        self._writers = writers
        traces = {trace.key: trace for its in writers.values() for trace in its}.values()
        self._seeds = {trace.seed for trace in traces}
        self._words = {word for trace in traces for word in trace.words}
        self._alike: dict[str, list[str]] = defaultdict(list)
        for name in writers:
            self._alike[self._shape(name)].append(name)

    def _shape(self, name: str) -> str:
        """Return a name with all numbers, unique parts and words of parameters left out."""
        parts = ("*" if _is_unique(part) else part for part in name.split("/"))
        plain = re.sub(r"[A-Za-z]+", lambda word: "%" if word[0] in self._words else word[0], "/".join(parts))
        return re.sub(r"\d+", "#", plain)

    def own(self, name: str, group: Sequence[Trace]) -> bool:
        """Return whether the runs of a group have each a file of their own that is named as this one is."""
        names = self._alike[self._shape(name)]
        alike, parts = [each.split("/") for each in names], name.split("/")
        finished = [trace.seed for trace in group if trace.ok]
        writers = {trace.key for each in names for trace in self._writers[each] if trace.ok}
        for at, part in enumerate(parts):
            folders = {tuple(each[: at + 1]) for each in alike}
            if _is_unique(part) and len(folders) >= len(writers):
                return True
            for place in range(len(_numbers(part))):
                seeds = [numbers[place] for each in folders if len(numbers := _numbers(each[at])) > place]
                if {*seeds} <= self._seeds and all(seeds.count(seed) >= finished.count(seed) for seed in finished):
                    return True
        return False


def _is_unique(part: str) -> bool:
    return _UNIQUE.search(_COUNTED.sub("", part)) is not None


def _numbers(part: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", part)]
