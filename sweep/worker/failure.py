"""The reason why a run has no result: a failure of its code, of the disk, or an accident of the machine."""

from __future__ import annotations

import errno
import os
import re
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError

from sweep.determinism import kernels
from sweep.errors import MetricError, SweepError
from sweep.job import SMALLER, Accident
from sweep.store import Failure, record
from sweep.worker.command import FROM_OUTSIDE

Metrics = dict[str, float]
_NOT_THE_USERS = (os.path.dirname(os.path.dirname(__file__)), sysconfig.get_path("stdlib"), "<frozen")


class TimeLimit(BaseException):
    """The time of the run is over. The alarm raises it in the main thread."""


@dataclass(frozen=True)
class Diverged(Failure):
    """A failure with the metrics that are not finite."""

    metrics: Metrics = field(default_factory=dict)


def diverged(metrics: Metrics) -> Diverged | None:
    """Return the failure of a run with a metric that is not finite, with all its metrics, or None if all are finite."""
    found = record.diverged(metrics)
    return None if found is None else Diverged(found.kind, found.message, metrics=metrics)


def failure_of(error: BaseException, phase: str) -> Failure:
    """Return the failure for an exception of the user's code."""
    name, text = type(error).__name__, text_of(error)
    where = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_NOT_THE_USERS) and "site-packages" not in file:
            where = f"{os.path.basename(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, TimeLimit):
        return Failure("timeout", text, phase, where=where)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return Failure("out of memory", f"{text}; {SMALLER}", phase, name, where)
    if kernels.missing(error):
        return Failure("nondeterministic", text, phase, name, where)
    if name == "BdbQuit" or (isinstance(error, EOFError) and "reading a line" in text):
        text = f"{text}; a run has no keyboard to read from"
    if isinstance(error, SweepError):
        said = "; ".join(map(str.strip, text.splitlines()))  # the hint stands on a line of its own
        return Failure("returned" if isinstance(error, MetricError) else "raised", said, phase, "", where)
    return Failure("raised", text, phase, name, where)


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE)


def of_the_disk(error: BaseException, folder: Path) -> str:
    """Return the reason if the disk, and not the code that raised it, caused an exception, otherwise ""."""
    if isinstance(error, OSError) and (error.errno in _DISK or not folder.is_dir()):
        return text_of(error)
    if isinstance(error, RuntimeError) and "PytorchStreamWriter failed" in (text := text_of(error)):
        return (
            f"torch could not write a file ({text.splitlines()[0][:200]})"  # torch hides the reason given by the system
        )
    return ""


_CHILDREN_ENDED = ("BrokenProcessPool", "TerminatedWorkerError")  # of concurrent.futures and of joblib
_LOADER_ENDED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly$)")


def of_an_accident(error: BaseException) -> str:
    """Return the reason if an exception may have a cause outside the code that raised it, otherwise "".

    A system short of memory, or a person, may have ended a program or a child process of the training code.
    """
    why = ""
    each: BaseException | None = error
    while each is not None:
        ended = isinstance(each, RuntimeError) and _LOADER_ENDED.match(text_of(each)) is not None
        ended = ended or (isinstance(each, CalledProcessError) and -each.returncode in FROM_OUTSIDE)
        if isinstance(each, Accident) or ended or type(each).__name__ in _CHILDREN_ENDED:
            why = text_of(each).splitlines()[0][:300]  # the first cause names the signal
        each = each.__cause__ or each.__context__
    return why


def text_of(error: BaseException) -> str:
    try:
        # Escape what is not Unicode, such as bytes in a file name: the text goes to a screen and a file.
        return str(error).encode(errors="backslashreplace").decode() or "no message"
    except Exception:  # an error in __str__ must not hide that the run failed
        return "its message cannot be read"
