"""The proof that the bits of a run repeat: it is trained several times, and all links of the chains are compared."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from sweep.determinism.environment import Answer, Verdict, verdict
from sweep.errors import SweepError
from sweep.job import Job
from sweep.plan import RunSpec
from sweep.store import Failure, Record
from sweep.store.record import origin_of
from sweep.verify.chain import Difference, Distance, distance, epochs, first_difference, unlike_metric
from sweep.verify.process import Process, Request, Trained, as_json
from sweep.words import plural

if TYPE_CHECKING:
    from sweep.verify.locate import Culprit

PROCESSES = 2


@dataclass(frozen=True)
class Proof:
    """The result of several trainings of one run.

    status: "proven" (all chains are equal), "differs", "fast" (equal bits were not promised; see distance), or
    "failed" (the run fails in the same way each time). recorded: the verdict on the environments of the record and of
    this machine, if there is a record; its chain is compared only under MUST_MATCH.
    """

    status: Literal["proven", "differs", "fast", "failed"]
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
        """Return the evidence, such as "2 processes and this one, 20 epochs, torch 2.13.0, 1 thread"."""
        first = self.trained[0]
        equal = [f"{PROCESSES} processes", *["this one"] * (len(self.trained) > PROCESSES)]
        if self.recorded is not None and self.recorded.answer is Answer.MUST_MATCH:
            equal.append("the record")
        who = " and ".join(filter(None, (", ".join(equal[:-1]), equal[-1])))
        if first.stopped:
            far = plural(first.steps, "step")
        elif epochs(first.chain):
            far = plural(epochs(first.chain), "epoch")
        else:
            far = "the whole run" if "final" in first.chain else "the metrics of the whole run"
        gpu = first.environment.get("gpu")
        threads = plural(first.environment.get("threads", self.spec.threads), "thread")
        found = (who, far, f"torch {first.environment.get('torch', '?')}", str(gpu or ""), threads)
        return ", ".join(filter(None, found))

    def __str__(self) -> str:
        if self.status == "proven":
            return f"bit-exact: proven ({self.evidence})"
        if self.status == "fast":
            return f"fast mode does not promise equal bits; {self.distance} ({self.evidence})"
        if self.status == "failed":
            return f"nothing to compare: the run failed ({self.failure})"
        return f"bit-exact: DIFFERS first at {self.difference}" + (f"; {self.culprit}" if self.culprit else "")

    def to_json(self) -> dict[str, Any]:
        return as_json(
            status=self.status, summary=str(self), key=self.spec.key, seed=self.spec.seed, evidence=self.evidence,
            deterministic=self.spec.deterministic, difference=self.difference, culprit=self.culprit,
            distance=self.distance, recorded=self.recorded, failure=self.failure,
            trained=[
                {key: getattr(each, key) for key in ("where", "chain", "metrics", "seconds", "steps")}
                for each in self.trained
            ],
            environment=self.trained[0].environment,
        )  # fmt: skip


def prove(
    spec: RunSpec,
    job: Job,
    *,
    steps: int | None = None,
    here: bool = True,
    record: Record | None = None,
    find: bool = True,
) -> Proof:
    """Train `spec` in two processes of their own, and in this one if `here`, and compare the results.

    steps: number of steps; None: to the end. record: the record of this run in a sweep, which is also compared.
    The second process fills new memory, which deterministic mode otherwise does not. Equal bits then show that no code
    reads memory before writing it. find: if there is a difference, train again to find the module.

    Raises: SweepError if a process ends without an answer, or exceeds the time limit of `job`.
    """
    asked = Request(spec, job, steps)
    filled = replace(asked, job=replace(job, fill_memory=True))
    with ExitStack() as stack:
        # On a GPU they train one after the other, because they share its memory.
        in_turn = spec.device == "cuda"
        first = stack.enter_context(Process(asked, where="process 1"))
        second = stack.enter_context(Process(filled, where="process 2", held=in_turn))
        if in_turn:
            first.wait()
            second.begin()
        own: list[Trained] = []
        if here and spec.target.kind != "command":
            from sweep.verify.rehearse import rehearse  # imported here, because it loads torch

            own.append(rehearse(asked, Path(stack.enter_context(TemporaryDirectory(prefix="sweep-verify-")))))
        trained = (first.wait(), second.wait(), *own)
        late = next((each for each in trained if each.failure is not None and each.failure.kind == "timeout"), None)
        if late is not None:
            raise SweepError(f"{late.where} did not finish: {late.failure}")
        proof = _judged(spec, trained, record)
    if proof.status == "differs" and find and spec.target.kind != "command":
        from sweep.verify.locate import locate

        proof = replace(proof, culprit=locate(asked))
    return proof


def _judged(spec: RunSpec, trained: tuple[Trained, ...], record: Record | None) -> Proof:
    first = trained[0]
    promised = None if record is None else verdict(first.origin(spec), origin_of(record))
    if first.failure is not None and all(str(each.failure) == str(first.failure) for each in trained):
        return Proof("failed", spec, trained, recorded=promised)
    pairs = combinations(trained, 2)
    differ = (first_difference(a.chain, b.chain, between=(a.where, b.where)) for a, b in pairs)
    found = next(filter(None, differ), None)
    if found is None and record is not None and promised is not None and promised.answer is Answer.MUST_MATCH:
        between = ("the record", first.where)
        found = first_difference(record.digests, first.chain, common=True, between=between)
        if found is None and not first.stopped:
            found = unlike_metric(record.metrics, first.metrics, between=between)
    if not spec.deterministic:
        a, b = trained[:PROCESSES]
        return Proof("fast", spec, trained, found, distance=distance(a.metrics, b.metrics), recorded=promised)
    if found is None:  # equal in all steps that were trained
        failed = any(each.failure is not None for each in trained)
        return Proof("failed" if failed else "proven", spec, trained, recorded=promised)
    return Proof("differs", spec, trained, found, recorded=promised)
