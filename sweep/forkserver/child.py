"""The forked process: it becomes a program, or calls a function as a new interpreter would."""

from __future__ import annotations

import atexit
import concurrent.futures.thread
import ctypes
import gc
import importlib
import io
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from sweep.errors import SweepError
from sweep.forkserver.messages import MARK, Call

# The signal for a dump of all stacks. No library is known to use it.
DUMP = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else 0
_SET_PDEATHSIG = 1  # of prctl


def prctl(option: int, value: int) -> None:
    """Call prctl of Linux, which Python lacks. Do nothing on other systems."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def become(call: Call, streams: Sequence[int], writer: int) -> NoReturn:
    """Become the program of a call. writer: a pipe for the reason if that fails."""
    try:
        _leave_the_forkserver(call)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and the program would inherit that
            signal.signal(number, signal.SIG_DFL)
        for fd, stream in enumerate(streams, 1):
            os.dup2(stream, fd)
        os.execvpe(call.words[0], call.words, {**dict(call.environment), MARK: os.environ[MARK]})
    except (OSError, ValueError) as error:
        os.write(writer, pickle.dumps(getattr(error, "strerror", None) or str(error)))
    os._exit(127)


def work(call: Call, writer: int, begun: float) -> NoReturn:
    """Call the function of a call and end. writer: a pipe for its answer."""
    code = 1
    try:
        _leave_the_forkserver(call)
        _begin(call)
        module, _, name = call.function.partition(":")
        answer = getattr(importlib.import_module(module), name)(*pickle.loads(call.arguments), begun)
        with open(writer, "wb") as stream:
            stream.write(pickle.dumps(answer))
        code = 0
    except BaseException:
        with suppress(Exception):
            traceback.print_exc()
    end(code)


def _leave_the_forkserver(call: Call) -> None:
    """Start a session in the folder of the call, without handlers, that ends with the fork server."""
    forkserver = os.getppid()
    prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != forkserver:
        os._exit(1)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError):
        os.chdir(call.folder)


def _begin(call: Call) -> None:
    """Make this process like a new interpreter in the environment of the calling process."""
    import faulthandler

    from sweep.store import atomic

    with atomic.Appender(Path(call.log)) as log:
        os.dup2(log.fd, 1)
        os.dup2(log.fd, 2)
    # Line by line, so that output of Python, of children and of C code keeps its order.
    sys.stdout = sys.__stdout__ = _text(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2)  # type: ignore[misc]
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.breakpointhook = _no_terminal
    faulthandler.enable(2)
    faulthandler.register(DUMP, 2, all_threads=True)
    if dict(os.environ) != (wanted := {**dict(call.environment), MARK: os.environ[MARK]}):
        os.environ.clear()
        os.environ.update(wanted)
    sys.path[:] = call.path
    importlib.invalidate_caches()


def _text(fd: int) -> io.TextIOWrapper:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _no_terminal(*arguments: Any, **named: Any) -> Any:
    if os.environ.get("PYTHONBREAKPOINT"):  # it may name a debugger without a terminal, or none
        return sys.__breakpointhook__(*arguments, **named)
    raise SweepError(
        "breakpoint() does not work here, because a run has no keyboard",
        hint="remove it; to debug, call the function from your own script",
    )


@contextmanager
def alone() -> Iterator[None]:
    """End processes that the block's code has forked when they leave the block.

    Otherwise a child that ends by `sys.exit` or an error would continue as if it were the run.
    """
    here = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() == here:
            raise
        code = 1
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else 1 if error.code else 0
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        else:
            traceback.print_exc()
        end(code & 0xFF)
    if os.getpid() != here:
        end(0)


def at_exit() -> None:
    """Run the exit handlers that the user's code has registered, and flush all buffers."""
    # Private, but the only way: without it, a run that ends in `_exit` would lose buffered output. The exit handler of
    # multiprocessing, which waits for children and ends those of a pool that was not closed, would not run either.
    for each in reversed(getattr(threading, "_threading_atexits", ())):
        if getattr(each, "func", None) is not getattr(concurrent.futures.thread, "_python_exit", None):  # also ours
            with suppress(Exception, SystemExit):
                each()
    with suppress(Exception, SystemExit):
        getattr(atexit, "_run_exitfuncs", lambda: None)()
    made = gc.get_objects()  # since the fork
    for kind in (io.TextIOWrapper, io.BufferedWriter):
        for each in [each for each in made if type(each) is kind]:
            with suppress(Exception):
                each.flush()


def end(code: int) -> NoReturn:
    """End this process at once. Only stdout and stderr are flushed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
