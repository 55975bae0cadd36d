"""The canary of a deterministic sweep: a few steps of its first run are trained twice before the sweep.

After the sweep, a whole run is trained once more if that is cheap, because only that covers the end of a run.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweep.determinism.environment import Answer, Origin, of_environments, verdict
from sweep.errors import EnvironmentRefused, SweepError
from sweep.job import Job
from sweep.plan import Plan, RunSpec
from sweep.store import Record, Store
from sweep.store.record import origin_of
from sweep.target.source import built_in
from sweep.verify.chain import first_difference, words
from sweep.verify.prove import Proof, prove
from sweep.verify.reproduce import reproduce
from sweep.verify.stamp import after, again, only_sampled, outlasts, stamp_of, unchecked
from sweep.verify.subject import Subject, job_as_of

STEPS = 5
LIMIT = {"recipe": 120.0, "function": 45.0}  # seconds of training, because a function may make no visible steps
HOW = "canary"
SHORT = 10.0  # seconds of training up to which a whole run is trained once more after the sweep


@dataclass
class Canary:
    """The checks of a launch before and after its work. The stamp is stored in sweep.json.

    local: runs train on this machine. Otherwise their environment may differ, and only their records show it.
    """

    plan: Plan
    local: bool = True
    proof: Proof | None = None
    stamp: dict[str, Any] = field(default_factory=dict)
    job: Job = field(default_factory=Job)
    earlier: Mapping[str, Any] = field(default_factory=dict)  # the stamp before this launch
    done: frozenset[str] = frozenset()  # the spec ids of the runs that were finished before

    def before(self, store: Store, job: Job) -> Iterator[str]:
        """Compare a few steps, and stamp the directory. Yield lines for the screen.

        Raises: EnvironmentRefused if finished runs come from an environment whose bits cannot be expected here.
        """
        self.job = replace(job, timeout=None, own_process=False)
        self.earlier = store.manifest.stamp
        done = _finished(store)
        self.done = frozenset(record.spec_id for record in done)
        spec = next(iter(self.plan))
        if spec.target.kind == "command":
            self._keep(
                store, unchecked("a command cannot be run for only a few steps; sweep verify runs all of it", how=HOW)
            )
            return
        yield (
            f"canary: the first {STEPS} steps of {spec.key} are trained twice before the sweep, in separate processes; "
            "there, run.rehearsal is true, and nothing is kept"
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
        stamp = stamp_of(proof, how=HOW, runs=len(self.plan))
        if done and outlasts(self.earlier, stamp):
            self.stamp = dict(self.earlier)
            return
        self._keep(store, stamp)
        if proof.status == "differs":
            yield f"{proof}; the report will show this too, and sweep verify finds the layer"

    def after(self, store: Store) -> Iterator[str]:
        """Compare the records with the canary, then with whole runs that are trained once more. Yield lines."""
        yield from self._compared(store)
        if not self.local or self.stamp.get("status") not in ("sampled", "proven"):
            return
        records = _finished(store)
        if self.stamp["status"] == "proven":  # by an earlier launch, before this one resumed runs
            records = [each for each in records if each.spec_id not in self.done]
        for record in self._to_repeat(records):
            if not (yield from self._repeated(store, record)):
                return

    def _to_repeat(self, records: Sequence[Record]) -> list[Record]:
        """Return the shortest run that shows enough, and a resumed one if the first was not resumed.

        Only a run that was not the first in its process shows the effect of earlier runs, and only a resumed run shows
        what its checkpoint lacks.
        """
        # A run that differed before comes first.
        suspect = self.earlier.get("key") if self.earlier.get("status") == "differs" else None
        records = sorted(
            records, key=lambda r: (RunSpec.from_json(r.spec).key != suspect, not _resumed(r), seconds_of(r))
        )
        first = [r for r in records if _telling(r)][:1] if self.stamp["status"] == "sampled" else []
        second = [r for r in records if _resumed(r)][:1] if not any(map(_resumed, first)) else []
        # A resumed run alone is not enough, because it may be the first in its process.
        return first + second if first or self.stamp["status"] == "proven" else []

    def _repeated(self, store: Store, record: Record) -> Generator[str, None, bool]:
        """Train a whole recorded run once more and stamp the result. Return whether it has the same bits."""
        key = RunSpec.from_json(record.spec).key
        spec = next((each for each in self.plan.of_seed(record.spec["seed"]) if each.key == key), None)
        if spec is None:
            return False
        if seconds_of(record) > SHORT:
            why = f"{key} took {seconds_of(record):.0f} s, so it is not trained again; sweep verify does that"
        else:
            yield f"canary: all of {key} is trained once more, which takes about {seconds_of(record):.0f} s"
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
        """Compare the record of the canary's run with the canary."""
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
            why = f"the environments of the canary and of the sweep differ in {', '.join(fields)}"
            yield self._keep(store, {**self.stamp, **unchecked(why, how=HOW)})
            return
        found = first_difference(record.digests, seen.chain, common=True, between=(proof.spec.key, "the canary"))
        if found is not None:
            summary = f"DIFFERS (first at {found})"
            yield self._keep(store, {**self.stamp, "status": "differs", "summary": summary, "difference": str(found)})
            return
        links = [words(link) for link in record.digests if link in seen.chain]
        if links:
            listed = " and ".join(filter(None, (", ".join(links[:-1]), links[-1])))
            said = f"{self.stamp['summary'].removesuffix(')')}; {listed} equal in the sweep's worker)"
            self._keep(store, {**self.stamp, "summary": said, "processes": self.stamp["processes"] + 1})

    def _keep(self, store: Store, stamp: Mapping[str, Any]) -> str:
        """Store a stamp in the directory, and return it as a line for the screen."""
        # A stamp of this launch is replaced. One of an earlier launch may have to stay.
        self.stamp = dict(stamp)
        store.stamp(after(self.earlier, stamp))
        return f"bit-exact: {stamp['summary']}"


def seconds_of(record: Record) -> float:
    """Return the training time of a run over all attempts that contributed to its result."""
    return record.seconds + float(record.context.get("seconds_before", 0.0))


def _finished(store: Store) -> list[Record]:
    return [m.record for m in store.scan() if m.record is not None and m.record.status == "ok"]


def _resumed(record: Record) -> bool:
    """Return whether a run continued from a checkpoint of an earlier attempt."""
    return "resumed_at" in record.context


def _telling(record: Record) -> bool:
    """Return whether a repeat of this run would show an effect of earlier runs in its process.

    A forked process is independent of earlier runs. A built-in recipe must not have been the first in its process. User
    code that shares a process with other runs is never called proven.
    """
    if record.context.get("process") == "forked":
        return True
    ours = record.spec["target"]["kind"] == "recipe" and built_in(record.spec["target"]["reference"])
    return ours and record.context.get("first_in_process") is False


def _require_environment(here: Origin, done: Sequence[Record]) -> None:
    """Refuse to add runs if their bits cannot be expected to match those of finished runs.

    Raises: EnvironmentRefused.
    """
    for record in done:  # other seeds and variants are other experiments, in what may be the same environment
        found = of_environments(origin_of(record), here)
        if found.answer is Answer.NOT_EXPECTED:
            fields = "; ".join(f"{name}: {then} then, {now} now" for name, then, now in found.fields)
            raise EnvironmentRefused(
                f"finished runs of this deterministic sweep were made in another environment ({fields})",
                hint="resume it in that environment, or start again with another --out",
            )  # fmt: skip
