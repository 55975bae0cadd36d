"""Reproduce: train a recorded run again and compare every link of its chain with the record."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sweep.determinism.environment import Answer, Verdict, verdict
from sweep.errors import StoreError
from sweep.store import atomic
from sweep.verify.chain import Difference, epochs, first_difference, unlike_metric
from sweep.verify.distance import Distance, distance
from sweep.verify.process import Process
from sweep.verify.prove import origin_of, origin_of_record
from sweep.verify.request import Request, Trained
from sweep.verify.subject import Subject


@dataclass(frozen=True)
class Reproduction:
    """A recorded run beside its new training. difference: the first link that is not equal, or None.

    compared: how many links; verdict: what their environments promise; distance: between their metrics.
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
        """A promise was made, and is not kept."""
        return not self.equal and self.verdict.answer is Answer.MUST_MATCH

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        count = epochs(self.trained.chain)
        far = f"{count} epoch{'s' * (count != 1)}, " if count else ""
        if self.equal:
            head = f"{self.key}: reproduced, bit for bit ({far}{self.compared} digests compared)"
        elif self.trained.failure is not None:
            head = f"{self.key}: not reproduced; it failed this time ({self.trained.failure})"
        elif not self.compared:
            head = f"{self.key}: the record holds no digest to compare; metrics apart by {self.distance}"
        else:
            head = f"{self.key}: not the same bits; differs first at {self.difference}; apart by {self.distance}"
        lines = [head, f"verdict: {self.verdict.answer} ({_MEANING[self.verdict.answer]})"]
        lines += [f"  {name}: {_short(then)} then, {_short(now)} now" for name, then, now in self.verdict.fields]
        return lines

    def to_json(self) -> dict[str, Any]:
        body = {
            "key": self.key, "equal": self.equal, "broken": self.broken, "compared": self.compared,
            "difference": asdict(self.difference) if self.difference else None,
            "verdict": self.verdict.to_json(), "distance": asdict(self.distance),
            "chain": dict(self.trained.chain), "metrics": dict(self.trained.metrics),
            "environment": dict(self.trained.environment),
        }  # fmt: skip
        plain: dict[str, Any] = atomic.strict(body)
        return plain


_MEANING = {
    Answer.MUST_MATCH: "same software, hardware and settings: equal bits are promised",
    Answer.MAY_MATCH: "equal bits are likely, not promised",
    Answer.NOT_EXPECTED: "equal bits are not expected",
    Answer.DIFFERENT_EXPERIMENT: "not the same experiment",
    Answer.UNKNOWN: "not enough is known to promise anything",
}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else atomic.dumps(value, indent=None)
    return text if len(text) <= 60 else text[:57] + "..."


def reproduce(subject: Subject) -> Reproduction:
    """Train the run of a directory again, in a process of its own.

    Raises: SweepError when the process ends without an answer.
    """
    record = subject.record
    if record is None:
        raise StoreError("there is no record to reproduce", where=subject.spec.key)
    with tempfile.TemporaryDirectory(prefix="sweep-reproduce-") as scratch:
        request = Request(subject.spec, replace(subject.place, path=""), path=str(Path(scratch) / "process"))
        with Process(request, where="this training") as process:
            trained = process.wait()
        assert trained is not None
        promised = verdict(origin_of_record(record), origin_of(subject.spec, trained))
        shared = {link for link in record.digests if link in trained.chain}
        links = {link: record.digests[link] for link in record.digests}
        ours = {link: value for link, value in trained.chain.items() if link in links}
        found = first_difference(links, ours, between=("the record", "this training")) if links else None
        if links and found is None:  # of a function the chain may hold its weights alone, and not how it tested them
            found = unlike_metric(record.metrics, trained.metrics, between=("the record", "this training"))
        apart = distance(record.metrics, trained.metrics)
        equal_metrics = not links and trained.failure is None and not apart.metrics and bool(record.metrics)
        compared = len(shared) if links else int(equal_metrics)
        return Reproduction(subject.spec.key, subject.spec.seed, trained, promised, compared, found, apart)
