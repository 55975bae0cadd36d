"""The messages between an asking process and the interpreter that forks."""

from __future__ import annotations

import signal
from dataclasses import dataclass

GRACE = 5.0  # seconds from SIGTERM to SIGKILL
LOOK = 1.0  # seconds between two looks at whether the other end is still there
LOADING = 3  # exit code of an interpreter that could not load what it was to load
MARK = "SWEEP_RUN"  # the variable by which what a fork server has started is known when it is there no more
STOP = "stop"  # all that is ever said to the interpreter while a call is under way


@dataclass(frozen=True)
class Call:
    """A function to call in a process of its own, or a program for it to become, and what it is to have."""

    function: str = ""  # module:name
    arguments: bytes = b""  # a pickled tuple, opened in that process only
    log: str = ""  # a file to which stdout and stderr are added
    words: tuple[str, ...] = ()  # of a program; the descriptors of its stdout and stderr follow the call
    seconds: float | None = None  # its time
    folder: str = ""
    path: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Ended:
    """The end of a call. status: an exit code, or a signal's number below zero."""

    status: int
    answer: bytes = b""  # pickled; nothing where it was ended before it had one
    late: bool = False  # its time was over
    memory: int = 0  # bytes at its peak


def named(code: int) -> str:
    """Return the signal that an exit code below zero stands for, by name."""
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
