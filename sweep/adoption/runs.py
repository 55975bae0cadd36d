"""Existing runs: the names in their places, and which of these name a seed, a task or a variant."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.config.schema import Collect
from sweep.errors import ConfigError, SweepError
from sweep.metrics import Found, Left, metrics
from sweep.metrics.files import read_text
from sweep.metrics.printed import Backtracks
from sweep.metrics.read import CSV, JSON, candidates
from sweep.metrics.rows import Row, as_number, settle

SEEDS = ("seed", "random_seed", "random_state", "seed_everything", "rng_seed", "global_seed")
_ENDED_BADLY = frozenset({"failed", "crashed", "killed"})
AT_WORK = frozenset({"running", "scheduled", "pending", "preempting"})


@dataclass(frozen=True)
class Entry:
    """One existing run.

    names: the names in its place, with their values. found: None if nothing could be read. why: the reason. failed:
    its state, if its tracker marks it as failed.
    """

    names: Mapping[str, Any]
    place: str
    found: Found | None
    why: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Roles:
    """The names of a run's seed and task, and those that distinguish variants (None: all that differ)."""

    seed: str | None = None
    task: str | None = None
    variant: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that have a role."""
        return tuple(name for name in (self.seed, self.task, *(self.variant or ())) if name is not None)


@dataclass(frozen=True)
class Opened:
    """Opened results: entries in a fixed order, the roles of their names, and a name for all of them."""

    kind: str
    entries: Sequence[Entry]
    roles: Roles
    name: str


def value(text: str) -> Any:
    """Return a part of a path as a number if it is one, else as text."""
    if re.fullmatch(r"-?(0|[1-9]\d*)", text):
        return int(text)
    found = as_number(text) if re.match(r"[-+.\d]", text) else None
    return text if found is None else found


def differing(roles: Roles, names: Sequence[Mapping[str, Any]]) -> Roles:
    """Find the seed and the task by their names, and take the names that differ as variants.

    A name that has a different value in every run identifies runs, not variants, unless nothing else differs.
    """
    keys = list(dict.fromkeys(key for row in names for key in row))
    leaf = {key: key.rpartition(".")[2].rpartition("/")[2] for key in keys}
    seed = roles.seed or next((key for word in SEEDS for key in keys if leaf[key] == word), None)
    task = roles.task or ("task" if "task" in keys else None)
    if roles.variant is not None:
        return Roles(seed, task, roles.variant)
    if seed is not None:  # a row without a seed among rows with one is not a run but, for example, an aggregate
        names = [row for row in names if row.get(seed) is not None]
        keys = list(dict.fromkeys(key for row in names for key in row))
    found = {}
    for key in keys:
        if key not in (seed, task) and leaf[key] not in SEEDS:
            values = [json.dumps(row.get(key), default=str) for row in names]
            if len(set(values)) > 1:
                found[key] = len(set(values)) == len(values)
    seeds = {json.dumps(row.get(seed), default=str) for row in names} if seed else set()
    one_seed = seed is not None and len(seeds) == 1
    return Roles(seed, task, tuple(key for key, alone in found.items() if not alone or one_seed))


def entry_of(path: Path, names: Mapping[str, Any], collect: Collect | None) -> Entry:
    try:
        return Entry(names, os.fspath(path), read(path, collect))
    except Backtracks:
        raise
    except (SweepError, OSError) as error:
        return Entry(names, os.fspath(path), None, error.what if isinstance(error, SweepError) else str(error))


def read(path: Path, collect: Collect | None = None) -> Found:
    """Return the metrics of a run's file or folder, as those of a program that has ended. Raises: SweepError."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        left = Left(path, {}, None, "")
        try:
            return metrics(collect, left)
        except SweepError as error:
            held = [name for name, _ in candidates(left)] if collect is None else []
            if not held:
                raise
            raise ConfigError(
                f"metrics are in {', '.join(held)}: choose with --metrics {held[0]}", where=str(path)
            ) from error
    if collect is not None and (collect.json_file or collect.csv or collect.tensorboard):
        raise ConfigError(
            "the pattern names files, but --metrics names files in folders", hint="use only one of the two"
        )
    ending = path.suffix.lower()
    if "tfevents" in path.name:
        wanted = Collect(tensorboard=".")
    elif ending in JSON:
        wanted = Collect.model_validate({"json": path.name})
    elif ending in (*CSV, ".parquet"):
        wanted = Collect(csv=path.name)
    else:
        return metrics(collect, Left(path, {}, None, read_text(path)))
    return metrics(wanted, Left(path.parent, {}, None, ""))


def settled(names: Mapping[str, Any], place: str, rows: Sequence[Row], state: str, step: str | None = "step") -> Entry:
    if state in AT_WORK:
        return Entry(names, place, None, f"its tracker reports it as {state}")
    failed = state if state in _ENDED_BADLY else ""
    try:
        return Entry(names, place, settle(rows, Collect(step=step), "results"), failed=failed)
    except SweepError as error:
        return Entry(names, place, Found({}) if failed else None, "" if failed else error.what, failed)
