"""The queue of a launch: missing runs, retries, seeds that a stopping rule adds, and the results of each."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweep import forkserver
from sweep.determinism import environment
from sweep.engine import Done, Engine, RayEngine, Tick
from sweep.errors import EnvironmentRefused, StoreError, SweepError, some
from sweep.job import Accident, Answer, Bundle, CannotWrite, Changed, OneByOne, Unrecorded
from sweep.launch import death
from sweep.launch.bundles import at_once, bundles, gpu_of, lanes_of, packs_of
from sweep.launch.event import Begun, Event, Finished, Retried, Said
from sweep.launch.preflight import preflight
from sweep.plan import Plan, RunSpec
from sweep.prepare import job_of, manifest_of
from sweep.recollect import collect_of, needed, recollect, suggestions
from sweep.report.commands import resume
from sweep.report.shared_files import mixed, remedy, sentence
from sweep.shared_files import Trace, outputs, shared
from sweep.store import Damaged, Failure, Member, Record, Store, atomic
from sweep.store.manifest import UNTIL
from sweep.store.parcel import Parcel, unpack
from sweep.store.record import origin_of
from sweep.store.remote import Remote
from sweep.target.inputs import refusal
from sweep.words import path_argument
from sweep.worker.work import work

if TYPE_CHECKING:
    from sweep.verify.canary import Canary

NO_MORE = "no more runs are started"
BESIDE = 64  # the newest ended runs, which are checked for shared files while a sweep runs


@dataclass
class Launch:
    """The work of one command in one directory: an iterator of events that can be stopped."""

    plan: Plan
    out: Path
    engine: Engine
    close: Callable[[], None] = lambda: None  # ends the engine
    own_process: bool = True  # runs have processes of their own
    jobs: int | None = None
    fail_fast: bool = False
    retry_failed: bool = False
    retrain: bool = False  # all runs of the directory, with the current config
    break_lock: bool = False
    only: Sequence[int] | None = None  # train only these seeds (`ml-train`), beside other such launches
    more: Callable[[Store], Sequence[int]] | None = None  # returns the next seeds when the queue is empty
    prove: Canary | None = None  # checks that deterministic runs repeat their bits
    store: Store | None = None
    stopped: str = ""  # the reason why nothing new is started
    remote: Remote | None = None  # the place to which `out` is copied, run by run
    uncopied: str = ""  # the error if not all of it is copied

    def __post_init__(self) -> None:
        self._queue: deque[Bundle] = deque()
        self._deaths = death.Deaths(self.plan.config.retries)
        self._flying: set[str] = set()
        self._nonce = ""
        self._read_one = False  # whether any run has metrics
        self._traces: deque[Trace] = deque(maxlen=BESIDE)
        self._told: set[str] = set()  # the kinds of messages about files that were given
        self._ended_since = True  # whether a run has ended since the last call of `more`
        self.added = 0  # runs that `more` has added
        self._slots = at_once(self.plan)

    def stop(self, why: str, *, running: bool = True) -> None:
        """Start nothing new, and let running runs end at their next checkpoint. Without `running`, they may finish."""
        self.stopped = self.stopped or why
        self._queue.clear()
        if running and self.store is not None:
            with suppress(OSError):  # a full disk, for example, which the runs also notice
                atomic.create(self.store.stop_file(self._nonce))

    def in_flight(self) -> list[str]:
        """Return the keys of the runs that the engine has taken and not returned."""
        return list(self._flying)

    def __iter__(self) -> Iterator[Event]:
        """Do the work and yield its events. Raises: StoreError, before any run starts, if the directory is unusable."""
        made = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        with ExitStack() as held:
            held.callback(forkserver.dismiss)
            entered = Store.entered(self.out, beside=self.only is not None, break_lock=self.break_lock)
            self._nonce = held.enter_context(entered).nonce
            existed = Store.exists(self.out)
            before = Store.open(self.out).manifest if existed else None
            store = self.store = yield from self._opened(existed)
            members = [m for m in store.scan(verify=True) if self.only is None or m.seed in self.only]
            yield from self._look(store, members)
            if self.only is None:
                store.clean()
            missing = [m for m in members if m.record is None or self._again(store, m)]
            failed = sum(m.status == "failed" for m in members) - sum(m.status == "failed" for m in missing)
            self._fill(store, missing)
            self._read_one = any(m.status == "ok" for m in members)
            if self.remote is not None:
                if self.remote.note:
                    yield Said(self.remote.note)
                self.remote.forget(member.key for member in missing)
                self.remote.copy()
            new = tuple(seed for seed in store.manifest.seeds if before is not None and seed not in before.planned)
            grown = len(store.manifest.cells) - len(before.cells) if before is not None else 0
            yield Begun(store, len(members), len(members) - len(missing), len(missing), new, grown, failed)
            if missing or self.more is not None:
                try:
                    yield from self._work(store)
                except EnvironmentRefused:  # no Ray, or no node for a run: leave nothing behind
                    if not existed and self.only is None:
                        store.withdraw(made)
                        if self.remote is not None:
                            self.remote.withdraw()
                    raise
                if self._deaths.losses and self.only is None:
                    store.clean()  # a worker that was killed while it wrote has left half a file
            yield from self._copied()

    # Before anything is trained

    def _opened(self, existed: bool) -> Generator[Event, None, Store]:
        """Return the directory with all planned runs, and with metrics read as this launch requires.

        Raises: StoreError if it holds another experiment, or its metrics must first be read again.
        """
        wanted = manifest_of(self.plan)
        if existed and self.retrain:
            store = Store.open(self.out)
            found = store.renew(wanted)
            store.event(kind="retrain", records=found)
            yield Said(f"all runs of {store.shown} are trained again; the old records ({found}) are kept")
        else:
            store = Store.create(self.out, wanted)
        if self.remote is not None:
            store.shown = self.remote.url
        if self.plan.target.kind != "command":
            return store
        config, theirs = self.plan.config, collect_of(store.manifest.config.get("collect"))
        if config.collect is None and theirs is not None:
            config = config.model_copy(update={"collect": theirs})
            self.plan = replace(self.plan, config=config)
            yield Said("the metrics are read as before in this directory; --metrics changes that for all of its runs")
        if needed(store, config.collect):
            if self.only is not None or self.remote is not None:
                raise StoreError(
                    "the metrics of its runs were read in another way, so new ones would not be comparable",
                    where=store.shown, hint=f"read them again first: sweep collect {store.shown} --metrics …",
                )  # fmt: skip
            yield from map(Said, recollect(store, config.collect))
        return store

    def _look(self, store: Store, members: Sequence[Member]) -> Iterator[Event]:
        """Report the state that earlier commands left. Damaged records are moved aside, and never overwritten.

        Raises: StoreError if one of the runs is being trained.
        """
        store.require_idle(members)
        for member in members:
            if member.note and member.record is None:
                yield Said(f"{member.key}: {member.note}; this run is trained again")
                store.set_aside(member)
            elif member.record is not None and (names := member.record.files.get("changed")):
                yield Said(f"{member.key}: {some(names)} changed during the run, which is trained again")
        done = [m.record for m in members if m.record is not None and m.record.status == "ok"]
        for other in done[1:]:
            answer = environment.of_environments(origin_of(done[0]), origin_of(other))
            if answer.answer is environment.Answer.NOT_EXPECTED:
                fields = ", ".join(name for name, *_ in answer.fields)
                yield Said(f"the runs of this directory come from mixed environments, which differ in {fields}")
                return

    def _again(self, store: Store, member: Member) -> bool:
        """Return whether a run with a record is trained again. If so, move its record aside."""
        found = member.record
        if found is None or not (found.files.get("changed") or (self.retry_failed and member.status == "failed")):
            return False
        store.set_aside(member)
        cause = str(found.failure) if found.failure else f"{some(found.files['changed'])} changed during the run"
        store.event(kind="retry", key=member.key, cause=cause)
        return True

    # The queue

    def _fill(self, store: Store, members: Sequence[Member]) -> None:
        wanted, seeds = {m.key for m in members}, {m.seed for m in members}
        planned = (spec for seed in store.manifest.seeds if seed in seeds for spec in self.plan.of_seed(seed))
        specs = [spec for spec in planned if spec.key in wanted]
        self._queue.extend(bundles(specs, lanes_of(self.plan), self._slots, packs_of(self.plan)))

    def _pull(self) -> Bundle | None:
        if not self._queue and not self.stopped:
            self._wave()
        if not self._queue or self.stopped:
            return None
        bundle = self._queue.popleft()
        self._flying.update(spec.key for spec in bundle)
        return bundle

    def _wave(self) -> None:
        """Queue the seeds that `more` returns. It reads only the disk, so running runs do not matter."""
        if self.more is None or self.store is None or not self._ended_since:
            return
        fresh = [s for s in self.more(self.store) if s not in set(self.store.manifest.seeds)]
        # As long as it adds seeds, every idle slot may call it again.
        self._ended_since = bool(fresh)
        if fresh:
            self.store.extend(fresh, note=UNTIL)
            self._fill(self.store, [m for m in self.store.scan() if m.seed in set(fresh)])
            self.added += sum(map(len, self._queue))

    def _work(self, store: Store) -> Iterator[Event]:
        job = replace(
            job_of(self.plan), path=os.fspath(store.path.resolve()), launch=self._nonce, at_once=self.jobs,
            gpus=gpu_of(self.plan),
            own_process=self.own_process, apart=outputs(Path.cwd()),
        )  # fmt: skip
        if isinstance(self.engine, RayEngine):
            yield from map(Said, preflight(self.engine, job, deterministic=self.plan.config.deterministic))
        if self.prove is not None:
            yield from map(Said, self.prove.before(store, job))
        for event in self.engine(self._pull, partial(work, job=job), job):
            if isinstance(event, Done):
                yield from self._answered(store, event.bundle, event.answer)
            elif isinstance(event, Tick):
                yield event
            else:
                # The running runs cannot be reached any more, so they are lost, not failed.
                self.stop(event.cause, running=False)
                death.end(store.workers(self._nonce))  # otherwise the next command would find them running
                lost = f" ({', '.join(sorted(self._flying))} did not finish)" if self._flying else ""
                yield Said(f"{NO_MORE}: {event.cause}{lost}; run the same command to resume")
        if self.prove is not None and not self.stopped:
            yield from map(Said, self.prove.after(store))

    # The results of a bundle

    def _answered(self, store: Store, bundle: Bundle, answer: Answer) -> Iterator[Event]:
        """Read the result of each run of a bundle from the directory. The answer only tells why runs have no record."""
        self._ended_since = True
        specs = {spec.key: spec for spec in bundle}
        why: Unrecorded | None = None
        for each in answer:
            if isinstance(each, Parcel):
                try:
                    unpack(store, specs[each.key], each, self._nonce)
                except (OSError, SweepError, Damaged) as error:
                    why = CannotWrite(str(error))
            else:
                why = each
        self._flying -= specs.keys()
        for spec in bundle:
            member = store.member(spec.key)
            if member.record is not None:
                yield from self._ended(store, member, member.record)
            elif isinstance(why, OneByOne):
                yield from self._unpacked(store, spec, why)
            elif isinstance(why, Accident):
                yield from self._lost(store, member, spec, why)
            elif isinstance(why, Changed):
                if not self.stopped:
                    yield from self._changed(store, str(why))
            elif why is not None:
                yield from self._unwritten(spec, why)
            elif member.note:
                yield Said(f"{member.key}: {member.note}; run the same command to train it again")

    def _ended(self, store: Store, member: Member, record: Record) -> Iterator[Event]:
        if store.late(member, self._nonce):
            store.event(kind="late", key=member.key)
            yield Said(f"{member.key}: another attempt finished first, so this one is discarded")
        yield from self._copied(member.key)
        yield Finished(member.key, record)
        yield from self._beside(member, record)
        if (names := record.files.get("changed")) and not self.stopped:
            yield from self._changed(store, refusal(names))
        if record.status == "ok" and not self._read_one:
            self._read_one = True
            yield from _chosen(store, record)
        if record.failure is None or self.stopped:
            return
        if record.failure.kind == "returned" and self.plan.target.kind == "command" and not self._read_one:
            yield from self._unreadable(store, member, record.failure)
        elif self.fail_fast:
            yield from self._no_more(f"{member.key} failed and --fail-fast was given")
        elif record.failure.kind == "nondeterministic":
            yield from self._no_more("an operation has no deterministic kernel, so every seed would fail")

    def _no_more(self, why: str) -> Iterator[Event]:
        self.stop(why)
        yield Said(f"{NO_MORE}: {why}")

    def _unpacked(self, store: Store, spec: RunSpec, why: OneByOne) -> Iterator[Event]:
        """Train a run alone after its bundle ended in an error, so that only the run with the error fails."""
        store.event(kind="unpacked", key=spec.key, cause=str(why))
        if not self.stopped:
            self._queue.append((spec,))
            yield Retried(spec.key, str(why), 2)

    def _unwritten(self, spec: RunSpec, why: Unrecorded) -> Iterator[Event]:
        """Start nothing more, because the disk would also refuse it. Finished runs count."""
        if not self.stopped:
            yield from self._no_more(f"{why}; fix that and run the same command again")
        yield Said(f"{spec.key}: not recorded ({why})")

    def _lost(self, store: Store, member: Member, spec: RunSpec, why: Accident) -> Iterator[Event]:
        """Queue a run again after its worker died, or record its failure if it has killed too many workers."""
        store.event(kind="lost", key=spec.key, cause=why.cause)
        if failure := self._deaths.failure(spec.key, why):
            death.fail(store, spec, failure, self._nonce)
            member = store.member(spec.key)  # its worker may have committed a record after all, which then counts
            if member.record is not None:
                yield from self._ended(store, member, member.record)
        elif (losses := self._deaths.losses[spec.key]) >= death.LOSSES:
            yield Said(f"{spec.key}: lost {losses} times ({why.cause}); the next command will try it again")
        elif not self.stopped:
            self._queue.appendleft((spec,))
            yield Retried(spec.key, why.cause, losses + 1, store.checkpoint(member))

    # Messages when a run has ended

    def _copied(self, key: str = "") -> Iterator[Event]:
        """Copy a run, or all that is not copied yet. Training continues without a network, which is reported once."""
        if self.remote is None:
            return
        try:
            self.remote.copy(key)
            if not key:
                self.uncopied = ""
        except StoreError as error:
            if not self.uncopied:
                yield Said(f"{error}\n  training continues; files that are not copied yet are in {self.remote.mirror}")
            self.uncopied = str(error)

    def _beside(self, member: Member, record: Record) -> Iterator[Event]:
        """Report once that runs write the same file at the same time, and once which files are not watched."""
        files, found = record.files, {}
        if "unwatched" in files:
            found["unwatched"] = (
                "this folder has too many files to watch them all: it is not noticed if two runs write the same file "
                f"in {files['unwatched']} or in folders after it"
            )
        if "left_out" in files:
            found["left out"] = "the runs are so short that not all of them are watched for files that they share"
        if files.get("written") and "shared" not in self._told:
            self._traces.append(Trace.of(member.key, record.spec, record.status == "ok", files))
            if beside := [each for each in shared(self._traces) if not each.in_turn]:
                found["shared"] = f"{sentence(beside[0])}; {remedy(self.plan.config.allow_shared)}"
        for what in [each for each in found if each not in self._told]:
            self._told.add(what)
            yield Said(found[what])

    def _changed(self, store: Store, why: str) -> Iterator[Event]:
        """Stop because files have changed since planning, and report which runs used which version."""
        self.stop(why)
        members = list(store.scan())
        done = some([m.key for m in members if m.record is not None]) or "no run"
        under_way = some(sorted(self._flying))
        lines = [f"{NO_MORE}: {why}", mixed(members) or f"{done} ran with the files as planned"]
        yield Said("\n  ".join([*lines, *([f"{under_way} may have used either version"] if under_way else [])]))

    def _unreadable(self, store: Store, member: Member, failure: Failure) -> Iterator[Event]:
        """Start no other program if the first one with exit code 0 gave no metrics, and suggest how to read them.

        Running programs may finish, because their metrics can be read later without training.
        """
        self.stop(f"{member.key} ended without an error but gave no metrics", running=False)
        lines = []
        for each in suggestions(store, member):
            lines.append(f"  {each.what}")
            if each.metrics:
                lines.append(f"    {resume(store.manifest, store.shown, trust=True, metrics=each.metrics)}")
        yield Said("\n".join([f"{NO_MORE}: {self.stopped}", *(lines or [f"  {failure.message}"])]))


def _chosen(store: Store, record: Record) -> Iterator[Event]:
    """Report how to choose among the metrics that a program logs."""
    if words := record.collected.get("words"):
        how = f"sweep collect {path_argument(store.shown)} --metrics {path_argument(str(words))}"
        yield Said(f"  to choose which of them to read, without training again:\n    {how}")
