"""A rehearsal in an interpreter of its own: the request, the answer, and the process.

`main` is the other end. Only a process that trains loads torch.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM, Origin
from sweep.errors import SweepError
from sweep.job import Job
from sweep.plan import RunSpec
from sweep.store import Failure, atomic
from sweep.target.source import built_in

ANSWER = "answer.json"
BEGIN = b"begin"

# Without the working folder on the path, which may hold unknown modules.
_START = "import sys; sys.path += [sys.argv[1]]; from sweep.verify.process import main; main()"
_ROOT = os.fspath(Path(__file__).parents[2])
# A rehearsal is not a run, so experiment trackers must not send it.
_SENT_NOWHERE = {"WANDB_MODE": "disabled", "NEPTUNE_MODE": "debug"}


@dataclass(frozen=True)
class Request:
    """A request to train a run, for `steps` or to its end (None).

    traced: write the tensors of every module and optimizer to a file (see `locate`).
    """

    spec: RunSpec
    job: Job
    steps: int | None = None
    traced: bool = False


@dataclass(frozen=True)
class Trained:
    """The result of a rehearsal. where: the name of the process. chain: its digests. steps: optimizer steps, if seen.

    stopped: it was ended after the requested steps. found: the observations of an audit or a timing. marks: the end of
    each step, in seconds of a clock of its own.
    """

    where: str
    chain: Mapping[str, str]
    metrics: Mapping[str, float]
    environment: Mapping[str, Any]
    seconds: float = 0.0
    steps: int = 0
    stopped: bool = False
    failure: Failure | None = None
    found: tuple[Mapping[str, Any], ...] = ()
    marks: tuple[float, ...] = ()

    def origin(self, spec: RunSpec) -> Origin:
        """Return the origin of the bits of this training of `spec`, for the verdict."""
        return Origin(spec.id, self.environment, spec.deterministic, spec.to_json())

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Trained:
        return cls(**{
            **body, "failure": Failure(**body["failure"]) if body["failure"] else None,
            "metrics": {name: float(value) for name, value in body["metrics"].items()},
            "found": tuple(body["found"]), "marks": tuple(body["marks"]),
        })  # fmt: skip


def as_json(**parts: Any) -> dict[str, Any]:
    """Return the parts of an answer as strict JSON, with dataclasses as mappings."""
    held = {name: asdict(part) if is_dataclass(part) else part for name, part in parts.items()}  # type: ignore[arg-type]
    plain: dict[str, Any] = atomic.strict(held)
    return plain


class Process:
    """A process that trains one request in a temporary folder. Leaving the block ends it and removes the folder.

    function: the function that answers the request, as module:name. held: load it, and train after `begin`.
    """

    def __init__(
        self, request: Request, *, where: str, function: str = "sweep.verify.rehearse:rehearse", held: bool = False
    ) -> None:
        self.where = where
        self._scratch = TemporaryDirectory(prefix="sweep-verify-", ignore_cleanup_errors=True)
        self.folder = Path(self._scratch.name)
        self._output = self.folder / "output.txt"
        for_determinism = ENVIRONMENT_FOR_DETERMINISM if request.spec.deterministic else {}
        with self._output.open("wb") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, _ROOT],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **_SENT_NOWHERE, **for_determinism},
            )  # fmt: skip
        assert self._child.stdin is not None
        self._asked = self._child.stdin
        # A pickle from this process to its own child, without a file or other parties.
        with suppress(BrokenPipeError):
            pickle.dump((list(sys.path), function, request, self.folder, where), self._asked)
            self._asked.flush()
        if not held:
            self.begin()

    def begin(self) -> None:
        """Let it train."""
        with suppress(BrokenPipeError), self._asked:
            self._asked.write(BEGIN)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, with all its children."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, 9)
            self._child.wait()
        with suppress(BrokenPipeError):
            self._asked.close()
        self._scratch.cleanup()

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def wait(self) -> Trained:
        """Return its answer. Raises: SweepError if it ended without one."""
        code = self._child.wait()
        try:
            return Trained.from_json(atomic.loads((self.folder / ANSWER).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = self._output.read_text(errors="replace").strip().splitlines()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise SweepError(
                f"{self.where} ended without an answer ({how}){': ' + said[-1] if said else ''}"
            ) from error


def main() -> None:
    """Answer the request on stdin. Training code is imported here, because the calling process needs no torch."""
    path, function, request, scratch, where = pickle.load(sys.stdin.buffer)
    sys.path += [each for each in path if each not in sys.path]
    # In the folder in which the launch found the user's functions; built-in recipes import nothing from there.
    folder = request.job.folder
    if folder and os.path.isdir(folder):
        os.chdir(folder)
        if not built_in(request.spec.target.reference) and folder not in sys.path:
            sys.path.insert(0, folder)
    module, _, name = function.partition(":")
    rehearse = getattr(import_module(module), name)
    if sys.stdin.buffer.read() != BEGIN:  # the process that asked has ended
        return
    try:
        made = rehearse(request, scratch, where=where)
    except SweepError as error:
        made = Trained(where, {}, {}, {}, failure=Failure("raised", str(error), "setup"))
    atomic.write(scratch / ANSWER, atomic.encoded(asdict(made)))
