"""A nursery: an interpreter that has loaded everything and run nothing, and forks once for every call.

Each call starts from the same process state, whoever called before: no module of the user, no thread, no CUDA, no
handler, no counter. It ends in `_exit`, or becomes a program, and nothing that it started outlives it, in whatever
group or session: what a call leaves is orphaned to the interpreter, which ends it. `Nursery` and `Program` are the
asking end, `main` is the interpreter. The answer comes back as bytes; what counts is on the disk.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import os
import pickle
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from sweep.errors import EnvironmentRefused, SweepError

POSSIBLE = sys.platform == "linux"  # elsewhere a fork of a process that has loaded torch is not safe
DUMP = (
    signal.SIGRTMAX - 1 if POSSIBLE else 0
)  # asks a call for the stacks of its threads; no library is known to use it
DUMPING, GRACE = 0.3, 5.0  # seconds for the stacks to be written, and from SIGTERM to SIGKILL
LOOK = 1.0  # seconds between two looks at whether the other end is still there

_ROOT = str(Path(__file__).parents[1])
# The current folder is not searched: it may hold a `torch.py`, and a call brings the path that it is to search.
_START = "import sys; sys.path += [sys.argv[2]] * (sys.argv[2] not in sys.path); from sweep.nursery import main; main()"
# Ends the group of the running call, and whatever has its mark, when the interpreter that forked it is killed. In the
# background, to be nobody's child: the interpreter takes whatever becomes its child for what a call has left.
_GUARD = """exec 3<&0
(while read -r g m; do group=$g mark=$m; done
[ "$group" = 0 ] && exit
kill -s KILL -- "-$group"
for again in 1 2 3; do for each in /proc/[0-9]*; do
grep -qsz "^SWEEP_RUN=$mark\\$" "$each/environ" && kill -s KILL "${each#/proc/}"
done; done) <&3 >/dev/null 2>&1 &"""
MARK = "SWEEP_RUN"  # the variable by which what belongs to a call is known where its parent is not
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # prctl, which Python has no name for


@dataclass(frozen=True)
class Call:
    """A function to call in a process of its own, or a program for it to become, and what it is to have."""

    function: str = ""  # module:name
    arguments: bytes = b""  # a pickled tuple, opened in that process only
    log: str = ""  # a file to which stdout and stderr are added
    words: tuple[str, ...] = ()  # of a program; its stdout and stderr are pipes that come with the call
    seconds: float | None = None  # its time
    folder: str = ""
    path: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    mark: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Ended:
    """How a call ended. status: an exit code, or a signal's number below zero."""

    status: int
    answer: bytes = b""  # pickled; nothing where it was ended before it had one
    late: bool = False  # its time was over
    memory: int = 0  # bytes at its peak


class Gone(SweepError):
    """The nursery itself was ended, and with it what it had forked."""


# The asking end


class Nursery:
    """A nursery of this process. variables: what its interpreter must find in its environment from the start."""

    def __init__(self, preload: Sequence[str], variables: Mapping[str, str]) -> None:
        self.preload, self.variables, self.owner = tuple(preload), dict(variables), os.getpid()
        self._link, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  for as long as the nursery is there
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno()), _ROOT, *preload],
                stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, pass_fds=[theirs.fileno()],
                env={**os.environ, **variables}, start_new_session=True,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def call(self, call: Call, look: Callable[[], None] = lambda: None) -> Ended:
        """Make a call and wait for its end; `look` is called about every second.

        Whatever is raised here meanwhile, by a signal's handler for example, ends the call at once.
        Raises: Gone when the nursery was ended; EnvironmentRefused when it could not start.
        """
        try:
            self.begin(call)
            while (ended := self.ended(LOOK)) is None:
                look()
            return ended
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that can be read once the call under way has ended."""
        return self._link.fileno()

    def begin(self, call: Call, streams: Sequence[int] = ()) -> None:
        """Begin a call; streams: what is to be stdout and stderr of a program."""
        with suppress(BrokenPipeError):  # `ended` finds it out
            _send(self._link, pickle.dumps(call), streams)

    def stop(self) -> None:
        """Ask the program under way to end, and end it in a few seconds if it does not."""
        with suppress(OSError):
            self._link.send(b"s")

    def ended(self, seconds: float) -> Ended | None:
        """Return how the call under way ended, or None where that has not happened within so many seconds."""
        if not select.select([self._link], [], [], seconds)[0] and self.alive:
            return None
        found = pickle.loads(_receive(self._link)[0] or self._gone())
        assert isinstance(found, Ended)
        return found

    def _gone(self) -> NoReturn:
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        if code == LOADING:
            raise EnvironmentRefused(
                f"a process to train in could not start: {said[-1] if said else 'it says nothing'}",
                where=sys.executable,
            )
        raise Gone(f"the process that forks the runs was ended ({named(code)})")

    def close(self) -> None:
        """End it, with all that it has forked."""
        self._link.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2 * GRACE)
        self.kill()

    def kill(self) -> None:
        """End it where it has forked nothing, or would not end by itself."""
        self._link.close()
        self._process.kill()
        self._process.wait()
        self._said.close()


class Program:
    """A program under way, in a session of its own. stdout, stderr: what it says; ended: how, once it has."""

    def __init__(self, words: Sequence[str], variables: Mapping[str, str]) -> None:
        self._nursery = _taken((), {})
        self._name, self._stopped = words[0], False
        self.ended: Ended | None = None
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        self.stdout, self.stderr = open(out, "rb", buffering=0), open(err, "rb", buffering=0)  # noqa: SIM115
        call = Call(words=tuple(words), folder=os.getcwd(), environment=tuple(variables.items()))
        self._nursery.begin(call, (theirs_out, theirs_err))
        os.close(theirs_out)
        os.close(theirs_err)

    def poll(self) -> Ended | None:
        """Return how it ended, or None. Raises: SweepError where it could not be started, Gone."""
        if self.ended is None:
            self.ended = self._nursery.ended(0)
            if self.ended is not None and self.ended.answer:
                reason = pickle.loads(self.ended.answer)
                raise SweepError(f"{self._name!r} cannot be started: {reason}", where="command")
        return self.ended

    def fileno(self) -> int:
        """Return a descriptor that can be read once the program has ended."""
        return self._nursery.fileno()

    def stop(self) -> None:
        """Ask it to end, and end it in a few seconds if it does not."""
        self._stopped = True
        self._nursery.stop()

    def close(self) -> None:
        """End what is left of it, and keep the nursery for the next one."""
        self.stdout.close()
        self.stderr.close()
        if self.ended is None or self._stopped:  # a request to stop that came too late would be left in the link
            self._nursery.close()
        else:
            _idle.append(self._nursery)


_idle: list[Nursery] = []


def start(preload: Sequence[str], variables: Mapping[str, str]) -> None:
    """Begin to start a nursery, to overlap with other work."""
    if not any(_fits(each, preload, variables) for each in _idle):
        _idle.append(Nursery(preload, variables))


def call(made: Call, preload: Sequence[str], variables: Mapping[str, str], look: Callable[[], None]) -> Ended:
    """Make a call in an idle nursery of this process, or in a new one, which is kept for the next call."""
    nursery = _taken(preload, variables)
    ended = nursery.call(made, look)
    _idle.append(nursery)
    return ended


def _taken(preload: Sequence[str], variables: Mapping[str, str]) -> Nursery:
    fitting = next((each for each in _idle if _fits(each, preload, variables)), None)
    if fitting is None:
        return Nursery(preload, variables)
    _idle.remove(fitting)
    return fitting


def _fits(nursery: Nursery, preload: Sequence[str], variables: Mapping[str, str]) -> bool:
    wanted = nursery.preload == tuple(preload) and nursery.variables == variables
    return wanted and nursery.owner == os.getpid() and nursery.alive


@atexit.register
def dismiss() -> None:
    """End the nurseries of this process that are idle."""
    while _idle:
        nursery = _idle.pop()
        if nursery.owner == os.getpid():  # a fork of ours has the list as well
            nursery.kill()


def named(code: int) -> str:
    """The signal that an exit code below zero stands for, by name."""
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"


def _send(link: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    socket.send_fds(link, [struct.pack("!Q", len(data))], list(descriptors))
    link.sendall(data)


def _receive(link: socket.socket) -> tuple[bytes, list[int]]:
    """Return a message and the descriptors that came with it; nothing when the other end is gone."""
    try:
        head, descriptors, *_ = socket.recv_fds(link, 8, 2)
        head += _exactly(link, 8 - len(head)) if head else b""
    except ConnectionResetError:
        return b"", []
    return (_exactly(link, *struct.unpack("!Q", head)) if len(head) == 8 else b""), descriptors


def _exactly(link: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            more = link.recv(min(count - len(data), 1 << 20))
        except ConnectionResetError:
            return b""
        if not more:
            return b""
        data += more
    return bytes(data)


# The interpreter that forks

LOADING = 3  # exit code: it could not load what it was to load


def main() -> NoReturn:
    """Load, then fork for each call that comes, until the other end is gone."""
    link, preload, parent = socket.socket(fileno=int(sys.argv[1])), sys.argv[3:], os.getppid()
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
    # Left to `at_exit`, those of torch would take a tenth of a second of every call, and torch apart while it is used.
    for each in list(getattr(weakref.finalize, "_registry", ())):
        each.atexit = False
    gc.collect()
    gc.freeze()  # so that a fork does not copy it all at its first collection
    guard = _guard()
    global _orphans_come_here
    _orphans_come_here = _prctl(_SET_CHILD_SUBREAPER, 1)
    wakes, wake = os.pipe()
    for end in (wakes, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while True:
        if not select.select([link], [], [], LOOK)[0]:
            if os.getppid() != parent:
                os._exit(0)
            continue
        message, streams = _receive(link)
        if not message:
            os._exit(0)
        _send(link, pickle.dumps(_serve(pickle.loads(message), streams, link, wakes, guard, parent)))


def _guard() -> IO[bytes] | None:
    try:
        shell = subprocess.Popen(["/bin/sh", "-c", _GUARD], stdin=subprocess.PIPE, start_new_session=True)
    except OSError:  # no shell: what a call starts outlives it only where this interpreter is killed
        return None
    shell.wait()
    return shell.stdin


def _tell(guard: IO[bytes] | None, group: int, mark: str) -> None:
    if guard is not None:
        with suppress(OSError):
            guard.write(f"{group} {mark}\n".encode())
            guard.flush()


def _serve(
    call: Call, streams: Sequence[int], link: socket.socket, wakes: int, guard: IO[bytes] | None, parent: int
) -> Ended:
    reader, writer = os.pipe()
    begun = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python counts the threads of BLAS, which survive a fork
        pid = os.fork()
    if pid == 0:
        # What a grandchild held open would hide from the others that this interpreter has ended.
        for ours in (reader, wakes, link.detach(), *([guard.fileno()] if guard is not None else [])):
            os.close(ours)
        (_become if call.words else _child)(call, streams, writer, begun)
    for theirs in (writer, *streams):
        os.close(theirs)
    os.set_blocking(reader, False)
    _tell(guard, pid, call.mark)
    answer = bytearray()
    due: list[tuple[float, int]] = []
    if call.seconds:
        over = begun + call.seconds
        due = [(over, DUMP), (over + DUMPING, signal.SIGTERM), (over + DUMPING + GRACE, signal.SIGKILL)]
    late, ended = False, None
    heard = [link.fileno(), wakes, reader]
    while ended is None:
        wait = min(LOOK, max(0.0, due[0][0] - time.monotonic())) if due else LOOK
        ready = select.select(heard, [], [], wait)[0]
        if (link.fileno() in ready and not link.recv(1)) or os.getppid() != parent:  # the other end is gone
            _leave_nothing(pid, call.mark)
            os._exit(0)
        if link.fileno() in ready and not due:  # it asks for an end: all that is ever said during a call
            now = time.monotonic()
            due = [(now, signal.SIGTERM), (now + GRACE, signal.SIGKILL)]
        if wakes in ready:
            os.read(wakes, 4096)
        if reader in ready and not _read(reader, answer):
            heard.remove(reader)  # it will be gone soon, or has become a program
        ended = _reaped(pid)
        if ended is None and due and time.monotonic() >= due[0][0]:
            late = True
            with suppress(ProcessLookupError, PermissionError):
                (os.killpg if call.words else os.kill)(pid, due.pop(0)[1])
    _read(reader, answer)
    os.close(reader)
    _leave_nothing(pid, call.mark)
    _tell(guard, 0, call.mark)
    status, memory = ended
    return Ended(os.waitstatus_to_exitcode(status), bytes(answer), late, memory)


def _read(reader: int, answer: bytearray) -> bool:
    """Take what is there. False: nobody will say any more."""
    with suppress(BlockingIOError):
        while more := os.read(reader, 1 << 20):
            answer += more
        return False
    return True


def _reaped(pid: int) -> tuple[int, int] | None:
    """The status and the peak of memory of a call that has ended; whatever else has ended is buried as well."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.wait3(os.WNOHANG))[0]:
            if ended[0] == pid:
                found = ended[1], int(ended[2].ru_maxrss) * 1024
    return found


_orphans_come_here = False  # whether what a call leaves becomes a child of this process


def _leave_nothing(pid: int, mark: str) -> None:
    """End all that a call has left running: its group, and its orphans in whatever group or session."""
    polite = time.monotonic() + 1.0  # Python's own tracker of semaphores has to clean up
    give_up = polite + GRACE
    asked: set[int] = set()
    while (now := time.monotonic()) < give_up:
        _reaped(0)
        left = {*_left(mark)}
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


def _left(mark: str) -> Iterator[int]:
    """Yield what is orphaned to this process, or, where orphans go elsewhere, what has the mark of a call."""
    if not _orphans_come_here:
        yield from _marked(mark)
        return
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                # The command name may hold blanks and brackets; fields are counted after the last one.
                about = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(about[1]) == os.getpid():
                    yield int(entry.name)


def _marked(mark: str) -> Iterator[int]:
    try:
        import psutil
    except ImportError:  # Ray brings it
        return
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if each.environ().get(MARK) == mark and each.status() != psutil.STATUS_ZOMBIE:
                yield each.pid


def _prctl(option: int, value: int) -> bool:
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
    return False


# The forked process


def _become(call: Call, streams: Sequence[int], writer: int, begun: float) -> NoReturn:
    try:
        _leave_the_nursery(call)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a program would go on to
            signal.signal(number, signal.SIG_DFL)
        for fd, stream in enumerate(streams, 1):
            os.dup2(stream, fd)
        os.execvpe(call.words[0], call.words, {**dict(call.environment), MARK: call.mark})
    except (OSError, ValueError) as error:
        os.write(writer, pickle.dumps(getattr(error, "strerror", None) or str(error)))
    os._exit(127)


def _child(call: Call, streams: Sequence[int], writer: int, begun: float) -> NoReturn:
    code = 1
    try:
        _leave_the_nursery(call)
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


def _leave_the_nursery(call: Call) -> None:
    """Be a session of its own in the folder of the call, which ends with the nursery and has none of its handlers."""
    nursery = os.getppid()
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != nursery:
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
    """Make this process what an interpreter is at its start, in the place of the asking process."""
    import faulthandler

    from sweep.store import atomic

    with atomic.append(Path(call.log)) as log:
        os.dup2(log.fd, 1)
        os.dup2(log.fd, 2)
    # Line by line, so that what is said through Python, by children and by C code keeps its order.
    sys.stdout = sys.__stdout__ = _text(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2)  # type: ignore[misc]
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.breakpointhook = _no_terminal
    faulthandler.enable(2)
    faulthandler.register(DUMP, 2, all_threads=True)
    if dict(os.environ) != (wanted := {**dict(call.environment), MARK: call.mark}):
        os.environ.clear()
        os.environ.update(wanted)
    sys.path[:] = call.path
    importlib.invalidate_caches()


def _text(fd: int) -> io.TextIOWrapper:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _no_terminal(*arguments: Any, **named: Any) -> Any:
    if os.environ.get("PYTHONBREAKPOINT"):  # a debugger that needs no terminal, or none at all
        return sys.__breakpointhook__(*arguments, **named)
    raise SweepError(
        "breakpoint() finds no terminal: a run has neither keyboard nor screen",
        hint="take it out; to debug, call the function from a script of your own",
    )


@contextmanager
def alone() -> Iterator[None]:
    """End, where the block ends, a process that the block's code forked: what comes after is its parent's.

    Else a child that ends in `sys.exit`, or by an error, would go on as if it were the run.
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
    """Do now what the user's code has registered to be done when its interpreter ends, and empty all buffers."""
    # Not public, and the only way: without it a run that ends in `_exit` would lose what waits to be written.
    with suppress(Exception, SystemExit):
        getattr(atexit, "_run_exitfuncs", lambda: None)()
    made = gc.get_objects()  # since the fork
    for kind in (io.TextIOWrapper, io.BufferedWriter):
        for each in [each for each in made if type(each) is kind]:
            with suppress(Exception):
                each.flush()


def end(code: int) -> NoReturn:
    """End this process at once, with nothing of the interpreter's own end but what is still to be printed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
