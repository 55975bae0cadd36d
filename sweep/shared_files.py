"""Files below the launch folder that several runs wrote.

The names, sizes and times of these files are compared before and after each run. A file that changed may have been
written by this run or by another one. Two runs shared a file if it was written while both were running, unless its
name shows that each run has its own: it holds the seed, or a date, a process ID or the like, and there are as many
of these names as runs. Files that runs wrote one after another are reported separately and mark no run, but a run
that reads such a file before writing it reads the output of another seed.

Ignored: source code, pictures, pages and logs (they do not affect numbers), run directories, virtual environments,
the stores of experiment trackers, and the files of version control, editors and test tools.
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

MOST = 3_000  # folder entries that one look reads
LARGEST = 1_000  # entries of one folder; a larger folder holds a data set
SECONDS = 0.25  # limit for one look, on a slow file system
SHARE = 0.01  # largest share of the run time that looking may take
FREE = 0.002  # seconds of looking that do not count; writing a record takes longer
FEWEST = 100  # at least one run in this many is watched
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
NOT_HERE = ("sweep.json", "pyvenv.cfg")  # a folder with such a file is a run directory or a virtual environment

Version = tuple[int, int, int, int]  # size, mtime, inode, ctime (which no program can set)


@dataclass
class Watch:
    """A watch on the files below a folder. apart: real paths of files to ignore, such as our own output."""

    folder: Path
    apart: Collection[str] = ()
    spent: float = 0.0  # CPU seconds that looking has taken
    _begin: _Look = field(init=False)

    def __post_init__(self) -> None:
        self._begin = self._seen()

    def _seen(self) -> _Look:
        begun = time.thread_time()
        found = _look(self.folder)
        self.spent += time.thread_time() - begun
        return found

    def evidence(self, host: str = "") -> dict[str, Any]:
        """Return data for the record: written files with their times of change before and after; {} if there are none.

        host: given if its disk may differ from that of other runs.
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

    The first run is always watched: the first runs of all workers run side by side, and show which files are shared.
    """

    def __init__(self) -> None:
        self._left_out = 0  # number of coming runs that are not watched

    def due(self) -> bool:
        """Return whether to watch the next run."""
        self._left_out -= 1
        return self._left_out < 0

    def took(self, looking: float, seconds: float) -> None:
        """Record how long watching a run took."""
        if looking > FREE:
            self._left_out = math.ceil(min(looking / (SHARE * max(seconds, 1e-9)), FEWEST)) - 1


@dataclass
class _Look:
    files: dict[str, Version] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)  # every folder seen, with its time of change
    read: set[str] = field(default_factory=set)  # folders whose files are known
    beyond: str = ""  # the first folder that is too large, or beyond the limit

    def since(self, name: str) -> int:
        """Return when a file last changed; for an absent file, when the nearest known folder above it did."""
        if name in self.files:
            return self.files[name][3]
        while name and name not in self.folders:
            name = name.rpartition("/")[0]
        return self.folders.get(name, 0)

    def changed(self, name: str, version: Version) -> bool:
        """Return whether a file was different in this look, or certainly absent: the folder above it was read."""
        if name in self.files:
            return self.files[name][:3] != version[:3]
        while name and name not in self.folders and name not in self.files:
            name = name.rpartition("/")[0]
            if name in self.read:
                return True
        return False


def _look(top: Path) -> _Look:
    found = _Look()
    todo, hidden = deque([""]), deque[str]()  # hidden folders come last, to leave room for the others
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
    """Return the files below a folder that processes of this session have open before the first run starts.

    Examples are our own output and the file that `| tee` writes.
    """
    import psutil  # not loaded when a directory is only read

    ours, top = os.getsid(0), os.path.realpath(folder) + os.sep
    found: set[str] = set()
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):  # a process may end meanwhile
            if os.getsid(pid) == ours:
                found |= {each.path for each in psutil.Process(pid).open_files() if each.path.startswith(top)}
    return frozenset(found)


@dataclass(frozen=True)
class Trace:
    """One run: its key, its seed, the words in its parameters, whether it is ok, and its `evidence`."""

    key: str
    seed: int
    words: frozenset[str]
    ok: bool
    files: Mapping[str, Any]

    @classmethod
    def of(cls, key: str, spec: Mapping[str, Any], ok: bool, files: Mapping[str, Any]) -> Trace:
        """Return the trace of a run from the spec in its record."""
        return cls(
            key,
            int(spec["seed"]),
            frozenset(word for _, word in flatten(spec["params"]) if isinstance(word, str)),
            ok,
            files,
        )

    def span(self, name: str) -> tuple[int, int]:
        """Return when a file last changed before the run began, and before it ended."""
        before, after = self.files["written"][name]
        return int(before), int(after)


@dataclass(frozen=True)
class Shared:
    """A file below the launch folder, and the runs that wrote it side by side or in turn."""

    path: str
    runs: tuple[str, ...]
    in_turn: bool = False


def shared_by(members: Iterable[Member]) -> tuple[Shared, ...]:
    """Return the files that several runs of a directory wrote; see `shared`."""
    ended = ((m, m.record) for m in members if m.record is not None and m.record.files)
    return shared(Trace.of(m.key, record.spec, m.status == "ok", record.files) for m, record in ended)


def shared(traces: Iterable[Trace]) -> tuple[Shared, ...]:
    """Return the files that several runs wrote; those written side by side come first."""
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
    """Yield groups of runs; within a group, a file was written while one run and the next were both running.

    The times of change of the file order the runs: a run that began with the file as another left it came later.
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
    """The names of all files that runs wrote, to decide whether each run has its own file."""

    def __init__(self, writers: Mapping[str, Sequence[Trace]]) -> None:
        self._writers = writers
        traces = {trace.key: trace for its in writers.values() for trace in its}.values()
        self._seeds = {trace.seed for trace in traces}
        self._words = {word for trace in traces for word in trace.words}
        self._alike: dict[str, list[str]] = defaultdict(list)
        for name in writers:
            self._alike[self._shape(name)].append(name)

    def _shape(self, name: str) -> str:
        """Return a name with numbers, unique parts and words of parameters replaced by placeholders."""
        parts = ("*" if _is_unique(part) else part for part in name.split("/"))
        plain = re.sub(r"[A-Za-z]+", lambda word: "%" if word[0] in self._words else word[0], "/".join(parts))
        return re.sub(r"\d+", "#", plain)

    def own(self, name: str, group: Sequence[Trace]) -> bool:
        """Return whether each run of a group has its own file with a name like this one."""
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
