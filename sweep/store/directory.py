"""The run directory as a class: all that is known about a sweep, for training and for all readers."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from io import BufferedReader
from itertools import product
from pathlib import Path
from typing import Any, Self

from sweep.errors import IntegrityError, StoreError
from sweep.plan import RunSpec, leaf_of
from sweep.redaction import known, redact
from sweep.store import atomic, history, lock, manifest, names, place, predictions, remote, scores, shape
from sweep.store.attempt import Attempt, checkpoints_in, stamps
from sweep.store.history import Row, Table
from sweep.store.manifest import Manifest
from sweep.store.member import Member, attempts_of, folders_in, history_of, judged, number_of
from sweep.store.names import filled, inside
from sweep.store.owner import Owner, now, this_process
from sweep.store.predictions import Predictions
from sweep.store.record import Failure, Record
from sweep.store.scores import Scores


class Store:
    """A run directory. `open` only reads. `create` and `begin` write."""

    def __init__(self, path: Path, manifest_: Manifest, shown: str = "") -> None:
        self.path = path
        self.manifest = manifest_
        self.shown = shown or os.fspath(path)  # for messages: the URL or zip that it is a copy of, or its path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Return the sweep at `path`, for a URL or a zip a copy of it. Raises: StoreError if it cannot be read."""
        root, url = remote.fetched(path)
        if root.exists() and not root.is_dir():
            raise StoreError("is a file, not a run directory", where=str(root))
        place.require_plain(root / names.MEMBERS)
        return cls(root, manifest.read(root / names.MANIFEST), url)

    @classmethod
    def bare(cls, path: Path) -> Store:
        """Return a directory without a plan, for attempts and records only."""
        return cls(path, Manifest(name="", config={}, experiment={}, seeds=()))

    claim = staticmethod(place.claim)

    @staticmethod
    def exists(path: Path) -> bool:
        return (path / names.MANIFEST).exists()

    @classmethod
    def check(cls, path: Path, wanted: Manifest | None) -> None:
        """Check that `create` would accept a directory, for any experiment if `wanted` is None. Write nothing.

        Raises: StoreError.
        """
        place.require(path)
        if wanted is not None and cls.exists(path):
            cls.open(path).require(wanted)

    @classmethod
    def create(cls, path: str | os.PathLike[str], manifest_: Manifest) -> Store:
        """Return a new directory, or the existing one if it holds the same experiment, with the seeds added.

        Raises: StoreError with a diff if it holds another experiment.
        """
        root = Path(path)
        cls.claim(root)
        with lock.briefly(root / names.MANIFEST_LOCK):
            if not (root / names.MANIFEST).exists():
                store = cls.bare(root)
                store._put(replace(manifest_, seed_log=(manifest.SeedEntry(now(), manifest_.seeds, False),)))
                return store
            store = cls.open(root)
            store.require(manifest_)
            store._put(manifest.joined(store.manifest, manifest_, store._has_results))
            return store

    @classmethod
    def adopt(cls, path: Path, manifest_: Manifest) -> Store:
        """Plan adopted runs in a new or existing directory. The caller holds its lock."""
        store = cls.bare(path)
        with lock.briefly(path / names.MANIFEST_LOCK):
            store._put(manifest_)
        return store

    def require(self, wanted: Manifest) -> None:
        """Refuse a directory that holds another experiment. Raises: StoreError with a diff."""
        # Older versions hid fewer secrets.
        here = redact(atomic.strict(self.manifest.experiment))
        new = wanted.experiment
        if unknown := manifest.not_comparable(here, new, wanted.config.get("data") or ()):
            shown = "\n".join(f"    {name}: {why}" for name, why in list(unknown.items())[:20])
            raise StoreError(
                f"it is unknown whether this directory holds the same experiment, because of\n{shown}",
                where=str(self.path),
                hint="choose another directory with --out, train all runs again with --retrain, or if the data are "
                "the same, name their version, for example data_version=1, and give a new name whenever they change",
            )
        if manifest.adopts(here, new):
            here["inputs"] = new["inputs"]
        there = replace(self.manifest, experiment=here)
        asked = replace(wanted, experiment=atomic.strict(manifest.without_new_files(here, new)))
        if diff := manifest.changes(there, asked):
            shown = "\n".join(f"    {line}" for line in diff[:20])
            more = f"\n    and {len(diff) - 20} more" if len(diff) > 20 else ""
            raise StoreError(
                f"this directory holds another experiment; it differs in (here -> requested)\n{shown}{more}",
                where=str(self.path),
                hint="choose another directory with --out, use the settings that are here, or train all runs again "
                "with --retrain",
            )

    def extend(self, seeds: Sequence[int], note: str = "") -> None:
        """Add seeds to the plan. The log keeps the time and whether there were results."""
        self._change(lambda old: old.adding(seeds, results_existed=self._has_results(), note=note))

    def _has_results(self) -> bool:
        return any(member.record is not None for member in self.scan())

    def stamp(self, value: dict[str, Any]) -> None:
        """Store the evidence for or against the claim that this sweep is bit-exact."""
        self._change(lambda old: replace(old, stamp=value))

    def keep_until(self, value: dict[str, Any]) -> None:
        """Store the stopping rule and its state."""
        self._change(lambda old: replace(old, until=value))

    def _change(self, made: Callable[[Manifest], Manifest]) -> None:
        """Replace the current plan on disk by the plan that a function makes from it."""
        with lock.briefly(self.path / names.MANIFEST_LOCK):
            self.manifest = manifest.read(self.path / names.MANIFEST)
            self._put(made(self.manifest))

    def _put(self, new: Manifest) -> None:
        if new is self.manifest:
            return
        if new.runs > manifest.MOST:
            raise StoreError(manifest.too_many(new.runs), where=self.shown, hint=manifest.FEWER_RUNS)
        atomic.write(self.path / names.MANIFEST, shape.seal(new))
        self.manifest = new

    # Reading

    def members(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield (task, variant, seed, repeat) of every planned run, sorted, never in the order of completion."""
        repeats = range(int(self.manifest.experiment["repeats"]))
        for cell in self.manifest.experiment["cells"]:
            for seed, repeat in product(sorted(self.manifest.seeds_of(cell)), repeats):
                yield cell["task"], cell["variant"], seed, repeat

    def scan(self, *, verify: bool = False) -> Iterator[Member]:
        """Yield every planned run with its status. verify=True also hashes every artefact."""
        live = self.owner()
        folders: dict[tuple[str, str], set[str]] = {}
        for task, variant, seed, repeat in self.members():
            blank = self._blank(task, variant, seed, repeat)
            if (task, variant) not in folders:
                parent = blank.path.parent
                for part in (parent, *parent.parents):
                    if part == self.path:
                        break
                    place.require_plain(part)
                folders[task, variant] = folders_in(parent)
            there = blank.path.name in folders[task, variant]
            yield judged(self.path, blank, self._asked(blank), live, verify=verify) if there else blank

    def _blank(self, task: str, variant: str, seed: int, repeat: int) -> Member:
        """Return a planned run before its folder is read."""
        folds = self.manifest.folds
        key = "/".join(part for part in (task, variant, leaf_of(seed, repeat, folds)) if part)
        return Member(key, variant, task, seed, repeat, "pending", self.path / f"{names.MEMBERS}/{key}", folds=folds)

    def member(self, key: str) -> Member:
        """Return one planned run by its key, read from the disk. Raises: StoreError if it is not planned."""
        folder, _, leaf = key.rpartition("/")
        cell = self.manifest.cells.get(folder)
        named = re.fullmatch(r"seed([0-9]+)(?:-(?:r|fold)([0-9]+))?", leaf)
        if cell is not None and named is not None:
            seed, repeat = int(named[1]), int(named[2] or 0)
            blank = self._blank(cell["task"], cell["variant"], seed, repeat)
            planned = seed in self.manifest.seeds_of(cell) and repeat < int(self.manifest.experiment["repeats"])
            if planned and blank.key == key:
                return judged(self.path, blank, self._asked(blank), self.owner())
        raise StoreError(f"there is no run {key!r} in its plan", where=str(self.path))

    def late(self, member: Member, launch: str) -> bool:
        """Return whether the newest attempt is of this launch, but the record is of another attempt."""
        if member.attempts < 2:
            return False
        newest = attempts_of(member.path)[0]
        owner = lock.read_owner(newest / names.ABOUT)
        return newest != member.folder and owner is not None and owner.nonce == launch

    def workers(self, launch: str) -> list[Owner]:
        """Return the processes on this machine that work on runs of a launch. launch: its nonce."""
        folders = [member.folder for member in self.scan() if member.status == "running"]
        owners = [lock.read_owner(folder / names.ABOUT) for folder in folders if folder is not None]
        return [owner for owner in owners if owner is not None and owner.nonce == launch and owner.dead() is False]

    def _asked(self, member: Member) -> dict[str, Any]:
        """Return the fields of a run's record that must equal the plan."""
        experiment = self.manifest.experiment
        shared = {name: experiment[name] for name in ("target", "deterministic", "device", "threads")}
        cell = self.manifest.cells.get("/".join(part for part in (member.task, member.variant) if part))
        return shared if cell is None else {**shared, "params": cell["params"], "data": cell["data"]}

    def file(self, member: Member, name: str) -> Path:
        """Return the path of an artefact in the record after checking its sha256.

        Raises: IntegrityError if it is missing or altered.
        """
        with self._checked(member, name) as (path, _):
            return path

    @contextmanager
    def _checked(self, member: Member, name: str) -> Iterator[tuple[Path, BufferedReader]]:
        """Open an artefact and check its bytes against the record. Yield its path and the open file, at its beginning.

        Raises: IntegrityError.
        """
        found = member.record
        if found is None or name not in found.artifacts:
            raise IntegrityError(f"{member.key} has no {name}", where=str(member.path))
        path = inside(self.path, member.path / f"{names.ATTEMPT}{found.attempt}" / name)
        try:
            stream = atomic.opened(path)
        except OSError as error:
            raise IntegrityError(f"cannot be read ({error.strerror})", where=str(path)) from error
        with stream:
            try:
                same = atomic.stream_digest(stream) == found.artifacts[name].sha256
            except OSError as error:
                raise IntegrityError(f"cannot be read ({error.strerror})", where=str(path)) from error
            if not same:
                raise IntegrityError(
                    "its content is not what was recorded", where=str(path),
                    hint=f"train the run again: sweep resume {self.path}",
                )  # fmt: skip
            yield path, stream

    def has(self, member: Member, name: str) -> bool:
        return bool(member.artifacts(name))

    def history(self, member: Member) -> list[Row]:
        """Return the logged rows, for a run without a record those of its newest attempt.

        Raises: IntegrityError if they are not those of the record.
        """
        return history.parse(self._history(member))

    def table(self, member: Member) -> Table | list[Row]:
        """Return `history` by column, in half the time, or by row if the rows have different metrics."""
        return history.table(self._history(member))

    def _history(self, member: Member) -> bytes:
        """Return the bytes of a run's history, empty if there is no file. Raises: IntegrityError."""
        if member.record is not None:
            name = history_of(member.record)
            if name not in member.record.artifacts:
                return b""
            with self._checked(member, name) as (_, stream):
                return stream.read()
        folder = member.folder
        if folder is None or not (path := inside(self.path, folder / names.HISTORY)).exists():
            return b""
        with atomic.opened(path) as stream:
            return stream.read()

    def last_row(self, member: Member) -> Row | None:
        folder = member.folder
        name = names.HISTORY if member.record is None else history_of(member.record)
        return history.last(inside(self.path, folder / name)) if folder else None

    def checkpoint(self, member: Member) -> int | None:
        """Return the step of the newest checkpoint of an unfinished run, or None. No checkpoint is opened."""
        files = (path for each in attempts_of(member.path) for path in checkpoints_in(each) if path.suffix == ".pt")
        return max((int(path.stem.removeprefix(names.CHECKPOINT)) for path in files), default=None)

    def left_behind(self, member: Member) -> int:
        """Return the number of files that an unfinished program left in the folder that its next attempt uses."""
        folder = member.path / names.WORK
        return 0 if folder.is_symlink() or not folder.is_dir() else len(stamps(folder))

    def splits(self, member: Member) -> list[str]:
        """Return the splits for which a finished run, or each fold of a seed, has predictions."""
        found = _saved(member, names.PREDICTIONS)
        if not member.parts:
            return found
        # A fold trains and selects on examples on which other folds are tested.
        mine = (one for one in found if one not in ("train", "val"))
        return [one for one in mine if self.has(member, names.PREDICTIONS.format(split=one))]

    def predictions(self, member: Member, split: str) -> Predictions | None:
        """Return the predictions of a run, or those of all folds of a seed together, or None if there are none.

        Raises: IntegrityError; SweepError if two folds predicted the same example.
        """
        name = names.PREDICTIONS.format(split=split)
        if not self.has(member, name):
            return None
        found = []
        for one in member.parts or (member,):
            with self._checked(one, name) as (path, stream):
                found.append(predictions.load(stream, where=str(path)))
        return predictions.joined(found, where=f"{member.key}: {name}") if member.parts else found[0]

    def scored(self, member: Member) -> list[str]:
        """Return the names of the sets of items for which a finished run has scores."""
        return _saved(member, names.SCORES)

    def scores(self, member: Member, name: str) -> Scores | None:
        """Return the scores of one set of items, or None if the run saved none under this name."""
        file = names.SCORES.format(name=name)
        if not self.has(member, file):
            return None
        with self._checked(member, file) as (path, stream):
            return scores.load(stream, where=str(path))

    def log(self, member: Member) -> Path | None:
        """Return the log file of a run, or None."""
        folder = member.folder
        path = inside(self.path, folder / names.LOG) if folder else None
        return path if path is not None and path.exists() else None

    def owner(self) -> Owner | None:
        """Return the launch that holds the lock, or None."""
        return self.owner_of(self.path)

    @staticmethod
    def owner_of(path: Path) -> Owner | None:
        """Return the launch that holds the lock of a directory, which need not be a sweep yet, or None."""
        return lock.holder(path / names.LOCK)

    # Writing

    @staticmethod
    def lock(path: Path, *, break_lock: bool = False) -> AbstractContextManager[Owner]:
        """Hold the lock of a directory. Raises: StoreError naming the launch that holds it."""
        return lock.held(path / names.LOCK, break_lock=break_lock)

    @classmethod
    @contextmanager
    def entered(cls, path: Path, *, beside: bool = False, break_lock: bool = False) -> Iterator[Owner]:
        """Enter a directory to train in it: as its only launch, or `beside` others with single seeds (`ml-train`).

        A file marks the launch while the block runs, for its workers and for other launches.
        Raises: StoreError naming the launch that is in the way.
        """
        place.claim(path)
        with ExitStack() as held:
            # Under a lock: a launch that is just entering is not overlooked.
            with lock.briefly(path / names.MANIFEST_LOCK):
                if beside:
                    owner, other, who = this_process(), cls.owner_of(path), "a sweep"
                else:
                    owner, who = held.enter_context(cls.lock(path, break_lock=break_lock)), "ml-train"
                    other = next((one for one in place.launches(path).values() if one.dead() is False), None)
                if other is not None:
                    raise StoreError(
                        f"{who} is using this directory ({other})", where=str(path),
                        hint=f"wait for it (sweep status {path} shows its runs), or use another --out",
                    )  # fmt: skip
                stop, token = (path / f"{mark}{owner.nonce}" for mark in (names.STOP, names.TOKEN))
                held.callback(stop.unlink, missing_ok=True)
                held.callback(token.unlink, missing_ok=True)
                atomic.create(token, lock.named(owner))
            yield owner

    def begin(self, spec: RunSpec, launch: str = "") -> Attempt:
        """Begin a new attempt at a run. launch: the nonce of the lock under which it works."""
        path = inside(self.path, self.path / names.MEMBERS / spec.key)
        previous = attempts_of(path)
        number = 1 + max((number_of(attempt) for attempt in previous), default=0)
        owner = replace(this_process(), nonce=launch)
        folder = path / f"{names.ATTEMPT}{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        hidden = known(spec.params, list(spec.target.argv))
        made = Attempt(folder, spec.id, owner, number, tuple(previous), hidden)
        made.declare()
        return made

    def commit(self, attempt: Attempt, made: Record) -> bool:
        """Commit `made` as the record of its run. Return False if another attempt was first and its record stays."""
        atomic.make_durable(attempt.path.parent)
        return lock.create_once(attempt.path.parent / names.RECORD, shape.seal(made))

    def fail(self, attempt: Attempt, spec: RunSpec, failure: Failure, **more: Any) -> None:
        """Record a failure for a process that cannot do it itself, unless another attempt was first."""
        made = Record(
            spec=spec.to_json(), spec_id=spec.id, status="failed", attempt=attempt.nonce, failure=failure,
            artifacts=attempt.artifacts(), **more,
        )  # fmt: skip
        if self.commit(attempt, made):
            attempt.drop_checkpoints()

    def set_aside(self, member: Member) -> None:
        """Move a failed or damaged record aside. It is kept, and a failed one is counted."""
        path = member.path / names.RECORD
        if member.record is not None:
            folder = inside(self.path, member.path / f"{names.ATTEMPT}{member.record.attempt}")
            if (member.path / names.WORK).is_dir():  # nothing resumes from the files of a failure
                atomic.move(member.path / names.WORK, folder / f"{names.WORK}-{secrets.token_hex(4)}")
            atomic.move(path, folder / names.RECORD)
        elif path.exists() or path.is_symlink():
            atomic.move(path, member.path / f"{names.CORRUPT}{secrets.token_hex(4)}.json")

    def require_idle(self, members: Iterable[Member]) -> None:
        """Refuse to continue while one of these runs is being trained. Raises: StoreError."""
        if working := next((m.key for m in members if m.status == "running"), ""):
            raise StoreError(
                "a run is being trained by another command", where=f"{self.path}: {working}",
                hint=f"wait for it (sweep status {self.path} shows its runs)",
            )  # fmt: skip

    def renew(self, wanted: Manifest) -> int:
        """Replace the plan by another, whose runs are all trained again. Return the number of records moved aside.

        These are kept in their attempts and counted. No run resumes from an unfinished attempt.
        Raises: StoreError if a run is being trained.
        """
        members = [m for m in self.scan() if m.attempts]
        self.require_idle(members)
        for member in members:
            if member.record is None and (member.path / names.WORK).is_dir() and member.folder is not None:
                atomic.move(member.path / names.WORK, member.folder / f"{names.WORK}-{secrets.token_hex(4)}")
            for attempt in attempts_of(member.path):
                for checkpoint in checkpoints_in(attempt):
                    checkpoint.unlink(missing_ok=True)
            self.set_aside(member)
        found = sum(member.record is not None for member in members)
        self._change(lambda old: wanted.retrained(old, results_existed=bool(found)))
        return found

    def reading(self, collect: dict[str, Any] | None, identity: str) -> None:
        """Store how metrics are read from now on. The caller replaces the records that were read differently."""
        self._change(lambda old: replace(old, config={**old.config, "collect": collect}, collected=identity))
        self.event(kind="collected", collect=collect, identity=identity)

    def reread(self, member: Member, made: Record, rows: bytes) -> None:
        """Replace the record of a run by another reading of the same attempt. The old record is kept in the attempt."""
        if member.record is None or made.attempt != member.record.attempt:
            raise StoreError("only another reading of the same attempt can replace a record", where=member.key)
        folder = inside(self.path, member.path / f"{names.ATTEMPT}{made.attempt}")
        atomic.write(folder / history_of(made), rows)
        atomic.write(folder / f"{names.READ_BEFORE}{secrets.token_hex(4)}.json", shape.seal(member.record))
        atomic.write(member.path / names.RECORD, shape.seal(made))

    def put_by(self, member: Member) -> None:
        """Move the record of an adopted run into its attempt, because its source has changed and is adopted again."""
        if member.record is not None:
            folder = inside(self.path, member.path / f"{names.ATTEMPT}{member.record.attempt}")
            atomic.move(member.path / names.RECORD, folder / f"{names.READ_BEFORE}{secrets.token_hex(4)}.json")

    def withdraw(self, made: Sequence[Path]) -> None:
        """Remove a directory in which no run has begun. made: folders that were created for it, innermost first."""
        if (self.path / names.MEMBERS).exists():
            return
        ours = [self.path / name for name in (names.MANIFEST, names.MANIFEST_LOCK, names.LOCK)]
        for path in (*ours, *place.marks(self.path)):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # another process has put something there
            for folder in made:
                folder.rmdir()

    def event(self, **fields: Any) -> None:
        """Add a line to events.jsonl: retries, discarded duplicates, signals."""
        atomic.append_line(self.path / names.EVENTS, atomic.dumps({"time": now(), **fields}, indent=None))

    def clean(self) -> None:
        """Remove what killed writers left behind: marks, temporary files, and checkpoints of runs that have a record.

        Only files with names of ours are removed, and only in the folders of planned runs and their attempts. All other
        files belong to the user.
        """
        launches = place.launches(self.path)
        for mark in place.marks(self.path):
            if mark.name.rpartition("-")[2] not in launches:
                mark.unlink(missing_ok=True)
        if not all(owner.here for owner in launches.values()):
            return  # a launch on another host may be writing these files now
        for scrap in place.scraps(self.path):
            scrap.unlink(missing_ok=True)
        root = os.path.realpath(self.path)
        for planned in self.members():
            path = self._blank(*planned).path
            if os.path.realpath(path) != os.path.join(root, path.relative_to(self.path)):
                continue  # it is reached through a link, so its files are not ours
            for attempt in attempts_of(path):
                ended = checkpoints_in(attempt) if (path / names.RECORD).exists() else []
                for scrap in (*ended, *place.scraps(attempt)):
                    scrap.unlink(missing_ok=True)
            for scrap in place.scraps(path):
                scrap.unlink(missing_ok=True)

    def stop_file(self, launch: str) -> Path:
        """Return the file that makes the runs of a launch end at their next checkpoint. launch: its nonce."""
        return self.path / f"{names.STOP}{launch}"


class Reading(Store):
    """A run directory as it was at one moment: scanned once, even if a command lists its runs several times.

    Use a Store to follow a sweep while it runs.
    """

    _members: tuple[Member, ...] | None = None

    @classmethod
    def of(cls, found: Store | str | os.PathLike[str]) -> Self:
        """Return a reading of an open directory, or of the one at a path. Raises: StoreError."""
        store = found if isinstance(found, Store) else Store.open(found)
        return cls(store.path, store.manifest, store.shown)

    def scan(self, *, verify: bool = False) -> Iterator[Member]:
        if verify:
            return super().scan(verify=True)
        if self._members is None:
            self._members = tuple(super().scan())
        return iter(self._members)


def _saved(member: Member, pattern: str) -> list[str]:
    files = member.record.artifacts if member.record is not None else ()
    return sorted(part for name in files if (part := filled(pattern, name)) is not None)
