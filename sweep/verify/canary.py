"""Canary: before a deterministic sweep trains, a few steps of its first run, twice, in other processes.

After it, where that is cheap, a whole run of it once more: only that proves anything of what a run does at its end.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweep.determinism.environment import Answer, verdict
from sweep.errors import EnvironmentRefused, SweepError
from sweep.launch import Event, Said
from sweep.plan import RunSpec
from sweep.prepare import Prepared
from sweep.source import built_in
from sweep.store import Record, Store
from sweep.task import Place
from sweep.verify.chain import first_difference, words
from sweep.verify.prove import Proof, origin_of, origin_of_record, prove
from sweep.verify.reproduce import reproduce
from sweep.verify.stamp import WHOLE, after, again, only_sampled, stamp_of, unchecked
from sweep.verify.subject import Subject

STEPS = 5
LIMIT = {"recipe": 120.0, "function": 45.0}  # seconds of training; a function may make no steps that are seen
HOW = "canary"
SHORT = 10.0  # seconds of training up to which a whole run is trained once more after the sweep


@dataclass
class Canary:
    """What a launch asks before and after its work; keeps the stamp in the directory's sweep.json.

    local: runs train on this machine. Elsewhere the environment may be another, and then only the records tell.
    """

    prepared: Prepared
    local: bool = True
    proof: Proof | None = None
    stamp: dict[str, Any] = field(default_factory=dict)
    place: Place | None = None
    before_us: dict[str, Any] | None = None  # the stamp that was there when this launch began
    done: frozenset[str] = frozenset()  # the runs, by their specs, that were finished then

    def before(self, store: Store, place: Place) -> Iterator[Event]:
        """Prove a few steps, and stamp the directory.

        Raises: EnvironmentRefused when finished runs were made in an environment whose bits are not to be
        expected here.
        """
        self.place = place
        done = [m.record for m in store.scan() if m.record is not None and m.record.status == "ok"]
        self.done = frozenset(record.spec_id for record in done)
        spec = next(iter(self.prepared.plan))
        if spec.target.kind == "command":
            self._keep(store, unchecked("a command cannot be run for a few steps; sweep verify does it whole", how=HOW))
            return
        yield Said(
            f"canary: trains the first {STEPS} steps of {spec.key} twice before the sweep, in processes of their own; "
            "run.rehearsal is true there, and nothing of it is kept"
        )
        begun = time.monotonic()
        try:
            self.proof = prove(
                spec, replace(place, timeout=None, own_process=False), steps=STEPS, here=False, find=False,
                limit=LIMIT.get(spec.target.kind, 0.0),
            )  # fmt: skip
        except SweepError as error:
            self._keep(store, unchecked(str(error), how=HOW))
            yield Said(f"bit-exact: not checked ({error})")
            return
        found = "equal bits" if self.proof.status == "proven" else self.proof.status
        yield Said(f"canary: {found}, after {time.monotonic() - begun:.1f} s")
        if self.local and self.proof.status != "failed":
            _require_environment(spec, self.proof, done)
        if self.proof.status == "proven" and done and _whole_and_proven(store.manifest.stamp):
            self.stamp = dict(store.manifest.stamp)  # what was proven holds still: keep the longer proof
            return
        self._keep(store, stamp_of(self.proof, how=HOW, runs=len(self.prepared.plan)))
        if self.proof.status == "differs":
            yield Said(f"{self.proof}; the report will say so, and sweep verify names the layer")

    def after(self, store: Store) -> Iterator[Event]:
        """Hold the records of the sweep against what the canary saw, then against whole runs trained once more."""
        yield from self._compared(store)
        if self.place is None or not self.local or self.stamp.get("status") not in ("sampled", "proven"):
            return
        records = [m.record for m in store.scan() if m.record is not None and m.record.status == "ok"]
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
        earlier = self.before_us or {}
        suspect = earlier.get("key") if earlier.get("status") == "differs" else None
        records = sorted(
            records, key=lambda r: (RunSpec.from_json(r.spec).key != suspect, not resumed(r), seconds_of(r))
        )
        first = [r for r in records if telling_of(r)][:1] if self.stamp["status"] == "sampled" else []
        second = [r for r in records if resumed(r)][:1] if not any(map(resumed, first)) else []
        # One that was resumed says nothing if nothing else was found: it may be the first of its process.
        return first + second if first or self.stamp["status"] == "proven" else []

    def _repeated(self, store: Store, record: Record) -> Generator[Event, None, bool]:
        """Train a recorded run whole once more and stamp what that shows; return whether it has the same bits."""
        spec = RunSpec.from_json(record.spec)
        why = ""
        if seconds_of(record) > SHORT:
            why = f"{spec.key} takes {seconds_of(record):.0f} s, sweep verify trains one again"
        else:
            assert self.place is not None
            fill = record.environment.get("fill_uninitialized_memory") is not False  # an earlier version did
            place = replace(self.place, fill_memory=fill, timeout=None, own_process=False)
            yield Said(f"canary: trains {spec.key} whole once more, about {seconds_of(record):.0f} s")
            asked = next((s for s in self.prepared.plan.of_seed(spec.seed) if s.key == spec.key), None)
            if asked is None:
                return False
            try:
                made = reproduce(Subject(asked, place, store, record))
            except SweepError as error:
                why = f"{spec.key} could not be trained again ({error})"
            else:
                if made.equal or made.broken:
                    self._keep(store, again(self.stamp, made))
                if made.broken:
                    yield Said(f"bit-exact: {self.stamp['summary']}; the report will say so")
                return made.equal
        if resumed(record) and self.stamp["status"] == "proven":
            at = record.context.get("resumed_at")
            self._keep(store, only_sampled(self.stamp, f"{spec.key} was resumed at step {at} and not trained again"))
        yield Said(f"bit-exact: {self.stamp['status']}; {why}")
        return False

    def _compared(self, store: Store) -> Iterator[Event]:
        proof = self.proof
        if proof is None or proof.status != "proven" or self.stamp.get("how") != HOW:
            return
        member = store.member(proof.spec.key)
        record = member.record
        if record is None or record.status != "ok":
            return
        promised = verdict(origin_of_record(record), origin_of(proof.spec, proof.trained[0]))
        if promised.answer is not Answer.MUST_MATCH and {name for name, *_ in promised.fields} != {"hash_seed"}:
            fields = ", ".join(name for name, *_ in promised.fields)
            why = f"the canary ran in another environment than the sweep: {fields}"
            self._keep(store, {**self.stamp, **unchecked(why, how=HOW)})
            yield Said(f"bit-exact: not checked ({why})")
            return
        ours = proof.trained[0].chain
        found = first_difference(record.digests, ours, common=True, between=(member.key, "the canary"))
        if found is not None:
            summary = f"DIFFERS ({member.key} and the canary: first at {found})"
            self._keep(store, {**self.stamp, "status": "differs", "summary": summary, "difference": str(found)})
            yield Said(f"bit-exact: {summary}")
            return
        links = [words(link) for link in record.digests if link in ours]
        if links:
            said = f"{self.stamp['summary'].removesuffix(')')}; {listed(links)} equal in the sweep's worker)"
            self._keep(store, {**self.stamp, "summary": said, "processes": self.stamp["processes"] + 1})

    def _keep(self, store: Store, stamp: dict[str, Any]) -> None:
        # What this launch itself found is replaced; what an earlier one found, may have to stay.
        self.stamp = stamp
        self.before_us = self.before_us if self.before_us is not None else dict(store.manifest.stamp)
        store.stamp(after(self.before_us, stamp))


def resumed(record: Record) -> bool:
    """Return whether a run continued from a checkpoint of an earlier attempt."""
    return "resumed_at" in record.context


def seconds_of(record: Record) -> float:
    """Return how long a run trained, in all attempts that its result comes from."""
    return record.seconds + float(record.context.get("seconds_before", 0.0))


def telling_of(record: Record) -> bool:
    """Return whether a repeat of this run shows what a process that trained others before does to it.

    A forked process is the same whoever went before; a recipe of ours was to be preceded by another run. User code
    that shares a process with other runs is never called proven.
    """
    process = record.context.get("process")
    if process == "forked":
        return True
    ours = record.spec["target"]["kind"] == "recipe" and built_in(record.spec["target"]["reference"])
    return ours and record.context.get("first_in_process") is False


def listed(links: Sequence[str]) -> str:
    """ "initial weights, data order (first batch) and weights after epoch 1"."""
    return links[0] if len(links) == 1 else f"{', '.join(links[:-1])} and {links[-1]}"


def _require_environment(spec: RunSpec, proof: Proof, done: Sequence[Record]) -> None:
    for record in done:
        found = verdict(
            replace(origin_of_record(record), spec_id="x", spec={}),
            replace(origin_of(spec, proof.trained[0]), spec_id="x", spec={}),
        )
        if found.answer is Answer.NOT_EXPECTED:
            fields = "; ".join(f"{name}: {then} then, {now} now" for name, then, now in found.fields)
            raise EnvironmentRefused(
                f"finished runs of this deterministic sweep were made in another environment ({fields})",
                hint="go on where they were made, or start again with another --out",
            )  # fmt: skip


def _whole_and_proven(stamp: Mapping[str, Any]) -> bool:
    return stamp.get("status") == "proven" and stamp.get("extent") == WHOLE
