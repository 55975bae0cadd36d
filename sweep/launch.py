"""Owns the queue: what is missing, retries, waves. Wires plan, store and engine together."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from sweep import forked, nursery
from sweep.analysis.commands import resume
from sweep.determinism.environment import Answer
from sweep.engine import Done, Engine, Gone, Lost, RayEngine, Slots
from sweep.errors import EnvironmentRefused, StoreError, SweepError, some
from sweep.packs import gpus_here, lanes_of, packs
from sweep.plan import RunSpec
from sweep.preflight import preflight
from sweep.prepare import Prepared
from sweep.recollect import collect_of, needed, recollect, suggestions
from sweep.report.sharing import mixed, remedy, sentence
from sweep.store import Damaged, Failure, Member, Owner, Record, Store, atomic
from sweep.store.manifest import UNTIL
from sweep.store.owner import this_process
from sweep.store.parcel import unpack
from sweep.store.record import verdict_of
from sweep.store.remote import Remote
from sweep.target.inputs import changed, refusal
from sweep.task import Interval, Outcome, Place, Task, outcome_of
from sweep.words import path_argument
from sweep.written import Share, Trace, outputs, shared

KILLS = 3  # a run that has killed its worker so often is failed, not retried
BESIDE = 64  # runs that ended last, among which files that they shared are looked for while a sweep is at work
LOSSES = 10  # a run that was lost so often, for whatever reason, is no longer retried by this command


@dataclass(frozen=True)
class Begun:
    """The directory is ours; so many runs are planned, done already, and to do."""

    store: Store
    planned: int
    done: int
    todo: int
    extended: tuple[int, ...] = ()  # seeds that join those that were there
    grown: int = 0  # variants that do
    failed: int = 0  # of those done

    @property
    def nothing(self) -> str:
        """What is said where nothing is to do."""
        if self.planned == 1:
            said = f"nothing to train: this run is in {self.store.shown}"
        else:
            said = f"nothing to train: all {self.planned} runs are in {self.store.shown}"
        return f"{said}; {self.failed} failed, which --retry-failed trains again" if self.failed else said


@dataclass(frozen=True)
class Finished:
    """One run ended; `outcome` says how."""

    outcome: Outcome


@dataclass(frozen=True)
class Retried:
    """A run was lost; it is trained again, from its newest checkpoint if it has one (step), else from zero."""

    key: str
    cause: str
    attempt: int
    checkpoint: int | None = None


@dataclass(frozen=True)
class Said:
    """Something worth a line on the screen."""

    text: str


@dataclass(frozen=True)
class Passed:
    """Time passed while so many runs were running."""

    running: int


Event = Begun | Finished | Retried | Said | Passed


class Prover(Protocol):
    """What holds a deterministic sweep's claim against evidence; `sweep.verify` knows how."""

    def before(self, store: Store, place: Place) -> Iterator[Event]:
        """Before anything is trained; what it finds is kept as the directory's stamp."""

    def after(self, store: Store) -> Iterator[Event]:
        """When all is trained."""


@dataclass
class Launch:
    """One command's work in one directory: an iterator of events, which can be asked to stop."""

    prepared: Prepared
    out: Path
    engine: Engine
    close: Callable[[], None] = lambda: None  # ends the engine
    own_process: bool = True  # runs have processes of their own
    jobs: int | None = None
    fail_fast: bool = False
    retry_failed: bool = False
    retrain: bool = False  # all that is there, as the config asks now
    break_lock: bool = False
    only: Sequence[int] | None = None  # train these seeds only (`ml-train`), beside other launches
    more: Callable[[Store], Sequence[int]] | None = None  # the next seeds, asked when the queue is empty
    prove: Prover | None = None
    store: Store | None = None
    stopped: str = ""  # why nothing new is started
    remote: Remote | None = None  # where `out` is copied, run by run
    uncopied: str = ""  # why not all of it is there

    def __post_init__(self) -> None:
        self._queue: deque[Task] = deque()
        self._kills: dict[str, int] = {}
        self._losses: dict[str, int] = {}
        self._flying: set[str] = set()
        self._seeds: frozenset[int] | None = frozenset(self.only) if self.only is not None else None
        self._nonce = ""
        self._read_one = False  # whether any run has metrics
        self._traces: deque[Trace] = deque(maxlen=BESIDE)
        self._told: set[str] = set()  # what of their files was said
        self._ended_since = True  # whether a run has ended since `more` was last asked
        self.added = 0  # runs that `more` asked for
        self._lanes = lanes_of(self.prepared.config, self.prepared.plan)
        self._gpus = gpus_here() if self._lanes > 1 else 1

    def stop(self, why: str) -> None:
        """Start nothing new, and ask what runs to end at its next checkpoint."""
        self.stopped = self.stopped or why
        self._queue.clear()
        if self.store is not None:
            with suppress(OSError):  # of a full disk, say; what runs meets that itself
                atomic.touch(self.store.stop_file(self._nonce))

    def __iter__(self) -> Iterator[Event]:
        """Do the work. Raises: StoreError before anything starts, when the directory is not ours to use."""
        made = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        with ExitStack() as held:
            held.callback(nursery.dismiss)
            Store.claim(self.out)
            if self._seeds is None:
                owner = held.enter_context(Store.lock(self.out, break_lock=self.break_lock))
            else:
                owner = _beside_others(self.out)
            self._nonce = owner.nonce
            existed = Store.exists(self.out)
            before = Store.open(self.out).manifest if existed else self.prepared.manifest
            if existed and self.retrain:
                store = Store.open(self.out)
                yield from self._renewed(store)
            else:
                store = Store.create(self.out, self.prepared.manifest)
            self.store = store
            if self.remote is not None:
                store.shown = self.remote.url
            yield from self._read_again(store)
            held.callback(lambda: store.stop_file(self._nonce).unlink(missing_ok=True))
            held.callback(lambda: store.token_file(self._nonce).unlink(missing_ok=True))
            members = [m for m in store.scan(verify=True) if self._seeds is None or m.seed in self._seeds]
            yield from self._look(store, members)
            if self._seeds is None:
                store.clean()  # nobody else is writing here: an `ml-train` at work would have been seen
            missing = [m for m in members if m.status not in ("ok", "failed") or self._again(store, m)]
            self._fill(missing)
            self._read_one = any(m.status == "ok" for m in members)
            new = tuple(seed for seed in store.manifest.seeds if seed not in before.planned)
            grown = len(store.manifest.cells) - len(before.cells)
            if self.remote is not None:
                if self.remote.note:
                    yield Said(self.remote.note)
                self.remote.forget(member.key for member in missing)
                self.remote.copy()
            failed = sum(m.status == "failed" for m in members) - sum(m.status == "failed" for m in missing)
            yield Begun(store, len(members), len(members) - len(missing), len(missing), new, grown, failed)
            if missing or self.more is not None:
                try:
                    yield from self._work(store)
                except EnvironmentRefused:  # no Ray, or none that could hold a run: as if this had not been asked
                    if not existed and self._seeds is None:
                        store.withdraw(made)
                        if self.remote is not None:
                            self.remote.withdraw()
                    raise
                if self._losses and self._seeds is None:
                    store.clean()  # a worker that was killed while it wrote has left half a file
            if self.remote is not None:
                yield from self._copied(self.remote)

    def _renewed(self, store: Store) -> Iterator[Event]:
        found = store.renew(self.prepared.manifest)
        store.event(kind="retrain", records=found)
        yield Said(f"{found} records were set aside, and are kept: all runs of {store.shown} are trained again")

    def _read_again(self, store: Store) -> Iterator[Event]:
        """Read all runs of a command as this launch asks, or go on as its directory reads them where nothing is asked.

        Raises: StoreError where that cannot be done without training.
        """
        if self.prepared.plan.target.kind != "command":
            return
        config, theirs = self.prepared.config, collect_of(store.manifest.config.get("collect"))
        if config.collect is None and theirs is not None:
            config = config.model_copy(update={"collect": theirs})
            self.prepared = replace(self.prepared, config=config)
            yield Said("metrics are read as this directory reads them; --metrics auto, or another, changes it for all")
        if not needed(store, config.collect):
            return
        if self._seeds is not None or self.remote is not None:
            raise StoreError(
                "its metrics were read in another way, and two ways in one mean would be no mean", where=store.shown,
                hint=f"read them again first: sweep collect {store.shown} --metrics …",
            )  # fmt: skip
        yield from map(Said, recollect(store, config.collect))

    def _copied(self, remote: Remote, key: str = "") -> Iterator[Event]:
        """Copy a run, or whatever is not there yet. A network that is away costs no training, and is told once."""
        try:
            remote.copy(key)
            if not key:
                self.uncopied = ""
        except StoreError as error:
            if not self.uncopied:
                yield Said(f"{error}\n  training goes on; what is not copied is in {remote.mirror}")
            self.uncopied = str(error)

    def _look(self, store: Store, members: Sequence[Member]) -> Iterator[Event]:
        """What earlier commands left, said aloud; damaged records are moved aside, never trained over."""
        for member in members:
            if member.note and member.record is None:
                yield Said(f"{member.key}: {member.note}; it is trained again")
                store.set_aside(member)
            elif member.record is not None and (names := member.record.files.get("changed")):
                yield Said(f"{member.key}: {some(names)} changed while it ran; it is trained again")
            elif member.status == "running":
                raise StoreError(
                    "a run is being trained by another command", where=f"{store.path}: {member.key}",
                    hint=f"wait for it; sweep status {store.path}",
                )  # fmt: skip
        yield from _environments(members, self.prepared)

    def _again(self, store: Store, member: Member) -> bool:
        """Return whether a run with a record is trained again, its record moved aside."""
        found = member.record
        if found is None or not (found.files.get("changed") or (self.retry_failed and member.status == "failed")):
            return False
        store.set_aside(member)
        cause = str(found.failure) if found.failure else f"{some(found.files['changed'])} changed while it ran"
        store.event(kind="retry", key=member.key, cause=cause)
        return True

    def _fill(self, members: Sequence[Member]) -> None:
        wanted = {(m.task, m.variant, m.seed, m.repeat) for m in members}
        seeds = list(dict.fromkeys(m.seed for m in sorted(members, key=lambda m: m.seed)))
        order = {seed: i for i, seed in enumerate(self.store.manifest.seeds)} if self.store else {}
        specs = [
            spec
            for seed in sorted(seeds, key=lambda s: order.get(s, s))
            for spec in self.prepared.plan.of_seed(seed)
            if (spec.task, spec.variant, spec.seed, spec.repeat) in wanted
        ]
        self._queue.extend(packs(specs, self._lanes, self._gpus))

    def _pull(self) -> Task | None:
        if not self._queue and not self.stopped:
            self._wave()
        if not self._queue or self.stopped:
            return None
        task = self._queue.popleft()
        self._flying.update(spec.key for spec in task)
        return task

    def _wave(self) -> None:
        """Queue the seeds that `more` asks for. It judges the disk alone, so what still runs does not matter."""
        if self.more is None or self.store is None or not self._ended_since:
            return
        fresh = [s for s in self.more(self.store) if s not in set(self.store.manifest.seeds)]
        # Until it has said no, every idle slot may ask again.
        self._ended_since = bool(fresh)
        if fresh:
            self.store.extend(fresh, note=UNTIL)
            self._fill([m for m in self.store.scan() if m.seed in set(fresh)])
            self.added += sum(map(len, self._queue))

    def in_flight(self) -> list[str]:
        """The keys of the runs that were handed to the engine and have not come back."""
        return list(self._flying)

    def _work(self, store: Store) -> Iterator[Event]:
        atomic.touch(store.token_file(self._nonce))
        config = self.prepared.config
        place = Place(
            path=os.fspath(store.path.resolve()), launch=self._nonce,
            interval=Interval(config.checkpoint.every_epochs or 0, config.checkpoint.every_seconds or 0.0),
            timeout=config.timeout, folder=os.getcwd(), own_folder=config.cwd is not None,
            function=self.prepared.function, collect=config.collect, gpus=config.resources.gpus,
            watched=self.prepared.watched,
            own_process=self.own_process, apart=outputs(Path.cwd()),
        )  # fmt: skip
        if isinstance(self.engine, RayEngine):
            deterministic = self.prepared.plan.deterministic
            yield from map(Said, preflight(self.engine, place, deterministic=deterministic))
        if self.prove is not None:
            yield from self.prove.before(store, place)
        gpus = 1.0 if self._lanes > 1 else config.resources.gpus  # a pack fills a GPU
        slots = Slots(self.jobs, cpus=config.resources.cpus or config.threads, gpus=gpus)
        for event in self.engine(self._pull, partial(_on_worker, place=place), slots):
            if isinstance(event, (Done, Lost)):
                self._flying.difference_update(spec.key for spec in event.task)
                self._ended_since = True
            if isinstance(event, Done):
                specs = {spec.key: spec for spec in event.task}
                for outcome in event.outcomes:
                    spec = specs[outcome.key]
                    if outcome.status == "lost":
                        yield from self._lost(store, Lost((spec,), " ".join(outcome.notes), outcome.poison))
                    else:
                        yield from self._ended(store, self._received(store, spec, outcome))
            elif isinstance(event, Lost):
                # The code of a run that has a process of its own cannot be why its worker died.
                yield from self._lost(store, replace(event, poison=event.poison and not forked.wanted(event.task)))
            elif isinstance(event, Gone):
                # Unlike `stop`, nothing can reach what was running: it is lost, and has not failed.
                self.stopped = self.stopped or event.cause
                self._queue.clear()
                lost = ", ".join(sorted(self._flying)) or "none"
                yield Said(f"nothing more is started: {event.cause}; under way were {lost}: the same command resumes")
            else:
                yield Passed(event.running)
        if self.prove is not None and not self.stopped:
            yield from self.prove.after(store)

    def _received(self, store: Store, spec: RunSpec, outcome: Outcome) -> Outcome:
        """The outcome, once what a machine without this directory sent along is committed here."""
        if outcome.parcel is None:
            return outcome
        try:
            won = unpack(store, spec, outcome.parcel, self._nonce)
        except (OSError, SweepError, Damaged) as error:
            return replace(outcome, status="unwritten", failure=Failure("storage", str(error), "write"))
        status = outcome.status if won else "late"
        return replace(outcome, status=status, parcel=None)

    def _ended(self, store: Store, outcome: Outcome) -> Iterator[Event]:
        if outcome.status == "late":
            store.event(kind="late", key=outcome.key)
            yield Said(f"{outcome.key}: another attempt had finished first; this one is discarded")
            return
        if outcome.status == "unwritten":
            yield from self._unwritten(store, outcome)
            return
        if outcome.status == "unpacked":
            yield from self._unpacked(store, outcome)
            return
        if self.remote is not None and outcome.status != "interrupted":
            yield from self._copied(self.remote, outcome.key)
        yield Finished(outcome)
        yield from self._beside(store, outcome)
        if (names := outcome.files.get("changed")) and not self.stopped:
            yield from self._changed(store, refusal(names))
        if outcome.status == "ok" and not self._read_one:
            self._read_one = True
            yield from _chosen(store, outcome)
        yield from self._unreadable(store, outcome)
        if outcome.status == "failed" and outcome.failure is not None:
            why = ""
            if self.fail_fast:
                why = f"{outcome.key} failed and --fail-fast was given"
            elif outcome.failure.kind == "nondeterministic":
                why = "an operation has no deterministic kernel, which no other seed will change"
            if why and not self.stopped:
                self.stop(why)
                yield Said(f"nothing more is started: {why}")

    def _beside(self, store: Store, outcome: Outcome) -> Iterator[Event]:
        """Say once that runs which are at work side by side write the same file, and once what is not looked at."""
        if "unwatched" in outcome.files and "unwatched" not in self._told:
            self._told.add("unwatched")
            yield Said(
                f"files in {outcome.files['unwatched']} and beyond are too many to see which of them runs write: two "
                f"runs that share one there are not noticed"
            )
        if "left_out" in outcome.files and "left_out" not in self._told:
            self._told.add("left_out")
            yield Said(
                "looking for files that runs share would take too much time beside such short runs: some are left out"
            )
        if not outcome.files.get("written") or "shared" in self._told:
            return
        specs = {m.key: m.record for m in (store.member(outcome.key),) if m.record is not None}
        for key, record in specs.items():
            self._traces.append(Trace.of(key, record.spec, outcome.status == "ok", outcome.files))
        for found in shared(self._traces):
            if not found.in_turn:
                self._told.add("shared")
                yield Said(f"{sentence(found)}; {remedy(self.prepared.config.allow_shared)}")
                return

    def _changed(self, store: Store, why: str) -> Iterator[Event]:
        """Stop because what is run is no longer what was planned, and say which seeds ran what."""
        self.stop(why)
        members = list(store.scan())
        done = some([m.key for m in members if m.record is not None]) or "no run"
        under_way = some(sorted(self._flying))
        lines = [f"nothing more is started: {why}", mixed(members) or f"{done} ran with the files as planned"]
        yield Said("\n  ".join([*lines, *([f"{under_way} had begun, and may be of either kind"] if under_way else [])]))

    def _unreadable(self, store: Store, outcome: Outcome) -> Iterator[Event]:
        """The first program to end well and without metrics: start no other, say what was seen and how to read it.

        Those that run go on to their end: what they leave is read without training.
        """
        found = outcome.failure
        if self.prepared.plan.target.kind != "command" or found is None or found.kind != "returned":
            return
        if self._read_one or self.stopped:
            return
        self.stopped = f"{outcome.key} ended well and gave no metrics"
        self._queue.clear()
        lines = [f"nothing more is started: {self.stopped}"]
        for each in suggestions(store, store.member(outcome.key)):
            lines.append(f"  {each.what}")
            if each.metrics:
                lines.append(f"    {resume(store.manifest, store.shown, trust=True, metrics=each.metrics)}")
        if len(lines) == 1:
            lines.append(f"  {found.message}")
        yield Said("\n".join(lines))

    def _unpacked(self, store: Store, outcome: Outcome) -> Iterator[Event]:
        """A run whose pack ended in an error: trained again on its own, so that only the guilty one fails."""
        store.event(kind="unpacked", key=outcome.key, cause=" ".join(outcome.notes))
        if not self.stopped:
            member = store.member(outcome.key)
            self._queue.extend((s,) for s in self.prepared.plan.of_seed(member.seed) if s.key == outcome.key)
            yield Retried(outcome.key, " ".join(outcome.notes), 2)

    def _unwritten(self, store: Store, outcome: Outcome) -> Iterator[Event]:
        """The disk refused: what it holds counts, and nothing more is started that it would refuse as well."""
        member = store.member(outcome.key)
        if member.record is not None:
            yield from self._ended(store, outcome_of(member.record, outcome.key))
            return
        reason = outcome.failure.message if outcome.failure else "it could not be written"
        if outcome.failure is not None and outcome.failure.kind == "changed":
            if not self.stopped:
                yield from self._changed(store, reason)
            return
        if not self.stopped:
            yield Said(f"nothing more is started: {reason}; once that is mended, the same command goes on")
            self.stop(reason)
        yield Said(f"{outcome.key}: not recorded ({reason})")

    def _lost(self, store: Store, event: Lost) -> Iterator[Event]:
        """Queue again what a process that died had not committed; after three kills the run has failed."""
        for spec in event.task:
            member = store.member(spec.key)
            if member.record is not None:
                yield from self._ended(store, outcome_of(member.record, spec.key))
                continue
            self._kills[spec.key] = self._kills.get(spec.key, 0) + event.poison
            self._losses[spec.key] = self._losses.get(spec.key, 0) + 1
            store.event(kind="lost", key=spec.key, cause=event.cause)
            limit = min(KILLS, 1 + self.prepared.config.retries)
            if self._kills[spec.key] >= limit:
                times = f"{self._kills[spec.key]} times" if limit > 1 else "once"
                failure = Failure("killed", f"it ended {times} without a result: {event.cause}")
                yield from self._ended(store, _condemn(store, spec, failure, self._nonce))
            elif self._losses[spec.key] >= LOSSES:
                yield Said(f"{spec.key}: lost {LOSSES} times ({event.cause}); left for the next command")
            elif not self.stopped:
                self._queue.appendleft((spec,))
                yield Retried(spec.key, event.cause, self._losses[spec.key] + 1, store.checkpoint(member))


def _condemn(store: Store, spec: RunSpec, failure: Failure, nonce: str) -> Outcome:
    """A failed record in the name of a run that cannot write its own."""
    attempt = store.begin(spec, nonce)
    attempt.log_text(f"{failure}\n")
    made = Record(
        spec=spec.to_json(), spec_id=spec.id, status="failed", attempt=attempt.nonce,
        attempts=attempt.number - 1, failure=failure,
    )  # fmt: skip
    if not store.commit(attempt, made):
        made = store.member(spec.key).record or made  # it was not dead after all: what it committed counts
    return outcome_of(made, spec.key)


_looking: defaultdict[str, Share] = defaultdict(Share)  # of each launch that this process works for


def _on_worker(task: Task, place: Place) -> list[Outcome]:
    if names := changed(place.watched):
        failure = Failure("changed", refusal(names), "setup")
        return [Outcome(spec.key, "unwritten", failure=failure) for spec in task]
    looking = _looking[place.launch]
    place = replace(place, look=looking.due())
    outcomes = _trained(task, place)
    for outcome in outcomes:
        looking.took(outcome.looking, outcome.seconds)
    return outcomes


def _trained(task: Task, place: Place) -> list[Outcome]:
    if forked.wanted(task):
        return forked.work(task, place)
    # Only the process that trains loads torch; the launcher's own may never need it.
    from sweep.worker import work

    return list(work(task, place))


def _chosen(store: Store, outcome: Outcome) -> Iterator[Event]:
    """Say what was taken of the text that a program logs, and how to choose among it."""
    record = store.member(outcome.key).record
    if record is not None and (words := record.collected.get("words")):
        how = f"sweep collect {path_argument(store.shown)} --metrics {path_argument(str(words))}"
        yield Said("\n  ".join([*outcome.notes, "to choose another, without training:", f"  {how}"]))


def _environments(members: Sequence[Member], prepared: Prepared) -> Iterator[Event]:
    """Say, or in deterministic mode refuse, that finished runs were made in unlike environments."""
    done = [m.record for m in members if m.record is not None and m.record.status == "ok"]
    for other in done[1:]:
        answer = verdict_of(done[0], other)
        if answer.answer is Answer.NOT_EXPECTED:
            fields = ", ".join(name for name, *_ in answer.fields)
            yield Said(f"mixed environments in this directory: {fields}")
            return


def _beside_others(path: Path) -> Owner:
    """`ml-train` works beside other `ml-train`s, but not beside a launch that owns the directory."""
    owner = Store.owner_of(path)
    if owner is not None:
        raise StoreError(f"a sweep is at work here ({owner})", where=str(path), hint="wait for it, or use --out")
    return this_process()
