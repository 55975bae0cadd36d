"""Process: a rehearsal in an interpreter of its own; `main` is the other end."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType

from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.errors import SweepError
from sweep.source import built_in
from sweep.store import Failure, atomic
from sweep.task import Place
from sweep.verify.request import Request, Trained

ANSWER = "answer.json"
STARTED = "started"


# Without the working folder, which may hold a stranger's modules, on the path.
_START = "import sys; sys.path += [sys.argv[1]]; from sweep.verify.process import main; main()"
_ROOT = os.fspath(Path(__file__).parents[2])


class Process:
    """A worker process that trains one request; ended when its block is left."""

    def __init__(self, request: Request, *, where: str) -> None:
        self.request, self.where = request, where
        self.folder = Path(request.path)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._output = self.folder / "output.txt"
        with self._output.open("wb") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, _ROOT],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env=_environment(request.spec.deterministic),
            )  # fmt: skip
        assert self._child.stdin is not None
        # From this program to its own child: a pickle that no file and no stranger has a hand in.
        with suppress(BrokenPipeError):
            pickle.dump((list(sys.path), request, where), self._child.stdin)
            self._child.stdin.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    @property
    def started(self) -> bool:
        """Whether it has imported what it needs, which takes long on a busy machine."""
        return (self.folder / STARTED).exists()

    def end(self) -> None:
        """Kill it, with the children it may have."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, 9)
            self._child.wait()

    def wait(self, seconds: float | None = None) -> Trained | None:
        """What it found; None when it is not done after so many seconds.

        Raises: SweepError when it ended without an answer.
        """
        try:
            code = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        try:
            return Trained.from_json(atomic.loads((self.folder / ANSWER).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = self._output.read_text(errors="replace").strip().splitlines()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise SweepError(
                f"{self.where} ended without an answer ({how}){': ' + said[-1] if said else ''}"
            ) from error


# A rehearsal is no run: what trackers would send of it goes nowhere.
_SENT_NOWHERE = {"WANDB_MODE": "disabled", "NEPTUNE_MODE": "debug"}


def _environment(deterministic: bool) -> Mapping[str, str]:
    return {**os.environ, **_SENT_NOWHERE, **(ENVIRONMENT_FOR_DETERMINISM if deterministic else {})}


_TASKS = {
    "train": "sweep.verify.rehearse:rehearse",
    "audit": "sweep.verify.probes:explore",
    "cost": "sweep.verify.timing:timed",
}


def main() -> None:
    """Answer the request on stdin. What trains is imported here: the asking end needs no torch."""
    path, request, where = pickle.load(sys.stdin.buffer)
    sys.path += [each for each in path if each not in sys.path]
    _enter_folder(request.place, built_in(request.spec.target.reference))
    module, _, name = _TASKS[request.task].partition(":")
    try:
        task = getattr(import_module(module), name)
        (Path(request.path) / STARTED).touch()
        made = task(request, where=where)
    except SweepError as error:
        made = Trained(where, {}, {}, {}, {}, 0.0, failure=Failure("raised", str(error), "setup"))
    atomic.write_json(Path(request.path) / ANSWER, made.to_json())


def _enter_folder(place: Place, ours: bool) -> None:
    """Go to where the launch found the user's functions; a recipe of ours imports nothing from there."""
    if place.folder and os.path.isdir(place.folder):
        os.chdir(place.folder)
        if not ours and place.folder not in sys.path:
            sys.path.insert(0, place.folder)
