"""The reproduction of a recorded run: it is trained again, and each link of its chain is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.determinism.environment import Answer, Verdict, short, verdict
from sweep.errors import StoreError
from sweep.store.record import origin_of
from sweep.verify.chain import Difference, Distance, distance, epochs, first_difference, unlike_metric
from sweep.verify.process import Process, Request, Trained, as_json
from sweep.verify.subject import Subject
from sweep.words import plural

_MEANING = {
    Answer.MUST_MATCH: "same software, hardware and settings: equal bits are promised",
    Answer.MAY_MATCH: "equal bits are likely, not promised",
    Answer.NOT_EXPECTED: "equal bits are not expected",
    Answer.DIFFERENT_EXPERIMENT: "not the same experiment",
    Answer.UNKNOWN: "not enough is known to promise anything",
}


@dataclass(frozen=True)
class Reproduction:
    """A recorded run and its new training. difference: the first link that differs, or None.

    compared: number of links. verdict: on their environments. distance: between their metrics.
    """

    key: str
    seed: int
    trained: Trained
    verdict: Verdict
    compared: int
    difference: Difference | None
    distance: Distance

    @property
    def equal(self) -> bool:
        return self.difference is None and self.compared > 0

    @property
    def broken(self) -> bool:
        """Return whether equal bits were promised but not reproduced."""
        return not self.equal and self.verdict.answer is Answer.MUST_MATCH

    def __str__(self) -> str:
        far = epochs(self.trained.chain)
        if self.equal:
            compared = f"{plural(far, 'epoch')}, " * bool(far) + f"{self.compared} digests compared"
            head = f"{self.key}: reproduced, bit for bit ({compared})"
        elif self.trained.failure is not None:
            head = f"{self.key}: not reproduced; it failed this time ({self.trained.failure})"
        elif not self.compared:
            head = f"{self.key}: the record has no digests to compare; {self.distance}"
        else:
            head = f"{self.key}: not the same bits; the first difference is in {self.difference}; {self.distance}"
        lines = [head, f"verdict: {self.verdict.answer} ({_MEANING[self.verdict.answer]})"]
        lines += [f"  {name}: {short(then)} then, {short(now)} now" for name, then, now in self.verdict.fields]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return as_json(
            key=self.key, equal=self.equal, broken=self.broken, compared=self.compared, difference=self.difference,
            verdict=self.verdict, distance=self.distance, chain=self.trained.chain, metrics=self.trained.metrics,
            environment=self.trained.environment,
        )  # fmt: skip


def reproduce(subject: Subject) -> Reproduction:
    """Train a recorded run again, in a process of its own.

    Raises: SweepError if the process ends without an answer.
    """
    record = subject.record
    if record is None:
        raise StoreError("there is no record to reproduce", where=subject.spec.key)
    with Process(Request(subject.spec, subject.job), where="this training") as process:
        trained = process.wait()
    between = ("the record", trained.where)
    ours = {link: value for link, value in trained.chain.items() if link in record.digests}
    apart = distance(record.metrics, trained.metrics)
    found = first_difference(record.digests, ours, between=between)
    if record.digests and found is None:  # the chain of a function may hold only its weights, and not its evaluation
        found = unlike_metric(record.metrics, trained.metrics, between=between)
    equal_metrics = trained.failure is None and not apart.metrics and bool(record.metrics)
    compared = len(ours) if record.digests else int(equal_metrics)
    promised = verdict(origin_of(record), trained.origin(subject.spec))
    return Reproduction(subject.spec.key, subject.spec.seed, trained, promised, compared, found, apart)
