"""The calling end: the fork servers of this process, one per environment, kept for later calls."""

from __future__ import annotations

import atexit
import os
import pickle
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe, reduction
from pathlib import Path
from typing import NoReturn

from sweep.errors import EnvironmentRefused, SweepError
from sweep.forkserver.messages import GRACE, LOADING, LOOK, MARK, STOP, Call, Ended, named

_ROOT = str(Path(__file__).parents[2])
# The current folder is not searched, because it may hold a `torch.py`. A call brings its own search path.
_START = (
    "import sys; sys.path += [sys.argv[2]] * (sys.argv[2] not in sys.path); "
    "from sweep.forkserver.server import main; main()"
)


class ForkServer:
    """A fork server of this process. variables: environment variables that its interpreter needs from the start."""

    def __init__(self, preload: Sequence[str], variables: Mapping[str, str]) -> None:
        self.preload, self.variables, self.owner = tuple(preload), dict(variables), os.getpid()
        self._mark = secrets.token_hex(8)  # in the environment of all forks and programs
        self._link, theirs = Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  open while the fork server lives
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno()), _ROOT, *preload],
                stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, pass_fds=[theirs.fileno()],
                env={**os.environ, **variables, MARK: self._mark}, start_new_session=True,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fits(self, preload: Sequence[str], variables: Mapping[str, str]) -> bool:
        """Return whether this process can call it for these modules and variables."""
        wanted = self.preload == tuple(preload) and self.variables == variables
        return wanted and self.owner == os.getpid() and self.alive

    def fileno(self) -> int:
        """Return a descriptor that can be read once the call under way has ended."""
        return self._link.fileno()

    def begin(self, call: Call, streams: Sequence[int] = ()) -> None:
        """Begin a call. streams: the descriptors for stdout and stderr of a program."""
        with suppress(OSError):  # `ended` raises instead
            self._link.send(call)
            for stream in streams:
                reduction.send_handle(self._link, stream, self._process.pid)

    def stop(self) -> None:
        """Terminate the running program, and kill it after a few seconds if it does not end."""
        with suppress(OSError):
            self._link.send(STOP)

    def ended(self, seconds: float) -> Ended | None:
        """Return how the running call has ended, or None if it has not within `seconds`.

        Raises: Accident if the fork server was killed; EnvironmentRefused if it could not start.
        """
        if not self._link.poll(seconds) and self.alive:
            return None
        try:
            found = self._link.recv()
        except (EOFError, OSError):
            self._gone()
        assert isinstance(found, Ended)
        return found

    def _gone(self) -> NoReturn:
        from sweep.job import Accident  # imported here, because the interpreter for programs should start fast

        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        if code == LOADING:
            raise EnvironmentRefused(
                f"the process that starts the runs could not be started: {said[-1] if said else 'no output'}",
                where=sys.executable,
            )
        _end_marked(self._mark)
        raise Accident(f"the process that starts the runs was ended ({named(code)})", poison=False)

    def close(self) -> None:
        """End it with all processes that it has forked."""
        self._link.close()
        try:
            self._process.wait(2 * GRACE)
        except subprocess.TimeoutExpired:  # it was stopped, for example
            self._process.kill()
            _end_marked(self._mark)
        self.kill()

    def kill(self) -> None:
        """Kill it, if it has forked nothing or does not end by itself."""
        self._link.close()
        self._process.kill()
        self._process.wait()
        self._said.close()


def _end_marked(mark: str) -> None:
    """Kill the processes of a fork server that was killed itself."""
    import psutil  # nothing else needs it here

    for _ in range(3):  # some may have started others in the meantime
        for each in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if each.environ().get(MARK) == mark:
                    each.kill()


class Program:
    """A running program in a session of its own. stdout, stderr: its output. ended: None until it has ended."""

    def __init__(self, words: Sequence[str], variables: Mapping[str, str], folder: str = "") -> None:
        self._forkserver = _taken((), {})
        self._name, self._stopped = words[0], False
        self.ended: Ended | None = None
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        self.stdout, self.stderr = open(out, "rb", buffering=0), open(err, "rb", buffering=0)  # noqa: SIM115
        call = Call(words=tuple(words), folder=folder or os.getcwd(), environment=tuple(variables.items()))
        self._forkserver.begin(call, (theirs_out, theirs_err))
        os.close(theirs_out)
        os.close(theirs_err)

    def poll(self) -> Ended | None:
        """Return how it ended, or None if it runs. Raises: SweepError if it could not be started, Accident."""
        if self.ended is None:
            self.ended = self._forkserver.ended(0)
            if self.ended is not None and self.ended.answer:
                reason = pickle.loads(self.ended.answer)
                raise SweepError(f"{self._name!r} cannot be started: {reason}", where="command")
        return self.ended

    def fileno(self) -> int:
        """Return a descriptor that can be read once the program has ended."""
        return self._forkserver.fileno()

    def stop(self) -> None:
        """Terminate it, and kill it after a few seconds if it does not end."""
        self._stopped = True
        self._forkserver.stop()

    def close(self) -> None:
        """End what remains of it, and keep the fork server for the next program."""
        self.stdout.close()
        self.stderr.close()
        if self.ended is None or self._stopped:  # a stop request that came too late would remain in the link
            self._forkserver.close()
        else:
            _idle.append(self._forkserver)


_idle: list[ForkServer] = []


def start(preload: Sequence[str], variables: Mapping[str, str]) -> None:
    """Start a fork server in the background."""
    if not any(each.fits(preload, variables) for each in _idle):
        _idle.append(ForkServer(preload, variables))


def call(made: Call, preload: Sequence[str], variables: Mapping[str, str], look: Callable[[], None]) -> Ended:
    """Make a call in an idle fork server of this process, or in a new one, which is kept for the next call.

    look: called about every second until the call has ended. Any exception here, from a signal handler for example,
    ends the call at once. Raises: as `ForkServer.ended`.
    """
    forkserver = _taken(preload, variables)
    try:
        forkserver.begin(made)
        while (ended := forkserver.ended(LOOK)) is None:
            look()
    except BaseException:
        forkserver.close()
        raise
    _idle.append(forkserver)
    return ended


def _taken(preload: Sequence[str], variables: Mapping[str, str]) -> ForkServer:
    fitting = next((each for each in _idle if each.fits(preload, variables)), None)
    if fitting is None:
        return ForkServer(preload, variables)
    _idle.remove(fitting)
    return fitting


@atexit.register
def dismiss() -> None:
    """End the idle fork servers of this process."""
    while _idle:
        forkserver = _idle.pop()
        if forkserver.owner == os.getpid():  # a fork of this process also has the list
            forkserver.kill()
