"""sweep.json: the resolved config, the plan, the log of seeds and the versions that made the directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep.errors import StoreError
from sweep.store import atomic, shape
from sweep.store.names import is_folder
from sweep.store.owner import now
from sweep.store.record import TARGET

LIMIT = 256 << 20  # bytes that a manifest may have
ADOPTED = "adopted"  # the kind of target of runs that were made elsewhere
MOST = 200_000  # runs of one directory: all of it is read whenever it is opened
PRESENTED = ("primary", "goals")  # of a config: may be asked anew of a directory that is there
UNTIL = "until"  # the note of seeds that a stopping rule asked for
RETRAIN = "retrain"  # the note of a launch that moved all records aside

Json = Any

_SOME = (None, str)
SHAPE = {
    "name": str, "config": {
        "primary?": _SOME, "goals?": (None, {"*": str}), "grid?": (None, {"*": [Any]}), "collect?": (None, {"*": Any}),
        "until?": _SOME, "params?": (None, {"*": Any}), "vary?": (None, [str]),
    },
    "experiment": {"*": Any}, "seeds": [int], "versions?": {"*": str},
    "stamp?": {
        "status?": str, "summary?": str, "how?": str, "extent?": str, "key?": _SOME, "seed?": (None, int),
        "difference?": _SOME, "culprit?": _SOME, "later?": str, "environment?": {"*": Any}, "fill_memory?": bool,
        "digests?": {"*": str}, "time?": str, "torch?": _SOME, "device?": str, "threads?": (None, int),
    },
    "until?": {
        "rule?": str, "summary?": str, "named_late?": Any, "before?": (None, [str]),
        "cells?": [{"task": str, "variant": str, "metric": str, "summary?": str}],
    },
    "primary_before?": str, "collected?": str, "source?": str,
}  # fmt: skip
EXPERIMENT = {
    "target": TARGET, "repeats": int,
    "cells": [{"task": str, "variant": str, "params": {"*": Any}, "data": str, "seeds?": [int]}],
    "deterministic": bool, "device": str, "threads": int, "vary?": (None, [str]), "inputs?": (None, {"*": Any}),
    "cwd?": _SOME, "folds?": int,
}  # fmt: skip


@dataclass(frozen=True)
class SeedEntry:
    """Seeds or variants that were added at one moment, and whether results had been seen before."""

    time: str
    added: tuple[int, ...]
    results_existed: bool
    note: str = ""
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A sweep as it was asked for. `experiment` is its identity; `config` is for people and for `reproduce`."""

    name: str
    config: Mapping[str, Json]
    experiment: Mapping[str, Json]
    seeds: tuple[int, ...]
    seed_log: tuple[SeedEntry, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    stamp: Mapping[str, Json] = field(default_factory=dict)
    until: Mapping[str, Json] = field(default_factory=dict)  # the stopping rule, and where it stood at its last look
    primary_before: str = ""  # the primary metric when results were first there, where another is asked for now
    collected: str = ""  # the identity of how metrics are read, once they were read again
    source: str = ""  # the text of a function that no file holds, as of a notebook: to be read, never run

    def adding(self, seeds: Sequence[int], *, results_existed: bool, note: str = "") -> Manifest:
        """Return this manifest with the seeds that are new; unchanged when none is."""
        new = tuple(seed for seed in seeds if seed not in self.planned)
        if not new:
            return self
        entry = SeedEntry(now(), new, results_existed, note)
        return replace(self, seeds=self.seeds + new, seed_log=(*self.seed_log, entry))

    def growing(self, wanted: Manifest, *, results_existed: bool) -> Manifest:
        """Return this manifest with the variants of a larger grid (see `grows`)."""
        new = tuple(folder for folder in wanted.cells if folder not in self.cells)
        return replace(
            self, config={**self.config, "grid": wanted.config["grid"]},
            experiment={**self.experiment, "cells": wanted.experiment["cells"]},
            seed_log=(*self.seed_log, SeedEntry(now(), (), results_existed, variants=new)),
        )  # fmt: skip

    def grows(self, wanted: Manifest) -> bool:
        """Return whether another manifest has all variants of this one as they are, and more of the same grid."""
        old, new = self.config.get("grid") or {}, wanted.config.get("grid") or {}
        tasks = [{cell["task"] for cell in one.experiment["cells"]} for one in (self, wanted)]
        return (
            bool(old) and set(old) == set(new) and tasks[0] == tasks[1]
            and len(wanted.cells) > len(self.cells) and self.cells.keys() <= wanted.cells.keys()
        )  # fmt: skip

    @property
    def presented(self) -> dict[str, Json]:
        """Return the primary metric and the goals: no part of the experiment, only of what is shown."""
        return {key: self.config.get(key) for key in PRESENTED}

    def presenting(self, asked: Mapping[str, Json], *, results_existed: bool) -> Manifest:
        """Return this manifest with what another has `presented`."""
        before = self.primary_before or str(self.config.get("primary") or "the default")
        moved = results_existed and asked["primary"] != self.config.get("primary")
        return replace(self, config={**self.config, **asked}, primary_before=before if moved else self.primary_before)

    @cached_property
    def planned(self) -> frozenset[int]:
        """Return the seeds, to look one up among many."""
        return frozenset(self.seeds)

    @cached_property
    def cells(self) -> dict[str, Mapping[str, Json]]:
        """Return what every seed is trained as, by its folder below `members/`."""
        return {"/".join(p for p in (c["task"], c["variant"]) if p): c for c in self.experiment["cells"]}

    @property
    def adopted(self) -> bool:
        """Return whether its runs were made elsewhere and adopted."""
        return bool(self.experiment) and self.experiment["target"]["kind"] == ADOPTED

    @property
    def folds(self) -> int:
        """Return into how many folds the data are cut, which `repeats` then counts; 0: none."""
        return int(self.experiment.get("folds", 0))

    @property
    def numbered(self) -> bool:
        """Return whether its seeds only count its runs: then equal ones are no reason to pair two of them."""
        return bool(self.config.get("numbered"))

    def seeds_of(self, cell: Mapping[str, Json]) -> Sequence[int]:
        """Return the seeds of one variant of one task: all, but where adopted tasks have seeds of their own."""
        own: Sequence[int] = cell.get("seeds", self.seeds)
        return own

    @property
    def runs(self) -> int:
        """Return how many runs are planned."""
        cells = self.experiment["cells"] if self.experiment else ()
        return sum(len(self.seeds_of(cell)) for cell in cells) * int(self.experiment.get("repeats", 1))

    @property
    def log(self) -> tuple[SeedEntry, ...]:
        """Return the additions to the runs that are there now: those since all were last trained again."""
        notes = [entry.note for entry in self.seed_log]
        return self.seed_log[len(notes) - notes[::-1].index(RETRAIN) if RETRAIN in notes else 0 :]

    @property
    def extensions(self) -> int:
        """Return how often seeds or variants were added after there were results, other than by a stopping rule.

        A rule has paid for its looks in advance.
        """
        return sum(entry.results_existed and entry.note != UNTIL for entry in self.log)

    def retrained(self, before: Manifest, *, results_existed: bool) -> Manifest:
        """Return this manifest with the seeds and the log of `before`, whose runs are all trained again as it says."""
        new = tuple(seed for seed in self.seeds if seed not in before.planned)
        entry = SeedEntry(now(), new, results_existed, RETRAIN)
        return replace(self, seeds=before.seeds + new, seed_log=(*before.seed_log, entry))


def read(path: Path) -> Manifest:
    """Return the manifest at `path`.

    Raises: StoreError when it is absent, damaged or of a newer format.
    """
    try:
        body = shape.unseal(atomic.read(path, LIMIT), Manifest)
        body["seeds"] = tuple(body["seeds"])
        body["seed_log"] = tuple(
            SeedEntry(
                e["time"], tuple(e["added"]), e["results_existed"], e.get("note", ""), tuple(e.get("variants", ()))
            )
            for e in body["seed_log"]
        )
        _check(body)
        return Manifest(**body)
    except FileNotFoundError:
        raise StoreError(
            "no sweep is here (sweep.json is missing)", where=str(path.parent),
            hint="name a directory that `sweep run` or `sweep adopt` made, e.g. runs/digits-mlp",
        ) from None  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"it cannot be read ({error})", where=str(path), hint="restore the file, or choose another --out"
        ) from error


def _check(body: Mapping[str, Json]) -> None:
    """Refuse a plan that cannot be ours. Raises: ValueError."""
    shape.require(body, SHAPE)
    experiment = body["experiment"]
    if experiment:  # a directory of a worker's own has no plan
        shape.require(experiment, EXPERIMENT, "experiment")
        if not all(is_folder(cell["task"]) and is_folder(cell["variant"]) for cell in experiment["cells"]):
            raise ValueError("a task or variant has no name of ours")
        if len({(cell["task"], cell["variant"]) for cell in experiment["cells"]}) < len(experiment["cells"]):
            raise ValueError("a variant is planned twice")
        if experiment["repeats"] < 1 or experiment.get("folds", experiment["repeats"]) != experiment["repeats"]:
            raise ValueError("its repeats are no number")
        runs = experiment["repeats"] * sum(len(cell.get("seeds", body["seeds"])) for cell in experiment["cells"])
        if runs > MOST:
            raise ValueError(f"it plans {runs:,} runs, a directory holds at most {MOST:,}")
    logged = [seed for entry in body["seed_log"] for seed in entry.added]
    logged += [seed for cell in (experiment or {}).get("cells", ()) for seed in cell.get("seeds", ())]
    if any(type(seed) is not int or not 0 <= seed < 1 << 32 for seed in (*body["seeds"], *logged)):
        raise ValueError("a seed in it is none")
    if len(set(body["seeds"])) != len(body["seeds"]):
        raise ValueError("a seed is planned twice")


def differences(old: Json, new: Json, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (path, old value, new value) of every leaf in which two experiments differ, the values as JSON."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{path}[{index}]")
    else:
        # As text: in Python 1, 1.0 and True are equal, as parameters of a run they are not.
        before, after = atomic.dumps(old, indent=None), atomic.dumps(new, indent=None)
        if before != after:
            yield path, before, after


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Return a line `key: old -> new` for every key in which what is asked for is not what is there.

    A parameter that changed in several variants is one line. A grid that has grown is no change.
    """
    one, other = ({k: v for k, v in m.experiment.items() if k != "cells"} for m in (old, new))
    found = list(differences(one, other))
    for folder in old.cells.keys() & new.cells.keys():
        one, other = ({key: m.cells[folder][key] for key in ("params", "data")} for m in (old, new))
        found += differences(one, other)
    if old.cells.keys() != new.cells.keys() and not old.grows(new):
        one, other = ({key: m.config.get(key) or {} for key in ("grid", "tasks")} for m in (old, new))
        found += list(differences(one, other)) or differences(sorted(old.cells), sorted(new.cells), "variants")
    return list(dict.fromkeys(f"{path}: {_cut(before)} -> {_cut(after)}" for path, before, after in sorted(found)))


def _cut(value: str) -> str:
    return value if len(value) <= 100 else f"{value[:60]} … {value[-30:]}"


def without_new_files(old: Mapping[str, Json], new: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return an experiment less the files that were not there when the other was planned: its runs may write them."""
    before, after = old.get("inputs") or {}, new.get("inputs") or {}
    if not after.get("files"):
        return new
    kept = {name: digest for name, digest in after["files"].items() if name in (before.get("files") or {})}
    rest = {key: value for key, value in after.items() if key != "files"}
    return {**new, "inputs": {**rest, **({"files": kept} if kept else {})}}


def joined(old: Manifest, wanted: Manifest, has_results: Callable[[], bool]) -> Manifest:
    """Return what a directory is to hold from now on: the inputs, the presentation, the larger grid and the new seeds
    of what is asked for, which is the same experiment; `old` itself where that is nothing new."""
    new = old
    inputs = old.experiment.get("inputs")
    if adopts(old.experiment, wanted.experiment) and inputs != wanted.experiment["inputs"]:
        new = replace(new, experiment={**old.experiment, "inputs": wanted.experiment["inputs"]})
    if wanted.presented != new.presented:
        new = new.presenting(wanted.presented, results_existed=has_results())
    if new.grows(wanted):
        new = new.growing(wanted, results_existed=has_results())
    return new if new.planned >= wanted.planned else new.adding(wanted.seeds, results_existed=has_results())


def not_comparable(old: Mapping[str, Json], new: Mapping[str, Json], data: Iterable[str]) -> Mapping[str, str]:
    """Return why it cannot be known whether an experiment has the inputs of another, by the name of each.

    data: the files and folders that the new one names as its data.
    """
    compared = (old.get("inputs") or {}).get("files") or {}
    late = {name: "the runs that are here were not compared by it" for name in data if name not in compared}
    if late and not versioned(old, new):
        return late
    return {} if adopts(old, new) else (new.get("inputs") or {}).get("not_compared") or {}


def adopts(old: Mapping[str, Json], new: Mapping[str, Json]) -> bool:
    """Return whether an experiment takes over the inputs of another: it names none, as before they were compared,
    or no other version of its data than is asked for, and what it was compared by is unchanged."""
    if "inputs" not in new:
        return False
    if "inputs" not in old:
        return True
    files, asked = ((each["inputs"] or {}).get("files") or {} for each in (old, new))
    return versioned(old, new) and files.items() <= asked.items()


def versioned(old: Mapping[str, Json], new: Mapping[str, Json]) -> bool:
    """Return whether another experiment names the version of its data, and this one none or the same."""
    before, after = old.get("inputs") or {}, new.get("inputs") or {}
    return "data_version" in after and before.get("data_version") in (None, after["data_version"])
