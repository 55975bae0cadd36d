"""What a worker is given and what it answers: plain data that travels between processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweep.plan import RunSpec
from sweep.store.parcel import Parcel
from sweep.store.record import Failure, Record
from sweep.target.inputs import Watched

Task = tuple[RunSpec, ...]  # one run, or a pack of lanes


class Cancelled(BaseException):
    """The user asked twice, or waited long enough: everything ends now."""


class Accident(Exception):
    """A part of a run was ended by a signal that need not be its own doing: the run is lost, and tried again."""


@dataclass(frozen=True)
class Interval:
    """How often an unfinished run is checkpointed: after so many epochs or seconds; 0 is never."""

    epochs: int = 0
    seconds: float = 60.0


@dataclass(frozen=True)
class Place:
    """What a worker needs besides its task: where to write, and how the launch wants it done."""

    path: str
    launch: str = ""
    interval: Interval = Interval()
    timeout: float | None = None
    folder: str = ""  # the launch's working folder, where functions are found
    own_folder: bool = False  # each run works in a folder of its own, in which the files of `folder` are found
    function: bytes | None = None  # a pickled function that no import can find, of a notebook
    collect: Any = None  # how a command's metrics are found
    gpus: float = 0.0  # of one run; the processes of one that has several find one another by a port of their own
    fill_memory: bool = False  # of deterministic mode: as the canary does, and earlier versions did
    watched: Mapping[str, Watched] = field(default_factory=dict)  # files as they were when this was planned
    look: bool = True  # for files below `folder` that runs write (see `sweep.written`)
    apart: frozenset[str] = frozenset()  # files below `folder` that others write, such as the output of the launch
    own_process: bool = False  # the process may be ended with a run that cannot be stopped otherwise
    forked: bool = False  # the process was made for this task alone (see `sweep.forked`)
    until: float = math.inf  # of such a process: when, by the monotonic clock, it is ended from outside


@dataclass(frozen=True)
class Outcome:
    """What the launch is told of one run; the record on disk is what counts."""

    key: str
    status: Literal["ok", "failed", "interrupted", "late", "unwritten", "unpacked", "lost"]
    metrics: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    poison: bool = True  # of a lost run: its own code may be why
    files: Mapping[str, Any] = field(default_factory=dict, repr=False)  # see `Record.files`
    looking: float = field(default=0.0, compare=False)  # seconds that it took to look for files that it wrote
    parcel: Parcel | None = field(default=None, repr=False)  # of a machine that does not share the directory


def outcome_of(record: Record, key: str) -> Outcome:
    """The outcome that a record on disk stands for."""
    return Outcome(
        key, record.status, dict(record.metrics), record.failure, record.seconds, tuple(record.notes),
        files=record.files,
    )  # fmt: skip
