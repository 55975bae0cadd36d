"""The audit of a run: randomness that its seed does not control, and what each stream affects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sweep.errors import SweepError
from sweep.job import Job
from sweep.plan import RunSpec
from sweep.verify.chain import first_difference, words
from sweep.verify.process import Process, Request, Trained
from sweep.words import plural

STEPS = 3
# Each ambient generator and its name in reports.
AMBIENT = {"random": "Python's random", "numpy": "numpy.random", "torch": "torch's global generator"}
_CALL = ("what", "where", "argument")


@dataclass(frozen=True)
class Audit:
    """The result of an audit. findings: the problems, in words. streams: what each affects first, or "nothing"."""

    key: str
    steps: int
    findings: tuple[str, ...]
    streams: Mapping[str, str]

    def __str__(self) -> str:
        many = len(self.findings)
        lines = [f"{self.key}: {many or 'no'} finding{'s' * (many != 1)} in {plural(self.steps, 'step')}"]
        lines += [f"  ! {finding}" for finding in self.findings]
        lines += ["the first thing that changes if only this is reseeded:"]
        return "\n".join([*lines, *(f"  {name:<26} {what}" for name, what in self.streams.items())])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def audit(spec: RunSpec, job: Job) -> Audit:
    """Train a few steps, then again with only the seed, one stream or one ambient generator changed.

    Raises: SweepError for a command, which cannot be audited, or if the run fails.
    """
    if spec.target.kind == "command":
        raise SweepError("a command cannot be audited", where="--audit", hint="audit a recipe or a function")
    asked = Request(spec, job, STEPS)
    with (
        Process(asked, where="process 1") as one,
        Process(asked, where="process 2", function="sweep.verify.probes:explore") as two,
    ):
        first, second = one.wait(), two.wait()
    for made in (first, second):
        if made.failure is not None:
            raise SweepError(f"the run failed: {made.failure}", where=spec.key)
    changed = {entry["what"]: entry["chain"] for entry in second.found if entry["kind"] == "changed"}
    streams = {_name(what): _decides(second.chain, chain) for what, chain in changed.items()}
    return Audit(spec.key, first.steps, tuple(_findings(first, second, changed["seed"])), streams)


def _name(what: str) -> str:
    return "the seed" if what == "seed" else AMBIENT.get(what, f"stream {what}")


def _decides(base: Mapping[str, str], other: Mapping[str, str]) -> str:
    if "failure" in other:
        return f"a failure: {other['failure']}"
    found = first_difference(base, other)
    return words(found.link) if found else "nothing"


def _findings(first: Trained, second: Trained, other_seed: Mapping[str, str]) -> Iterable[str]:
    kinds: dict[str, dict[tuple[Any, ...], Mapping[str, Any]]] = defaultdict(dict)
    for entry in second.found:
        kinds[entry["kind"]][tuple(map(entry.get, _CALL))] = entry
    differs = first_difference(first.chain, second.chain, between=(first.where, second.where))
    if differs is not None:
        yield f"two runs of the same seed differ first at {differs}"
    for what, where, _ in kinds["unseeded"]:
        yield f"{what} is used without a seed at {where}, so the seed of the run does not control it"
    if differs is not None:
        for what, where, _ in kinds["clock"]:
            yield f"{what} is read at {where}"
    for call in kinds["seeded"]:
        if call in kinds["seeded elsewhere"]:
            what, where, argument = call
            yield f"{what}({argument}) at {where} is the same for every seed"
    yield from _loaders(second.found)
    if differs is None and first_difference(second.chain, other_seed) is None:
        yield "another seed gives the same weights, so the seed has no effect"


def _loaders(found: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield a finding for each generator with the same state in several workers of a loader."""
    workers: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for entry in found:
        if entry["kind"] == "worker":
            workers[entry["what"]][entry["state"]].add(entry["worker"])
    for what, by_state in workers.items():
        most = max(map(len, by_state.values()))
        if most > 1:
            yield f"{what} has the same state in {most} loader workers, so their examples get the same random numbers"
