"""The job of a worker that trains runs, and its answer. Plain data that is sent between processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.plan import RunSpec
from sweep.store.parcel import Parcel
from sweep.target.inputs import Watched

Bundle = tuple[RunSpec, ...]  # one run, or the lanes that share a GPU


@dataclass(frozen=True)
class Job:
    """The request of a launch to its workers."""

    path: str = ""  # the run directory
    launch: str = ""  # the nonce of the launch
    folder: str = ""  # the working folder of the launch, in which functions are found
    own_folder: bool = False  # each run works in a folder of its own that shows the files of `folder`
    function: bytes | None = None  # pickled, if it cannot be imported, as in a notebook
    collect: Any = None  # how a command's metrics are found
    every: tuple[int, float] = (0, 60.0)  # epochs and seconds after which a checkpoint is written; 0: never
    timeout: float | None = None
    at_once: int | None = None  # bundles; None: as many as fit
    cpus: float = 1  # per bundle
    gpus: float = 0  # per bundle; the processes of a run with several GPUs connect through a reserved port
    fill_memory: bool = False  # in deterministic mode, as for the canary and in earlier versions
    watched: Mapping[str, Watched] = field(default_factory=dict)  # the state of files at planning
    look: bool = True  # watch files below `folder` that runs write (see `sweep.shared_files`)
    apart: frozenset[str] = frozenset()  # files below `folder` that runs do not write, such as the output of the launch
    own_process: bool = False  # the process may be ended to stop a run
    forked: bool = False  # the process was forked for this bundle only (see `sweep.worker.forked`)
    until: float = math.inf  # the monotonic time at which such a process is ended from outside


class Cancelled(BaseException):
    """The user interrupted twice, or a time limit has passed. Everything ends now."""


class Interrupted(BaseException):
    """A stop was requested and the run has reached a point where it can stop. User code must not catch it."""


class Unrecorded(Exception):
    """A reason why runs have no record that is not in the run directory. Pickled, so its arguments are plain."""


class CannotWrite(Unrecorded):
    """A run has no result because of the disk, not the training code. It counts as neither ok nor failed."""


class Changed(Unrecorded):
    """Files have changed since they were planned, so nothing more is trained."""


class OneByOne(Unrecorded):
    """A bundle ended in an error that may be due to one run: its runs are trained again one by one."""


class Accident(Unrecorded):
    """The process of a run was ended from outside. The run is tried again. poison: it may be the cause itself."""

    def __init__(self, cause: str, poison: bool = True) -> None:
        super().__init__(cause, poison)
        self.cause, self.poison = cause, poison

    def __str__(self) -> str:
        return self.cause


# What to do about too little memory, in messages.
FEWER = "try fewer runs at once with --jobs"
SMALLER = "try a smaller batch, or fewer runs at once with --jobs"

# For a bundle that has ended; empty if all is in the run directory. Parcels come from machines that do not share it.
Answer = list[Parcel | Unrecorded]
