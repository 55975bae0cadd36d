"""Any program as a run: start it, read its output and metrics, end all its processes, and return the result."""

from __future__ import annotations

import codecs
import math
import os
import selectors
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

from sweep import forkserver
from sweep import metrics as reading
from sweep.config.schema import Collect
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.errors import SweepError
from sweep.handle import Run, as_metrics
from sweep.job import FEWER, SMALLER, Accident, Interrupted
from sweep.metrics import raw_output
from sweep.metrics.files import OURS
from sweep.metrics.read import HOW
from sweep.metrics.seen import seen
from sweep.plan import RunSpec, content_id
from sweep.redaction import redact
from sweep.store import Failure, atomic
from sweep.store.masking import Masking
from sweep.target.command import VARIABLE, fill, params_by_name, placeholders, search_path
from sweep.words import plural
from sweep.worker import ports
from sweep.worker.own_folder import lent

POLL = 0.2  # seconds between two checks for a requested stop
LOOK = 1.0  # seconds between two readings of a program's metrics
LOOKING = 0.02  # the share of its time that these may take

# Signals from a person or from a system short of memory, and not from a crash of the program.
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
NOT_FROM_OUTSIDE = (
    "sweep sets only environment variables for determinism (hash order, cuBLAS workspace, threads); seeding, "
    "deterministic kernels and the order of the data are up to the program, so equal bits are not promised"
)

Metrics = dict[str, float]


def trainer(
    spec: RunSpec, where: Collect | None, *, own_folder: bool = False, gpus: float = 0
) -> Callable[[Sequence[Run]], Iterator[tuple[int, Metrics | Failure]]]:
    """Return a trainer that runs a command for each run, with a reserved port if it has several GPUs or a {port}.

    own_folder: the command works in {dir}, see `sweep.worker.own_folder`.
    """
    asks = gpus > 1 or any("{port}" in word for word in spec.target.argv)

    def each(runs: Sequence[Run]) -> Iterator[tuple[int, Metrics | Failure]]:
        for index, run in enumerate(runs):
            folder = run.attempt.share()
            at = folder if own_folder else Path.cwd()
            lend = lent(Path.cwd(), folder, OURS) if own_folder else nullcontext()
            with lend, ports.reserved(asks) as port:
                result = _train(run, where, folder, at, port)
            yield index, result

    return each


def environment(run: Run, folder: Path) -> dict[str, str]:
    """Return the variables of the program: those of this process, those of sweep, and those that decide bits."""
    made = dict(os.environ)
    made["PATH"] = search_path()
    made.setdefault("PYTHONUNBUFFERED", "1")  # otherwise its last output would be lost when it is killed
    made |= {name: str(run.threads) for name in THREADS}
    made |= {VARIABLE: str(run.seed), "SWEEP_DIR": str(folder), "SWEEP_DEVICE": run.device, "SWEEP_RUN_ID": run.id}
    if run.device == "cpu":
        made["CUDA_VISIBLE_DEVICES"] = ""  # the record says cpu, so no GPU may be used
    if run.deterministic:
        made |= {k: v for k, v in ENVIRONMENT_FOR_DETERMINISM.items() if made.get(k) in (None, "", "random")}
    return made


def _train(run: Run, where: Collect | None, folder: Path, at: Path, port: int | None) -> Metrics | Failure:
    """Run the program. folder: the value of {dir}; at: its working folder; port: its reserved port, if any."""
    run.looked_back = True
    if run.attempt.number > 1:
        files = run.attempt.inherited
        had = f"began with {plural(files, 'file')} of an earlier attempt" if files else "began with an empty folder"
        run.note(f"attempt {run.attempt.number} {had}")
    values = {**placeholders(run.spec, folder, run.dir), **({} if port is None else {"port": str(port)})}
    words = [fill(word, values) for word in run.spec.target.argv]
    program = shutil.which(words[0], path=search_path()) or "not found"
    told = {**values, **params_by_name(redact(run.params))}
    said = redact([fill(word, told) for word in run.spec.target.argv])
    run.attempt.log_text(f"$ {shlex.join(said)}\n# the program: {program}\n")
    if run.deterministic:
        run.note(NOT_FROM_OUTSIDE)
    heard = _Heard(run)
    shown = _Shown(run, folder, where, values, heard, at)
    variables = {**environment(run, folder), **ports.variables(port)}
    with _started(words, variables, heard, at) as process:
        code = _listen(process, heard, stopping=run.stopping, look=shown.look)
    heard.close()
    left = shown.left(at_work=False)
    run.collected = {"id": reading.identity(where)}
    if failure := failure_of(code, heard.last_words):
        shown.settle(reading.so_far(where, left))
        if _ended_by(code) in FROM_OUTSIDE:
            raise Accident(failure.message)
        return failure
    try:
        return _result(run, where, left, shown)
    except SweepError as problem:
        with suppress(SweepError):  # its metrics may be read again later, but not its predictions
            _predictions(run, where, left)
        found = [each.what + f": --metrics {shlex.quote(each.metrics)}" * bool(each.metrics) for each in seen(left)]
        hint = [problem.hint] if problem.hint and not (found and problem.hint == HOW) else []
        said = [problem.what, *hint, *found]
        return Failure("returned", "; ".join(said), where=problem.where or "")


def _result(run: Run, where: Collect | None, left: reading.Left, shown: _Shown) -> Metrics:
    for name, arrays in reading.scores(where, left):
        run.save_scores(name, **arrays)
    try:
        found = reading.metrics(where, left)
    except reading.NotFound:
        if not run.scored:
            raise
        found = reading.Found(run.scored, (), ())
    shown.settle(found.history)
    _predictions(run, where, left)
    run.collected |= {"notes": list(found.notes), "words": found.words}
    for note in found.notes:
        run.note(note)
    metrics = run.scored | as_metrics(found.metrics, where="command")
    run.result("last reported", found.history[-1][0] if found.history else None)
    run.digest("metrics", content_id(atomic.strict(metrics)))
    return metrics


def _predictions(run: Run, where: Collect | None, left: reading.Left) -> None:
    for split, arrays, note in reading.predictions(where, left):
        run.save_predictions(split, **arrays)
        if note:
            run.note(note)


def failure_of(code: int, last_words: str) -> Failure | None:
    """Return the failure for an exit code, with the last line of output, or None for 0."""
    if code == 0:
        return None
    lines = [line.strip() for line in last_words.replace("\r", "\n").splitlines() if line.strip()]
    said = f": {lines[-1][:300]}" if lines else ""
    number = _ended_by(code)
    if code < 0 or number in set(signal.Signals):
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        how = f"ended by {name}" if code < 0 else f"exit code {code} (128 + {name})"
        hint = f"; the machine may have run out of memory, so {FEWER}" if name == "SIGKILL" else ""
        return Failure("killed", f"{how}{hint}{said}")
    message = f"exit code {code}{said}"
    if any(word in last_words for word in ("OutOfMemoryError", "CUDA out of memory", "MemoryError")):
        return Failure("out of memory", f"{message}; {SMALLER}")
    if "does not have a deterministic implementation" in last_words:
        return Failure("nondeterministic", message)
    return Failure("raised", message)


def _ended_by(code: int) -> int:
    """Return the signal number of an exit code. It has no meaning if there was no signal."""
    return -code if code < 0 else code - 128  # a shell returns 128 + the number of a signal


class _Heard:
    """The output of a program without secrets: written to the log at once, and each stream to a file of its own."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.kept = {stream: raw_output.Kept(run.dir / raw_output.FILES[stream]) for stream in raw_output.FILES}
        self.last_words = ""  # the end of stdout and stderr, as they came
        utf8 = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: utf8("replace") for stream in raw_output.FILES}
        self._masking = {stream: Masking(run.attempt.secrets) for stream in raw_output.FILES}

    def take(self, stream: str, data: bytes) -> None:
        self._keep(stream, self._masking[stream].take(data))

    def _keep(self, stream: str, data: bytes) -> None:
        self.kept[stream].take(data)
        text = self._decoders[stream].decode(data)
        self.last_words = (self.last_words + text)[-8192:]
        self.run.attempt.log_text(text)

    def close(self) -> None:
        for stream, decoder in self._decoders.items():
            self._keep(stream, self._masking[stream].rest())
            self.run.attempt.log_text(decoder.decode(b"", final=True))
            self.kept[stream].close()


History = Sequence[tuple[int, Mapping[str, float]]]


class _Shown:
    """The history of a program for readers: its newest steps while it runs, and all of them when it has ended."""

    def __init__(
        self, run: Run, folder: Path, where: Collect | None, values: Mapping[str, str], heard: _Heard, at: Path
    ) -> None:
        self.run, self.folder, self.where, self.values, self.heard, self.at = run, folder, where, values, heard, at
        self._before = reading.look(where, folder, values, at)
        self._rows: list[tuple[int, Mapping[str, float]]] = []
        self._next = time.monotonic() + LOOK

    def left(self, *, at_work: bool) -> reading.Left:
        kept = self.heard.kept
        return reading.Left(
            self.folder, self.values, self.at, kept["stdout"].text(), kept["stderr"].text(), self._before,
            cut={stream: each.lost for stream, each in kept.items()}, at_work=at_work,
        )  # fmt: skip

    def look(self) -> None:
        """Log new steps. This is done rarely if reading takes long, because a program with a full pipe waits for it."""
        begun = time.monotonic()
        if begun < self._next:
            return
        last = self._rows[-1][0] if self._rows else None
        for step, row in reading.so_far(self.where, self.left(at_work=True)):
            if last is None or step > last:
                self._log(step, row)
        now = time.monotonic()
        self._next = now + max(LOOK, (now - begun) / LOOKING)

    def settle(self, history: History) -> None:
        """Log the remaining steps, or all of them again if earlier readings saw incomplete ones."""
        if self._rows != list(history[: len(self._rows)]):
            self.run.attempt.forget_history()
            self._rows.clear()
        for step, row in history[len(self._rows) :]:
            self._log(step, row)

    def _log(self, step: int, row: Mapping[str, float]) -> None:
        self.run.attempt.log_row(step, row)
        self._rows.append((step, row))


@contextmanager
def _started(
    words: Sequence[str], variables: Mapping[str, str], heard: _Heard, at: Path
) -> Iterator[forkserver.Program]:
    """Start the program in a session of its own. It and all that it has started end with this block or process."""
    program = forkserver.Program(words, variables, os.fspath(at))
    try:
        yield program
    finally:
        try:
            if program.ended is None:
                program.stop()
                _listen(program, heard, seconds=2 * forkserver.GRACE)
        finally:
            program.close()


def _listen(
    program: forkserver.Program,
    heard: _Heard,
    *,
    seconds: float = math.inf,
    stopping: Callable[[], bool] = lambda: False,
    look: Callable[[], None] = lambda: None,
) -> int:
    """Read the output of the program until it has ended or `seconds` have passed, and return its exit code.

    Background processes of the program are not waited for. Raises: Interrupted if a stop was requested.
    """
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as streams:
        for name, stream in (("stdout", program.stdout), ("stderr", program.stderr)):
            streams.register(stream, selectors.EVENT_READ, name)
        streams.register(program, selectors.EVENT_READ)
        while (ended := program.poll()) is None and time.monotonic() < until:
            _take_in(streams, heard, POLL)
            if stopping():
                raise Interrupted
            look()
        while _take_in(streams, heard, 0):
            pass
    return ended.status if ended is not None else -signal.SIGKILL


def _take_in(streams: selectors.BaseSelector, heard: _Heard, wait: float) -> int:
    """Read once from each stream with output, and return the number of such streams."""
    said = [key for key, _ in streams.select(wait) if key.data]
    for key in said:
        stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
        data = os.read(stream.fileno(), 1 << 16)
        if data:
            heard.take(key.data, data)
        else:
            streams.unregister(stream)
    return len(said)
