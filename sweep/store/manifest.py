"""sweep.json: the resolved config, the plan, the log of seeds and the versions that made the directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep.errors import StoreError
from sweep.store import atomic, shape
from sweep.store.names import NO_SWEEP, is_folder
from sweep.store.owner import now
from sweep.store.record import TARGET

LIMIT = 256 << 20  # bytes that a manifest may have
ADOPTED = "adopted"  # the target kind of runs that were trained elsewhere
MOST = 200_000  # runs in one directory, because the whole plan is read whenever it is opened
FEWER_RUNS = "plan fewer runs, or split them into several sweeps, each with its own --out"
PRESENTED = ("primary", "goals")  # keys of a config that may change for an existing directory
UNTIL = "until"  # the note of seeds that a stopping rule added
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
    """Seeds or variants that were added together, and whether there were results before."""

    time: str
    added: tuple[int, ...]
    results_existed: bool
    note: str = ""
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The plan of a sweep. `experiment` is its identity. `config` is for people, to resume and to reproduce."""

    name: str
    config: Mapping[str, Json]
    experiment: Mapping[str, Json]
    seeds: tuple[int, ...]
    seed_log: tuple[SeedEntry, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    stamp: Mapping[str, Json] = field(default_factory=dict)
    until: Mapping[str, Json] = field(default_factory=dict)  # the stopping rule and its state at its last look
    primary_before: str = ""  # the primary metric at the first results, if it has changed since
    collected: str = ""  # the identity of how metrics are read, if they were read again
    source: str = ""  # the text of a function without a file, as in a notebook; it is never run

    def adding(self, seeds: Sequence[int], *, results_existed: bool, note: str = "") -> Manifest:
        """Return this manifest with new seeds added, or the same object if none is new."""
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
        """Return whether another manifest has all variants of this one, unchanged, and more values of the same grid."""
        old, new = self.config.get("grid") or {}, wanted.config.get("grid") or {}
        tasks = [{cell["task"] for cell in one.experiment["cells"]} for one in (self, wanted)]
        return (
            bool(old) and set(old) == set(new) and tasks[0] == tasks[1]
            and len(wanted.cells) > len(self.cells) and self.cells.keys() <= wanted.cells.keys()
        )  # fmt: skip

    @property
    def presented(self) -> dict[str, Json]:
        """Return the primary metric and the goals, which affect only reports, not the experiment."""
        return {key: self.config.get(key) for key in PRESENTED}

    def presenting(self, asked: Mapping[str, Json], *, results_existed: bool) -> Manifest:
        """Return this manifest with the `presented` values of another."""
        before = self.primary_before or str(self.config.get("primary") or "the default")
        moved = results_existed and asked["primary"] != self.config.get("primary")
        return replace(self, config={**self.config, **asked}, primary_before=before if moved else self.primary_before)

    @cached_property
    def planned(self) -> frozenset[int]:
        """Return the seeds as a set, for fast lookup."""
        return frozenset(self.seeds)

    @cached_property
    def cells(self) -> dict[str, Mapping[str, Json]]:
        """Return the cells (tasks x variants) by their folders below `members/`."""
        return {"/".join(p for p in (c["task"], c["variant"]) if p): c for c in self.experiment["cells"]}

    @property
    def adopted(self) -> bool:
        """Return whether its runs were trained elsewhere and adopted."""
        return bool(self.experiment) and self.experiment["target"]["kind"] == ADOPTED

    @property
    def folds(self) -> int:
        """Return the number of folds, which `repeats` then counts, or 0 without folds."""
        return int(self.experiment.get("folds", 0))

    @property
    def numbered(self) -> bool:
        """Return whether its seeds are only numbers of runs. Equal numbers are then no reason to pair two runs."""
        return bool(self.config.get("numbered"))

    def seeds_of(self, cell: Mapping[str, Json]) -> Sequence[int]:
        """Return the seeds of a cell: all seeds, unless adopted tasks have their own."""
        own: Sequence[int] = cell.get("seeds", self.seeds)
        return own

    @property
    def runs(self) -> int:
        """Return the number of planned runs."""
        cells = self.experiment["cells"] if self.experiment else ()
        return sum(len(self.seeds_of(cell)) for cell in cells) * int(self.experiment.get("repeats", 1))

    @property
    def log(self) -> tuple[SeedEntry, ...]:
        """Return the additions to the present runs: those since --retrain was last used."""
        notes = [entry.note for entry in self.seed_log]
        return self.seed_log[len(notes) - notes[::-1].index(RETRAIN) if RETRAIN in notes else 0 :]

    @property
    def extensions(self) -> int:
        """Return how often seeds or variants were added after the first results.

        Additions by a stopping rule do not count, because the rule accounts for its looks.
        """
        return sum(entry.results_existed and entry.note != UNTIL for entry in self.log)

    def retrained(self, before: Manifest, *, results_existed: bool) -> Manifest:
        """Return this manifest with the seeds and the log of `before`, whose runs are all trained again."""
        new = tuple(seed for seed in self.seeds if seed not in before.planned)
        entry = SeedEntry(now(), new, results_existed, RETRAIN)
        return replace(self, seeds=before.seeds + new, seed_log=(*before.seed_log, entry))


def read(path: Path) -> Manifest:
    """Return the manifest at `path`.

    Raises: StoreError if it is absent, damaged or of a newer format.
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
            NO_SWEEP, where=str(path.parent),
            hint="name a directory that `sweep run` or `sweep adopt` made, e.g. runs/digits-mlp",
        ) from None  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"cannot be read ({error})", where=str(path), hint="restore the file, or choose another --out"
        ) from error


def too_many(runs: int) -> str:
    """Return the message for a plan of more than MOST runs."""
    return f"{runs:,} runs are planned, but a directory holds at most {MOST:,}"


def _check(body: Mapping[str, Json]) -> None:
    """Refuse a plan that sweep cannot have written. Raises: ValueError."""
    shape.require(body, SHAPE)
    experiment = body["experiment"]
    if experiment:  # the temporary directory of a worker has no plan
        shape.require(experiment, EXPERIMENT, "experiment")
        if not all(is_folder(cell["task"]) and is_folder(cell["variant"]) for cell in experiment["cells"]):
            raise ValueError("the name of a task or variant is not one that sweep gives")
        if len({(cell["task"], cell["variant"]) for cell in experiment["cells"]}) < len(experiment["cells"]):
            raise ValueError("a variant is planned twice")
        if experiment["repeats"] < 1 or experiment.get("folds", experiment["repeats"]) != experiment["repeats"]:
            raise ValueError("its number of repeats is invalid")
        runs = experiment["repeats"] * sum(len(cell.get("seeds", body["seeds"])) for cell in experiment["cells"])
        if runs > MOST:
            raise ValueError(too_many(runs))
    logged = [seed for entry in body["seed_log"] for seed in entry.added]
    logged += [seed for cell in (experiment or {}).get("cells", ()) for seed in cell.get("seeds", ())]
    if any(type(seed) is not int or not 0 <= seed < 1 << 32 for seed in (*body["seeds"], *logged)):
        raise ValueError("it has an invalid seed")
    if len(set(body["seeds"])) != len(body["seeds"]):
        raise ValueError("a seed is planned twice")


def differences(old: Json, new: Json, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (path, old value, new value) of every leaf that differs between two experiments, the values as JSON."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{path}[{index}]")
    else:
        # As text: 1, 1.0 and True are equal in Python, but different parameters of a run.
        before, after = atomic.dumps(old, indent=None), atomic.dumps(new, indent=None)
        if before != after:
            yield path, before, after


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Return a line `key: old -> new` for every key that differs.

    A parameter that differs in several variants gives one line. A grid with more values is no difference.
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
    """Return `new` without files that did not exist when `old` was planned, because runs may write them."""
    before, after = old.get("inputs") or {}, new.get("inputs") or {}
    if not after.get("files"):
        return new
    kept = {name: digest for name, digest in after["files"].items() if name in (before.get("files") or {})}
    rest = {key: value for key, value in after.items() if key != "files"}
    return {**new, "inputs": {**rest, **({"files": kept} if kept else {})}}


def joined(old: Manifest, wanted: Manifest, has_results: Callable[[], bool]) -> Manifest:
    """Return `old` with the inputs, the presentation, the larger grid and the new seeds of `wanted`.

    Both are of the same experiment. Returns `old` itself if `wanted` has nothing new.
    """
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
    """Return the inputs for which it is unknown whether two experiments share them: name -> reason.

    data: the files and folders that the new experiment names as its data.
    """
    compared = (old.get("inputs") or {}).get("files") or {}
    late = {name: "the runs of this directory have no digest of it" for name in data if name not in compared}
    if late and not versioned(old, new):
        return late
    return {} if adopts(old, new) else (new.get("inputs") or {}).get("not_compared") or {}


def adopts(old: Mapping[str, Json], new: Mapping[str, Json]) -> bool:
    """Return whether the inputs of `new` replace those of `old`.

    They do if `old` names none, as in versions that did not compare inputs, or if it has the same version of the data,
    or none, and its own inputs are unchanged.
    """
    if "inputs" not in new:
        return False
    if "inputs" not in old:
        return True
    files, asked = ((each["inputs"] or {}).get("files") or {} for each in (old, new))
    return versioned(old, new) and files.items() <= asked.items()


def versioned(old: Mapping[str, Json], new: Mapping[str, Json]) -> bool:
    """Return whether `new` names the version of its data, and `old` none or the same."""
    before, after = old.get("inputs") or {}, new.get("inputs") or {}
    return "data_version" in after and before.get("data_version") in (None, after["data_version"])
