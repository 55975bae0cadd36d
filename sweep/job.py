"""A job: what a worker needs to train runs, and what it answers. Plain data that travels between processes."""

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
    """The request of a launch to its workers: where runs write, what they are given, how many train at once."""

    path: str = ""  # the run directory
    launch: str = ""  # the nonce of the launch
    folder: str = ""  # the launch's working folder, where functions are found
    own_folder: bool = False  # each run works in a folder of its own, in which the files of `folder` are found
    function: bytes | None = None  # a pickled function that no import can find, of a notebook
    collect: Any = None  # how a command's metrics are found
    every: tuple[int, float] = (0, 60.0)  # epochs and seconds after which a checkpoint is written; 0: never
    timeout: float | None = None
    at_once: int | None = None  # bundles; None: as many as fit
    cpus: float = 1  # of one bundle
    gpus: float = 0  # of one bundle; the processes of a run that has several find one another by a port of their own
    fill_memory: bool = False  # of deterministic mode: as the canary does, and earlier versions did
    watched: Mapping[str, Watched] = field(default_factory=dict)  # files as they were when this was planned
    look: bool = True  # for files below `folder` that runs write (see `sweep.shared_files`)
    apart: frozenset[str] = frozenset()  # files below `folder` that others write, such as the output of the launch
    own_process: bool = False  # the process may be ended with a run that cannot be stopped otherwise
    forked: bool = False  # the process was made for this bundle alone (see `sweep.worker.forked`)
    until: float = math.inf  # of such a process: when, by the monotonic clock, it is ended from outside


class Cancelled(BaseException):
    """The user asked twice, or waited long enough: everything ends now."""


class Interrupted(BaseException):
    """A stop was asked for and the run has reached a point to stop at; not for user code to catch."""


class Unrecorded(Exception):
    """A reason why runs have no record, if the run directory cannot tell it. Plain arguments: it is pickled."""


class CannotWrite(Unrecorded):
    """The disk, not the training code, is why a run has no result: it counts as neither ok nor failed."""


class Changed(Unrecorded):
    """The files of the plan are not what they were: nothing is trained with others."""


class OneByOne(Unrecorded):
    """A bundle ended in an error that may be one lane's: its runs are to be trained one by one."""


class Accident(Unrecorded):
    """A run's process was ended from outside: the run is lost, and tried again. poison: the run may be the cause."""

    def __init__(self, cause: str, poison: bool = True) -> None:
        super().__init__(cause, poison)
        self.cause, self.poison = cause, poison

    def __str__(self) -> str:
        return self.cause


# Of a bundle that ended: nothing, where the run directory tells all. Files are of a machine that does not share it.
Answer = list[Parcel | Unrecorded]
