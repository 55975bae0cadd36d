"""Audit: what of a run's randomness its seed does not control, and what each stream decides."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.errors import SweepError
from sweep.plan import STREAMS, RunSpec
from sweep.task import Place
from sweep.verify.chain import first_difference, words
from sweep.verify.process import Process
from sweep.verify.request import Request, Trained

STEPS = 3
AMBIENT = {"random": "Python's random", "numpy": "numpy.random", "torch": "torch's global generator"}


@dataclass(frozen=True)
class Audit:
    """findings: what is wrong, in words; streams: what each decides first, or "nothing"."""

    key: str
    steps: int
    findings: tuple[str, ...]
    streams: Mapping[str, str]

    def __str__(self) -> str:
        head = (
            f"{self.key}: {len(self.findings) or 'no'} finding{'s' * (len(self.findings) != 1)} in {self.steps} steps"
        )
        lines = [
            head,
            *(f"  ! {finding}" for finding in self.findings),
            "what changes first when it is reseeded alone:",
        ]
        return "\n".join([*lines, *(f"  {name:<26} {what}" for name, what in self.streams.items())])

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key, "steps": self.steps, "findings": list(self.findings), "streams": dict(self.streams),
        }  # fmt: skip


def audit(spec: RunSpec, place: Place, *, steps: int = STEPS) -> Audit:
    """Train a few steps, then again with the seed, each stream and each ambient generator changed alone.

    Raises: SweepError for a command, which cannot be looked into, or when the run fails.
    """
    if spec.target.kind == "command":
        raise SweepError("a program cannot be looked into", where="--audit", hint="audit a recipe or a function")
    with tempfile.TemporaryDirectory(prefix="sweep-audit-") as scratch:
        asked = Request(spec, place, path=str(Path(scratch) / "a"), steps=steps, task="audit")
        names = ("seed", *STREAMS, *AMBIENT)
        again = Request(spec, place, path=str(Path(scratch) / "b"), steps=steps, task="audit", perturb=names)
        with Process(asked, where="process 1") as one, Process(again, where="process 2") as two:
            first, second = one.wait(), two.wait()
    assert first is not None
    assert second is not None
    for made in (first, second):
        if made.failure is not None:
            raise SweepError(f"the run fails: {made.failure}", where=spec.key)
    changed = {entry["what"]: entry["chain"] for entry in second.found if entry["kind"] == "changed"}
    streams = {_name(what): _decides(second.chain, chain) for what, chain in changed.items()}
    return Audit(spec.key, first.steps, tuple(_findings(first, second, changed)), streams)


def _name(what: str) -> str:
    if what == "seed":
        return "the seed"
    return AMBIENT.get(what) or f"stream {what}"


def _decides(base: Mapping[str, str], other: Mapping[str, str]) -> str:
    if "failure" in other:
        return f"a failure: {other['failure']}"
    found = first_difference(base, other)
    return words(found.link) if found else "nothing"


def _findings(first: Trained, second: Trained, changed: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    differs = first_difference(first.chain, second.chain)
    if differs is not None:
        yield f"two runs of the same seed differ first at {differs}"
    for entry in _distinct(second.found, "unseeded"):
        yield f"{entry['what']} without a seed at {entry['where']}: no seed controls it"
    if differs is not None:
        for entry in _distinct(second.found, "clock"):
            yield f"{entry['what']} is read at {entry['where']}"
    elsewhere = {(e["what"], e["where"], e["argument"]) for e in second.found if e["kind"] == "seeded elsewhere"}
    for entry in _distinct(second.found, "seeded"):
        if (entry["what"], entry["where"], entry["argument"]) in elsewhere:
            yield f"{entry['what']}({entry['argument']}) at {entry['where']}: the same for every seed"
    yield from _loaders(second.found)
    if differs is None and first_difference(second.chain, changed["seed"]) is None:
        yield "another seed gives the same weights: the seed has no effect"


def _distinct(found: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return list({(e["what"], e["where"]): e for e in found if e["kind"] == kind}.values())


def _loaders(found: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Generators that stand at the same state in several workers of one loader."""
    states: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for entry in found:
        if entry["kind"] == "worker":
            states[entry["what"]][entry["state"]].add(entry["worker"])
    for what, by_state in states.items():
        most = max(len(workers) for workers in by_state.values())
        if most > 1:
            yield f"{what} is the same in {most} loader workers: their examples get the same random numbers"
