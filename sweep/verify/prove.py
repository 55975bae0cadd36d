"""Prove: train a run several times, compare every link of the chains, and say what that shows."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from sweep.determinism.environment import Answer, Origin, Verdict, verdict
from sweep.errors import SweepError
from sweep.plan import RunSpec
from sweep.store import Failure, Record, atomic
from sweep.task import Place
from sweep.verify.chain import Difference, epochs, first_difference, unlike_metric
from sweep.verify.distance import Distance, distance
from sweep.verify.locate import Culprit, locate
from sweep.verify.process import Process
from sweep.verify.request import Request, Trained

Status = Literal["proven", "differs", "fast", "failed"]
PROCESSES = 2
POLL = 0.2


@dataclass(frozen=True)
class Proof:
    """What several trainings of one run showed.

    status: "proven" (all chains are equal), "differs", "fast" (equal bits were not promised; see distance), or
    "failed" (the run itself fails, alike in all of them). recorded: what the environments of the record and of
    this machine promise each other, where there is a record; its chain was compared only under MUST_MATCH.
    """

    status: Status
    spec: RunSpec
    trained: tuple[Trained, ...]
    difference: Difference | None = None
    culprit: Culprit | None = None
    distance: Distance | None = None
    recorded: Verdict | None = None

    @property
    def failure(self) -> Failure | None:
        return next((each.failure for each in self.trained if each.failure is not None), None)

    @property
    def evidence(self) -> str:
        """What was compared, in words: "2 processes and this one, 20 epochs, torch 2.13.0, 1 thread"."""
        first = self.trained[0]
        apart = [each for each in self.trained if each.where.startswith("process")]
        who = f"{len(apart)} process{'es' * (len(apart) != 1)}" + " and this one" * (len(apart) < len(self.trained))
        if self.recorded is not None and self.recorded.answer is Answer.MUST_MATCH:
            who += " and the record"
        far = f"{first.steps} step{'s' * (first.steps != 1)}" if first.stopped else _length(first)
        threads = first.environment.get("threads", self.spec.threads)
        where = [str(first.environment["gpu"])] if first.environment.get("gpu") else []
        return ", ".join(
            [who, far, f"torch {first.environment.get('torch', '?')}", *where,
             f"{threads} thread{'s' * (threads != 1)}"]
        )  # fmt: skip

    def __str__(self) -> str:
        if self.status == "proven":
            return f"bit-exact: proven ({self.evidence})"
        if self.status == "fast":
            return f"fast mode, equal bits not promised; {self.evidence}: apart by {self.distance}"
        if self.status == "failed":
            return f"nothing to compare: the run fails ({self.failure})"
        first = f"differs first at {self.difference}" if self.difference else "differs"
        return f"bit-exact: DIFFERS; {first}" + (f"; {self.culprit}" if self.culprit else "")

    def to_json(self) -> dict[str, Any]:
        body = {
            "status": self.status, "summary": str(self), "key": self.spec.key, "seed": self.spec.seed,
            "evidence": self.evidence, "deterministic": self.spec.deterministic,
            "difference": asdict(self.difference) if self.difference else None,
            "culprit": asdict(self.culprit) if self.culprit else None,
            "distance": asdict(self.distance) if self.distance else None,
            "recorded": self.recorded.to_json() if self.recorded else None,
            "failure": asdict(self.failure) if self.failure else None,
            "trained": [
                {k: v for k, v in each.to_json().items() if k in ("where", "chain", "metrics", "seconds", "steps")}
                for each in self.trained
            ],
            "environment": dict(self.trained[0].environment),
        }  # fmt: skip
        plain: dict[str, Any] = atomic.strict(body)
        return plain


def _length(first: Trained) -> str:
    count = epochs(first.chain)
    if count:
        return f"{count} epoch{'s' * (count != 1)}"
    weights = any(link == "final" for link in first.chain)
    return "the whole run" if weights else "the metrics of the whole run"


def prove(
    spec: RunSpec,
    place: Place,
    *,
    steps: int | None = None,
    processes: int = PROCESSES,
    here: bool = True,
    record: Record | None = None,
    find: bool = True,
    limit: float | None = None,
) -> Proof:
    """Train `spec` in `processes` processes of their own, and here; compare what they leave behind.

    steps: only so many; None: to the end. record: what a sweep recorded of this run; it is compared too.
    The second process fills new memory, which deterministic mode otherwise leaves as it is: equal bits show that
    nothing reads what it did not write. find: on a difference, train again and look into every module.
    limit: seconds that they may train.

    Raises: SweepError when a process ends without an answer, or not in time.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-verify-") as scratch, ExitStack() as stack:
        root = Path(scratch)

        def request(name: str, *, fill: bool = False) -> Request:
            where = replace(place, fill_memory=fill or place.fill_memory)
            return Request(spec, where, path=str(root / name), steps=steps)

        running = []
        trained: list[Trained] = []
        for number in range(1, processes + 1):
            asked = request(f"process-{number}", fill=number == 2)
            running.append(stack.enter_context(Process(asked, where=f"process {number}")))
            if spec.device == "cuda":  # one after the other: they share its memory
                trained.append(_answer(running[-1], limit))
        if here and spec.target.kind != "command":
            from sweep.verify.rehearse import rehearse  # only who trains loads torch

            folder = os.getcwd()
            try:
                trained.append(rehearse(request("here")))
            finally:
                os.chdir(folder)
        if spec.device != "cuda":
            trained[:0] = [_answer(process, limit) for process in running]
        return _judged(spec, tuple(trained), record, request("watched"), root, find=find)


def _answer(process: Process, limit: float | None) -> Trained:
    started: float | None = None
    while (made := process.wait(None if limit is None else POLL)) is None:
        started = time.monotonic() if started is None and process.started else started
        if limit is not None and started is not None and time.monotonic() - started > limit:
            raise SweepError(f"{process.where} was not done after {limit:g} s")
    return made


def _judged(
    spec: RunSpec, trained: tuple[Trained, ...], record: Record | None, request: Request, root: Path,
    *, find: bool,
) -> Proof:  # fmt: skip
    promised = None if record is None else verdict(origin_of(spec, trained[0]), origin_of_record(record))
    failures = {str(each.failure) for each in trained}
    if all(each.failure is not None for each in trained) and len(failures) == 1:
        return Proof("failed", spec, trained, recorded=promised)
    chains = [(each.where, each.chain) for each in trained]
    found = _first_of(chains)
    if found is None and record is not None and promised is not None and promised.answer is Answer.MUST_MATCH:
        between = ("the record", trained[0].where)
        found = first_difference(record.digests, trained[0].chain, common=True, between=between)
        if found is None and not trained[0].stopped:
            found = unlike_metric(record.metrics, trained[0].metrics, between=between)
    if not spec.deterministic:
        pair = [t for t in trained if t.where.startswith("process")][:2]
        apart = distance(pair[0].metrics, pair[1].metrics, Path(pair[0].folder), Path(pair[1].folder))
        return Proof("fast", spec, trained, found, distance=apart, recorded=promised)
    if found is None:
        return Proof("proven", spec, trained, recorded=promised)
    culprit = locate(request, where=root) if find and spec.target.kind != "command" else None
    return Proof("differs", spec, trained, found, culprit, recorded=promised)


def _first_of(chains: Sequence[tuple[str, Mapping[str, str]]]) -> Difference | None:
    """The earliest difference between any two of the chains."""
    for (name_a, a), (name_b, b) in combinations(chains, 2):
        found = first_difference(a, b, between=(name_a, name_b))
        if found is not None:
            return found
    return None


def origin_of(spec: RunSpec, trained: Trained) -> Origin:
    """Where the bits of a training came from, for the verdict."""
    return Origin(spec.id, trained.environment, spec.deterministic, spec.to_json())


def origin_of_record(record: Record) -> Origin:
    """The same for a record."""
    return Origin(record.spec_id, record.environment, bool(record.spec["deterministic"]), record.spec)
