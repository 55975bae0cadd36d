"""The messages between a calling process and the interpreter that forks."""

from __future__ import annotations

import signal
from dataclasses import dataclass

GRACE = 5.0  # seconds from SIGTERM to SIGKILL
LOOK = 1.0  # seconds between two checks that the other end is alive
LOADING = 3  # exit code of an interpreter that could not load its modules
MARK = "SWEEP_RUN"  # the variable that marks the processes of a fork server, in case it is killed
STOP = "stop"  # the only message to the interpreter while a call runs


@dataclass(frozen=True)
class Call:
    """A function to call in a process of its own, or a program to start there, with its environment."""

    function: str = ""  # module:name
    arguments: bytes = b""  # a pickled tuple, loaded only in that process
    log: str = ""  # a file to which stdout and stderr are added
    words: tuple[str, ...] = ()  # of a program; the descriptors of its stdout and stderr follow the call
    seconds: float | None = None  # its time limit
    folder: str = ""
    path: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Ended:
    """The end of a call. status: an exit code, or a signal's number below zero."""

    status: int
    answer: bytes = b""  # pickled; empty if it ended without one
    late: bool = False  # it exceeded its time limit
    memory: int = 0  # bytes at its peak


def named(code: int) -> str:
    """Return the name of the signal for an exit code below zero, otherwise "exit code N"."""
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
