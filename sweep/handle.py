"""The run as training code sees it: its seed, and the methods to log, save, checkpoint and restore."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import torch
from torch import nn

from sweep import checkpoint
from sweep.determinism import digest, seeding
from sweep.determinism.steps import Steps
from sweep.errors import MetricError, SweepError
from sweep.job import Interrupted
from sweep.plan import RunSpec
from sweep.store import Attempt, atomic, scores
from sweep.store.names import MODEL, MODEL_ABOUT, OUTSIDE, PREDICTIONS, SCORES
from sweep.store.predictions import checked

RETURN = 'return for example {"test/accuracy": 0.93}'

Json = Any


@dataclass
class Run:
    """One run, as the training code sees it. All random number generators are already seeded.

    Attributes
    ----------
    seed : int
    streams : mapping of str to int
        32-bit seeds for initialisation, order, augmentation, dropout and split.
    deterministic : bool
    device : {"cpu", "cuda"}
    threads : int
    params : mapping
    id : str
        The name of the run.
    fold : int
        With folds: the fold to test on, counted from 0. The run trains on the others.
    folds : int
        The number of folds, or 0.
    dir : Path
        A folder for other files that the code writes.
    rehearsal : bool
        True if the run is trained only to compare digests, as before a deterministic sweep. It leaves no results, so do
        not log it to a tracker.
    """

    spec: RunSpec
    attempt: Attempt
    every: tuple[int, float] = (0, 60.0)  # epochs and seconds between checkpoints; 0: never
    stopping: Callable[[], bool] = lambda: False
    chain: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)
    outcome: dict[str, Json] = field(default_factory=dict)
    scored: dict[str, float] = field(default_factory=dict)  # means of saved scores, reported as metrics of the run
    collected: dict[str, Json] = field(default_factory=dict)  # for a command: how its metrics were read
    _rows: int = 0
    _kept: bool = False  # this attempt has a checkpoint
    _saves: bool = False  # its code keeps checkpoints, so a stop waits for the next one
    _epochs_since: int = 0
    _saved_at: float = field(default_factory=time.monotonic)
    _begun: float = field(default_factory=time.monotonic)
    rehearsal: bool = False  # trained for its digests only: nothing is kept, and no checkpoint is written
    plain: bool = False  # trained by the plain loop, in which modules call their hooks
    on_step: Callable[[int, Callable[[], Mapping[str, Any]]], None] | None = None  # called by the built-in loop
    looked_back: bool = False  # its code looked for a checkpoint to resume from
    went_on: dict[str, Json] = field(default_factory=dict)  # for a resumed run: the step, and the seconds before it
    unsaveable: bool | None = None  # whether it draws from a random stream that cannot be saved; None: unknown yet

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def streams(self) -> Mapping[str, int]:
        return self.spec.streams

    @property
    def deterministic(self) -> bool:
        return self.spec.deterministic

    @property
    def device(self) -> str:
        return self.spec.device

    @property
    def threads(self) -> int:
        return self.spec.threads

    @property
    def fold(self) -> int:
        return self.spec.fold

    @property
    def folds(self) -> int:
        return self.spec.folds

    @property
    def params(self) -> Mapping[str, Json]:
        return self.spec.params

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def resumed(self) -> bool:
        """Return whether the run continued from a checkpoint."""
        return bool(self.went_on)

    @property
    def dir(self) -> Path:
        return self.attempt.path

    def log(self, metrics: Mapping[str, SupportsFloat], *, step: int) -> None:
        """Append a row of metrics named `split/metric` to the history. step is an epoch or any increasing count.

        Raises: Interrupted if a stop was requested and the run keeps no checkpoints.
        """
        where = f"run.log of seed {self.seed}"
        row = as_metrics(metrics, where=where)
        if "step" in row:
            raise MetricError("'step' is an invalid metric name", where=where, hint="write run.log({...}, step=3)")
        self._look()
        self.attempt.log_row(int(step), row)
        self._rows += 1
        self.last.update(row)
        if self.stopping() and not self._saves:
            raise Interrupted

    def save_predictions(
        self, split: str, *, ids: Any, targets: Any, probs: Any = None, mean: Any = None, var: Any = None
    ) -> None:
        """Save one prediction per example of a split, for ensembles and paired statistics.

        Parameters
        ----------
        split : str
            For example "test" or "val".
        ids : array of shape (examples,)
            Integers or text; each names one example.
        targets : array of shape (examples,) or (examples, outputs)
        probs : array of shape (examples, classes), optional
            Probabilities, for classes.
        mean : array shaped as targets, optional
            For regression: the predictions. Arrays and tensors on any device are accepted.
        var : array shaped as targets, optional
            For regression: the variance of each prediction.

        Raises
        ------
        SweepError
            Rows do not match, or ids repeat.
        """
        made = checked(ids, targets, probs, mean, var)
        self.attempt.write_arrays(PREDICTIONS.format(split=_name(split, "save_predictions")), made)
        self.digest(f"predictions/{split}", digest.arrays(made.arrays()))

    def save_scores(self, name: str, *, ids: Any, score: Any, cluster: Any = None, repeat: Any = None) -> None:
        """Save the score of each item of a benchmark, for `sweep items`; the mean becomes the metric `name/score`.

        Parameters
        ----------
        name : str
            The name of the set of items, for example "gsm8k".
        ids : array of shape (tries,)
            Integers or text; an item that was tried several times has several rows.
        score : array of shape (tries,)
            1 for right and 0 for wrong, or any finite number.
        cluster : array of shape (tries,), optional
            Items with equal labels share a source, such as questions about one text.
        repeat : array of shape (tries,), optional
            The number of the try for its item.

        Raises
        ------
        SweepError
            Shapes differ, a score is not finite, or an item is in two clusters.
        """
        made = scores.checked(ids, score, cluster, repeat)
        self.attempt.write_arrays(SCORES.format(name=_name(name, "save_scores")), made)
        self.digest(f"scores/{name}", digest.arrays(made.arrays()))
        self.scored[f"{name}/score"] = scores.mean(made)

    def save_model(self, module: nn.Module, *, meta: Mapping[str, Json] | None = None) -> None:
        """Save the weights (as safetensors, without code) and what is needed to serve them.

        Raises: SweepError if the state of the module holds something other than tensors.
        """
        from safetensors.torch import save

        held = module.state_dict()
        for name, value in held.items():
            if not isinstance(value, torch.Tensor):
                raise SweepError(
                    f"{name} is {checkpoint.described(value)}, but a safetensors file can hold only tensors",
                    where=f"save_model of seed {self.seed}",
                    hint="let get_extra_state return a tensor, or save a module without it",
                )
        # Contiguous copies: safetensors refuses views that share memory.
        state = {name: t.detach().cpu().contiguous().clone() for name, t in held.items()}
        self.attempt.write(MODEL, save(state))
        about = {**(meta or {}), **({OUTSIDE: outside} if (outside := digest.outside(module)) else {})}
        self.attempt.write(MODEL_ABOUT, atomic.encoded(about))
        self.digest("final", digest.module(module))

    def checkpoint_due(self, *, epoch_end: bool) -> bool:
        """Return whether the checkpoint interval has passed or a stop was requested."""
        self._epochs_since += epoch_end
        if self.stopping():
            return True
        epochs, seconds = self.every
        by_epochs = epochs and self._epochs_since >= epochs
        by_time = seconds and time.monotonic() - self._saved_at >= seconds
        return bool(by_epochs or by_time)

    def checkpoint(self, state: Mapping[str, Any], *, step: int) -> None:
        """Save `state` and the states of all global random streams.

        The state may hold tensors, numbers, text, NumPy arrays, paths and the plain containers of Python and
        `collections`. Types are kept. The newest two checkpoints are kept while the run is unfinished, each with its
        sha256. If the disk is full, the run continues and the previous checkpoint stays.

        Raises: Interrupted, after writing, if a stop was requested. SweepError at the first checkpoint if a part of the
        state cannot be restored; it names that part. A later checkpoint with such a part is skipped with a note.
        """
        self._saves = True
        self._look()
        if self.rehearsal or self.unsaveable:
            if self.stopping():
                raise Interrupted
            return
        rest = {
            "rng": seeding.get_rng_state(),
            "chain": dict(self.chain),
            "last": self.last,
            "seconds": time.monotonic() - self._begun + self.went_on.get("seconds_before", 0.0),
        }
        try:
            content = checkpoint.dump(state, rest, read_back=not self._kept and self.spec.target.kind == "function")
            self.attempt.write_checkpoint(step, content, rows=self._rows)
            self._kept = True
        except checkpoint.Unrestorable as error:
            if not self._kept:
                error.where = f"run.checkpoint of seed {self.seed}, step {step}"
                raise
            self.note(f"no checkpoint was saved at step {step}: {error}; the previous one is kept")
        except OSError as error:
            self.note(f"no checkpoint was saved at step {step}: {error.strerror or error}; the previous one is kept")
        self._epochs_since, self._saved_at = 0, time.monotonic()
        if self.stopping():
            raise Interrupted

    def _look(self) -> None:
        """Find out once, while the model exists, whether it draws from a stream that cannot be saved."""
        if self.unsaveable is not None:
            return
        own = self.spec.target.kind == "function"  # no built-in recipe has such a layer
        self.unsaveable = own and self.device == "cuda" and seeding.unsaveable()
        if self.unsaveable:
            self.note(
                "no checkpoint can hold cuDNN's random stream for dropout between recurrent layers, so "
                "an interrupted run starts from zero"
            )

    def restore(self) -> dict[str, Any] | None:
        """Return the newest valid checkpoint of this or an earlier attempt; None means start from zero.

        The global random streams and the history are restored to the time of the checkpoint.
        """
        self._saves = self.looked_back = True
        for path, about in self.attempt.checkpoints():
            if isinstance(about, str):
                self.note(f"{path.name} was skipped: {about}")
                continue
            try:
                body = checkpoint.load(path)
                state, rng, chain = body["state"], body["rng"], body["chain"]
                seeding.set_rng_state(rng)
            except Exception as error:
                self.note(f"{path.name} was skipped: it cannot be restored ({error})")
                continue
            self._rows = len(self.attempt.adopt_history(path.parent, about["rows"]))
            self.chain = dict(chain)
            self.last = dict(body["last"])
            self.went_on = {"resumed_at": about["step"], "seconds_before": round(body.get("seconds", 0.0), 3)}
            self.note(f"resumed from step {about['step']} of attempt {self.attempt.number - 1 or 1}")
            return dict(state)
        if self._rows:  # a pack that did not fit into memory restarts in the same attempt
            self.attempt.adopt_history(self.attempt.path, 0)
            self._rows, self.chain, self.last = 0, {}, {}
        if self.attempt.number > 1:
            self.attempt.adopt_history(self.attempt.path, 0)
            self.note(f"attempt {self.attempt.number} started from zero: there was no checkpoint to resume from")
        return None

    def digest(self, link: str, value: str) -> None:
        """Add a link to the digest chain of the run, for example ("epoch/3", sha256)."""
        self.chain[link] = value

    def result(self, rule: str, epoch: int | None, examples: Mapping[str, int] | None = None) -> None:
        """Record the epoch of the reported metrics and the rule that chose it: "final" or "best(val/…)".

        examples: the number of examples in each split.
        """
        self.outcome = {"rule": rule, "epoch": epoch, **({"examples": dict(examples)} if examples else {})}

    def note(self, text: str) -> None:
        """Add a note to the log, the record and the report."""
        self.notes.append(text)
        with suppress(OSError):  # the disk may be full, which is often the reason for the note; the record has it too
            self.attempt.log_text(text + "\n")


@contextmanager
def weighed(run: Run) -> Iterator[None]:
    """Add digests of the weights before the first and after the last optimizer step to the chain, if it has none.

    Runs of code that records no digests can then be compared too, if it uses a torch optimizer.
    """

    def link(name: str, value: Callable[[], str]) -> None:
        # After a resume from a checkpoint these are not the initial weights.
        if name == "initial" and name not in run.chain and not run.resumed:
            with suppress(TypeError):
                run.digest(name, value())

    with Steps(link) as steps:
        yield
    if "final" not in run.chain and (steps.count or not run.resumed):
        with suppress(TypeError):
            if found := steps.weights():
                run.digest("final", found)


def as_metrics(metrics: Any, *, where: str) -> dict[str, float]:
    """Return metrics as floats by name, from numbers, NumPy scalars or one-element tensors.

    Raises: MetricError for any other value, which it names.
    """
    if not isinstance(metrics, Mapping):
        raise MetricError(
            f"gave {checkpoint.described(metrics)}, not a dict of metrics", where=where,
            hint=RETURN,
        )  # fmt: skip
    out: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
            raise MetricError(f"{checkpoint.described(name)} is an invalid metric name", where=where)
        out[name] = _number(value, name, where)
    return out


def as_result(returned: Any, *, where: str) -> tuple[dict[str, float], list[str]]:
    """Return the metrics in the result of a training function, and notes on values that are not numbers.

    A bare number is called `score`. Names of nested dicts are joined by `/`.

    Raises: MetricError if the result has no metrics.
    """
    if not isinstance(returned, Mapping):
        if isinstance(returned, bool) or not hasattr(returned, "__float__") or isinstance(returned, (str, bytes)):
            return as_metrics(returned, where=where), []
        return {"score": _number(returned, "score", where)}, []
    numbers: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for name, value in flatten(returned):
        (words if value is None or isinstance(value, (str, bool)) else numbers)[name] = value
    metrics = as_metrics(numbers or words, where=where)
    return metrics, [f"{name} is not a number: {str(value)[:100]!r}" for name, value in words.items()]


def flatten(value: Mapping[Any, Any], above: str = "") -> Iterator[tuple[Any, Any]]:
    """Yield ("test/acc", 0.9) for {"test": {"acc": 0.9}}."""
    for key, inner in value.items():
        name = f"{above}/{key}" if above else key
        if isinstance(inner, Mapping) and inner:
            yield from flatten(inner, str(name))
        else:
            yield name, inner


def _number(value: Any, name: str, where: str) -> float:
    plain = value
    if hasattr(plain, "item") and getattr(plain, "ndim", 0) == 0:
        plain = plain.item()
    if isinstance(plain, (bool, complex, str, bytes)) or not hasattr(plain, "__float__") or hasattr(plain, "ndim"):
        raise MetricError(f"metric {name!r} is {checkpoint.described(value)}, not a number", where=where)
    return float(plain)


def _name(name: str, where: str) -> str:
    if not name.isidentifier() or len(name) > 60:
        raise SweepError(
            f"{name!r} is an invalid name", where=where, hint="use letters, digits and _, for example test"
        )
    return name


def stop_seen(path: Path, every: float = 0.02) -> Callable[[], bool]:
    """Return a function that returns whether the stop file of the launch exists, which every process sees.

    every: seconds between two checks, because a check at every step would cost about 2 % of a small step.
    """
    text = os.fspath(path)
    seen, due = False, 0.0

    def stop() -> bool:
        nonlocal seen, due
        now = time.monotonic()
        if not seen and now >= due:
            seen, due = os.path.exists(text), now + every
        return seen

    return stop
