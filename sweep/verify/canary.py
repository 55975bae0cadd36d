"""The proof that a launch makes of a deterministic sweep: a few steps of its first run, twice, before it trains.

After it, where that is cheap, a whole run of it once more: only that proves anything of what a run does at its end.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweep.determinism.environment import Answer, Origin, verdict
from sweep.errors import EnvironmentRefused, SweepError
from sweep.job import Job
from sweep.plan import Plan, RunSpec
from sweep.store import Record, Store
from sweep.store.record import origin_of
from sweep.target.source import built_in
from sweep.verify.chain import first_difference, words
from sweep.verify.prove import Proof, prove
from sweep.verify.reproduce import reproduce
from sweep.verify.stamp import WHOLE, after, again, only_sampled, stamp_of, unchecked
from sweep.verify.subject import Subject, job_as_of

STEPS = 5
LIMIT = {"recipe": 120.0, "function": 45.0}  # seconds of training; a function may make no steps that are seen
HOW = "canary"
SHORT = 10.0  # seconds of training up to which a whole run is trained once more after the sweep


@dataclass
class Canary:
    """What a launch asks before and after its work; keeps the stamp in the directory's sweep.json.

    local: runs train on this machine. Elsewhere the environment may be another, and then only the records tell.
    """

    plan: Plan
    local: bool = True
    proof: Proof | None = None
    stamp: dict[str, Any] = field(default_factory=dict)
    job: Job = field(default_factory=Job)
    earlier: Mapping[str, Any] = field(default_factory=dict)  # the stamp that was there when this launch began
    done: frozenset[str] = frozenset()  # the runs, by their specs, that were finished then

    def before(self, store: Store, job: Job) -> Iterator[str]:
        """Prove a few steps, and stamp the directory.

        Raises: EnvironmentRefused when finished runs were made in an environment whose bits are not to be
        expected here.
        """
        self.job = replace(job, timeout=None, own_process=False)
        self.earlier = store.manifest.stamp
        done = _finished(store)
        self.done = frozenset(record.spec_id for record in done)
        spec = next(iter(self.plan))
        if spec.target.kind == "command":
            self._keep(store, unchecked("a command cannot be run for a few steps; sweep verify does it whole", how=HOW))
            return
        yield (
            f"canary: trains the first {STEPS} steps of {spec.key} twice before the sweep, in processes of their own; "
            "run.rehearsal is true there, and nothing of it is kept"
        )
        begun = time.monotonic()
        try:
            limited = replace(self.job, timeout=LIMIT[spec.target.kind], own_process=True)
            proof = self.proof = prove(spec, limited, steps=STEPS, here=False, find=False)
        except SweepError as error:
            yield self._keep(store, unchecked(str(error), how=HOW))
            return
        found = "equal bits" if proof.status == "proven" else proof.status
        yield f"canary: {found}, after {time.monotonic() - begun:.1f} s"
        if self.local and proof.status != "failed":
            _require_environment(proof.trained[0].origin(spec), done)
        whole = (self.earlier.get("status"), self.earlier.get("extent")) == ("proven", WHOLE)
        if proof.status == "proven" and done and whole:
            self.stamp = dict(self.earlier)  # what was proven still holds: keep the longer proof
            return
        self._keep(store, stamp_of(proof, how=HOW, runs=len(self.plan)))
        if proof.status == "differs":
            yield f"{proof}; the report will say so, and sweep verify names the layer"

    def after(self, store: Store) -> Iterator[str]:
        """Compare the records of the sweep with what the canary saw, then with whole runs trained once more."""
        yield from self._compared(store)
        if not self.local or self.stamp.get("status") not in ("sampled", "proven"):
            return
        records = _finished(store)
        if self.stamp["status"] == "proven":  # by an earlier launch, which had not seen what this one resumed
            records = [each for each in records if each.spec_id not in self.done]
        for record in self._to_repeat(records):
            if not (yield from self._repeated(store, record)):
                return

    def _to_repeat(self, records: Sequence[Record]) -> list[Record]:
        """Return the shortest run that shows most, and one that was resumed from a checkpoint, if that is another.

        Only a run that was not the first in its process shows what those before it do to it, and only a resumed one
        what its checkpoint lacks.
        """
        # A run that differed before is the one to ask again.
        suspect = self.earlier.get("key") if self.earlier.get("status") == "differs" else None
        records = sorted(
            records, key=lambda r: (RunSpec.from_json(r.spec).key != suspect, not _resumed(r), seconds_of(r))
        )
        first = [r for r in records if _telling(r)][:1] if self.stamp["status"] == "sampled" else []
        second = [r for r in records if _resumed(r)][:1] if not any(map(_resumed, first)) else []
        # One that was resumed says nothing if nothing else was found: it may be the first of its process.
        return first + second if first or self.stamp["status"] == "proven" else []

    def _repeated(self, store: Store, record: Record) -> Generator[str, None, bool]:
        """Train a recorded run whole once more and stamp what that shows; return whether it has the same bits."""
        key = RunSpec.from_json(record.spec).key
        spec = next((each for each in self.plan.of_seed(record.spec["seed"]) if each.key == key), None)
        if spec is None:
            return False
        if seconds_of(record) > SHORT:
            why = f"{key} takes {seconds_of(record):.0f} s, sweep verify trains one again"
        else:
            yield f"canary: trains {key} whole once more, about {seconds_of(record):.0f} s"
            try:
                made = reproduce(Subject(spec, job_as_of(record, self.job), store, record))
            except SweepError as error:
                why = f"{key} could not be trained again ({error})"
            else:
                if made.equal or made.broken:
                    said = self._keep(store, again(self.stamp, made))
                if made.broken:
                    yield said
                return made.equal
        if _resumed(record) and self.stamp["status"] == "proven":
            at = record.context.get("resumed_at")
            self._keep(store, only_sampled(self.stamp, f"{key} was resumed at step {at} and not trained again"))
        yield f"bit-exact: {self.stamp['status']}; {why}"
        return False

    def _compared(self, store: Store) -> Iterator[str]:
        """Compare the record of the canary's run with what the canary saw."""
        proof = self.proof
        if proof is None or proof.status != "proven" or self.stamp.get("how") != HOW:
            return
        record = store.member(proof.spec.key).record
        if record is None or record.status != "ok":
            return
        seen = proof.trained[0]
        promised = verdict(origin_of(record), seen.origin(proof.spec))
        fields = [name for name, *_ in promised.fields]
        if promised.answer is not Answer.MUST_MATCH and set(fields) != {"hash_seed"}:
            why = f"the canary ran in another environment than the sweep: {', '.join(fields)}"
            yield self._keep(store, {**self.stamp, **unchecked(why, how=HOW)})
            return
        found = first_difference(record.digests, seen.chain, common=True, between=(proof.spec.key, "the canary"))
        if found is not None:
            summary = f"DIFFERS ({proof.spec.key} and the canary: first at {found})"
            yield self._keep(store, {**self.stamp, "status": "differs", "summary": summary, "difference": str(found)})
            return
        links = [words(link) for link in record.digests if link in seen.chain]
        if links:
            listed = " and ".join(filter(None, (", ".join(links[:-1]), links[-1])))
            said = f"{self.stamp['summary'].removesuffix(')')}; {listed} equal in the sweep's worker)"
            self._keep(store, {**self.stamp, "summary": said, "processes": self.stamp["processes"] + 1})

    def _keep(self, store: Store, stamp: Mapping[str, Any]) -> str:
        """Keep a stamp in the directory; return what it says as a line for the screen."""
        # What this launch itself found is replaced; what an earlier one found, may have to stay.
        self.stamp = dict(stamp)
        store.stamp(after(self.earlier, stamp))
        return f"bit-exact: {stamp['summary']}"


def seconds_of(record: Record) -> float:
    """Return how long a run trained, in all attempts that its result comes from."""
    return record.seconds + float(record.context.get("seconds_before", 0.0))


def _finished(store: Store) -> list[Record]:
    return [m.record for m in store.scan() if m.record is not None and m.record.status == "ok"]


def _resumed(record: Record) -> bool:
    """Return whether a run continued from a checkpoint of an earlier attempt."""
    return "resumed_at" in record.context


def _telling(record: Record) -> bool:
    """Return whether a repeat of this run shows what a process that trained others before does to it.

    A forked process is the same whoever went before; a recipe of ours was to be preceded by another run. User code
    that shares a process with other runs is never called proven.
    """
    if record.context.get("process") == "forked":
        return True
    ours = record.spec["target"]["kind"] == "recipe" and built_in(record.spec["target"]["reference"])
    return ours and record.context.get("first_in_process") is False


def _require_environment(here: Origin, done: Sequence[Record]) -> None:
    """Refuse to add runs where equal bits are not to be expected here and of a finished run.

    Raises: EnvironmentRefused.
    """
    for record in done:  # other seeds and variants are other experiments, in what may be the same environment
        found = verdict(*(replace(each, spec_id="x", spec={}) for each in (origin_of(record), here)))
        if found.answer is Answer.NOT_EXPECTED:
            fields = "; ".join(f"{name}: {then} then, {now} now" for name, then, now in found.fields)
            raise EnvironmentRefused(
                f"finished runs of this deterministic sweep were made in another environment ({fields})",
                hint="resume it where they were made, or start again with another --out",
            )  # fmt: skip
