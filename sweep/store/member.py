"""A planned run and its status, read from its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sweep.errors import StoreError
from sweep.store import atomic, lock, record
from sweep.store.attempt import is_result
from sweep.store.names import ABOUT, ATTEMPT, HISTORY, RECORD, inside
from sweep.store.owner import Owner
from sweep.store.record import Artifact, Record

Status = Literal["ok", "failed", "lost", "stopped", "running", "pending"]


@dataclass(frozen=True)
class Member:
    """One planned run.

    status: "lost" if its worker or its node died, "stopped" if it ended by request. folds: the number of folds, which
    `repeat` then counts; 0 without folds. parts: the runs of all folds of the seed, if it stands for them (see
    `by_seed`).
    """

    key: str
    variant: str
    task: str
    seed: int
    repeat: int
    status: Status
    path: Path
    record: Record | None = None
    note: str = ""
    attempts: int = 0
    retried: int = 0  # records that were moved aside for a retry
    folds: int = 0
    parts: tuple[Member, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Return the folder of the attempt that counts, else of the newest one, or None if there is none."""
        if self.record is not None:
            return self.path / f"{ATTEMPT}{self.record.attempt}"
        tries = attempts_of(self.path)
        return tries[0] if tries else None

    def artifacts(self, name: str) -> list[Artifact]:
        """Return a file of the run, or that of each fold, or nothing if one of them lacks it."""
        parts = self.parts or (self,)
        found = [one.record.artifacts[name] for one in parts if one.record and name in one.record.artifacts]
        return found if len(found) == len(parts) else []


def by_seed(members: Iterable[Member]) -> list[Member]:
    """Return one member per seed of each variant and task: its first repeat, or one that stands for all its folds.

    The latter is ok if all folds are, and otherwise the first that is not.
    """
    found: dict[tuple[str, str, int], list[Member]] = {}
    made = []
    for one in members:
        if one.folds:
            found.setdefault((one.task, one.variant, one.seed), []).append(one)
        elif one.repeat == 0:
            made.append(one)
    for parts in found.values():
        wanting = next((one for one in parts if one.status != "ok"), None)
        made.append(wanting or replace(parts[0], parts=tuple(parts)))
    return made


def attempts_of(path: Path) -> list[Path]:
    """Return the attempts at a run, newest first, ordered by number and not by time."""
    names = [name for name in folders_in(path) if name.startswith(ATTEMPT)]
    if len(names) < 2:  # saves reading a file for nearly every run
        return [path / name for name in names]
    return [path / name for _, name in sorted(((number_of(path / name), name) for name in names), reverse=True)]


def judged(root: Path, member: Member, asked: Mapping[str, Any], live: Owner | None, *, verify: bool = False) -> Member:
    """Return a planned run with its status. asked: fields that its record must have. live: the launch at work."""
    tries = attempts_of(member.path)
    retried = sum((attempt / RECORD).exists() for attempt in tries)
    member = replace(member, attempts=len(tries), retried=retried)
    try:
        found = record.decode(atomic.read(inside(root, member.path / RECORD), record.LIMIT))
        reason = _disbelieve(root, member, found, asked, verify)
        if not reason:
            return replace(member, status=found.status, record=found, note=_others(root, member, found, verify))
    except FileNotFoundError:
        reason = ""
    except (ValueError, OSError, StoreError) as error:
        reason = f"its record is damaged: {error}"
    if not tries and not reason:
        return member
    # An attempt with a record of its own has ended, although its process may still train other runs.
    at_work = bool(tries) and not (tries[0] / RECORD).exists()
    owner = lock.read_owner(tries[0] / ABOUT) if at_work else None
    if not reason and owner is not None and _alive(owner, live):
        return replace(member, status="running")
    stopped = at_work and not reason and _about(tries[0]).get("stopped") is True
    return replace(member, status="stopped" if stopped else "lost", note=reason)


def _disbelieve(root: Path, member: Member, found: Record, asked: Mapping[str, Any], verify: bool) -> str:
    """Return why a record that parses does not count, or an empty string."""
    named = (found.spec["task"], found.spec["variant"], found.spec["seed"], found.spec["repeat"])
    if named != (member.task, member.variant, member.seed, member.repeat):
        return f"its record belongs to another run (seed {found.spec['seed']})"
    other = [name for name, value in asked.items() if found.spec[name] != value]
    if other:
        return f"its record belongs to another experiment (different: {', '.join(other)})"
    return next(_altered(root, member, found, filter(is_result, found.artifacts), verify), "")


def _others(root: Path, member: Member, found: Record, verify: bool) -> str:
    """Return which files of the training code changed or are missing. They do not affect the status."""
    names = [name for name in found.artifacts if not is_result(name)]
    return "; ".join(_altered(root, member, found, names, verify))


def _altered(root: Path, member: Member, found: Record, names: Iterable[str], verify: bool) -> Iterator[str]:
    folder = member.path / f"{ATTEMPT}{found.attempt}"
    for name in names:
        artifact = found.artifacts[name]
        try:
            path = inside(root, folder / name)
            whole = path.stat().st_size == artifact.bytes
            if not whole or (verify and atomic.file_digest(path) != artifact.sha256):
                yield f"{name} is not what was recorded" if is_result(name) else f"{name} changed after the run"
        except (OSError, StoreError):
            yield f"{name} is missing"


def _alive(owner: Owner, live: Owner | None) -> bool:
    """Return whether an owner is alive. A process on another host counts as alive while its launch is."""
    dead = owner.dead()
    return (live is not None and live.nonce == owner.nonce) if dead is None else not dead


def number_of(attempt: Path) -> int:
    number = _about(attempt).get("number")
    return number if type(number) is int else 0


def _about(attempt: Path) -> dict[str, Any]:
    """Return the description of an attempt, empty if it cannot be read."""
    try:
        found = atomic.loads(atomic.read(attempt / ABOUT, record.LIMIT))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def history_of(found: Record) -> str:
    """Return the name of the history file of the reading that counts."""
    name = found.collected.get("history")
    return name if isinstance(name, str) and re.fullmatch(r"history-[0-9a-f]{8}\.jsonl", name) else HISTORY


def folders_in(path: Path) -> set[str]:
    """Return the names of the folders in a folder, without links, or none if it does not exist."""
    try:
        return {entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
