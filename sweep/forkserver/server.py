"""The process that forks: it loads the modules for calls, and watches one call after the other until it ends."""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
import time
import traceback
import warnings
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import NoReturn

from sweep.forkserver import child
from sweep.forkserver.child import DUMP, prctl
from sweep.forkserver.messages import GRACE, LOADING, LOOK, Call, Ended

DUMPING = 0.3  # seconds to write the stacks of a call that has exceeded its time
_SET_CHILD_SUBREAPER = 36  # of prctl


def main() -> NoReturn:
    """Load modules, then fork for each call until the other end has closed."""
    link, preload, parent = Connection(int(sys.argv[1])), sys.argv[3:], os.getppid()
    try:
        for name in preload:
            module, _, function = name.partition(":")
            with suppress(ModuleNotFoundError):  # a module of another version
                loaded = importlib.import_module(module)
                if function:
                    getattr(loaded, function)()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(LOADING)
    sys.argv = sys.argv[:1]
    # Torch's finalizers would take a tenth of a second in `at_exit` of every call, and break torch while it is in use.
    for each in list(getattr(weakref.finalize, "_registry", ())):
        each.atexit = False
    gc.collect()
    gc.freeze()  # otherwise a fork would copy all of it at its first collection
    prctl(_SET_CHILD_SUBREAPER, 1)
    wakes, wake = os.pipe()
    for end in (wakes, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while True:
        if not link.poll(LOOK):
            if os.getppid() != parent:
                os._exit(0)
            continue
        try:
            call = link.recv()
            streams = [reduction.recv_handle(link) for _ in range(2 if call.words else 0)]
            link.send(_serve(call, streams, link, wakes))
        except (EOFError, OSError):
            os._exit(0)


def _serve(call: Call, streams: Sequence[int], link: Connection, wakes: int) -> Ended:
    """Fork for a call and wait for its end. Raises: EOFError if the calling process ends, after ending the call."""
    reader, writer = os.pipe()
    begun = time.monotonic()
    parent = os.getppid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # because of the threads of BLAS, which survive a fork
        pid = os.fork()
    if pid == 0:
        # A grandchild that holds these open would hide from others that this interpreter has ended.
        link.close()
        for ours in (reader, wakes):
            os.close(ours)
        if call.words:
            child.become(call, streams, writer)
        child.work(call, writer, begun)
    for theirs in (writer, *streams):
        os.close(theirs)
    os.set_blocking(reader, False)
    answer = bytearray()
    due: list[tuple[float, int]] = []  # signals to send, and when
    if call.seconds:
        over = begun + call.seconds
        due = [(over, DUMP), (over + DUMPING, signal.SIGTERM), (over + DUMPING + GRACE, signal.SIGKILL)]
    late, ended = False, None
    heard = [link.fileno(), wakes, reader]
    while ended is None:
        wait = min(LOOK, max(0.0, due[0][0] - time.monotonic())) if due else LOOK
        ready = select.select(heard, [], [], wait)[0]
        try:
            if os.getppid() != parent:
                raise EOFError
            if link.fileno() in ready:
                link.recv()  # STOP, or the end of the calling process
                now = time.monotonic()
                due = due or [(now, signal.SIGTERM), (now + GRACE, signal.SIGKILL)]
        except (EOFError, OSError):
            _leave_nothing(pid)
            raise EOFError from None
        if wakes in ready:
            os.read(wakes, 4096)
        if reader in ready and not _read(reader, answer):
            heard.remove(reader)  # it is about to end, or has become a program
        ended = _reaped(pid)
        if ended is None and due and time.monotonic() >= due[0][0]:
            late = True
            with suppress(ProcessLookupError, PermissionError):
                (os.killpg if call.words else os.kill)(pid, due.pop(0)[1])
    _read(reader, answer)
    os.close(reader)
    _leave_nothing(pid)
    status, memory = ended
    return Ended(os.waitstatus_to_exitcode(status), bytes(answer), late, memory)


def _read(reader: int, answer: bytearray) -> bool:
    """Read what is available. Return False at the end of the stream."""
    with suppress(BlockingIOError):
        while more := os.read(reader, 1 << 20):
            answer += more
        return False
    return True


def _reaped(pid: int) -> tuple[int, int] | None:
    """Return the status and peak memory of a call if it has ended. Also reap all other ended children."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.wait3(os.WNOHANG))[0]:
            if ended[0] == pid:
                found = ended[1], int(ended[2].ru_maxrss) * 1024
    return found


def _leave_nothing(pid: int) -> None:
    """End all processes that a call has left: its group, and its orphans in any group or session."""
    polite = time.monotonic() + 1.0  # Python's own tracker of semaphores has to clean up first
    give_up = polite + GRACE
    asked: set[int] = set()
    while (now := time.monotonic()) < give_up:
        _reaped(0)
        left = {*_children()}
        with suppress(OSError):
            os.killpg(pid, 0)
            left.add(-pid)
        if not left:
            return
        number = signal.SIGTERM if now < polite else signal.SIGKILL
        for each in left if number == signal.SIGKILL else left - asked:
            with suppress(OSError):
                os.kill(each, number)
        asked |= left
        time.sleep(0.01)


def _children() -> Iterable[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # a search through all processes takes long
    except ChildProcessError:
        return []
    import psutil  # imported only if needed, because this interpreter should start fast

    return [each.pid for each in psutil.Process().children()]
