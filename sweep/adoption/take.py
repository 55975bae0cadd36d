"""Runs to adopt: shown before anything is written, and recorded as made elsewhere."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

from sweep.adoption.patterns import matching
from sweep.adoption.runs import Entry, Opened, Roles, value
from sweep.config import Collect, load, to_dict
from sweep.errors import ConfigError, StoreError, some
from sweep.metrics import Found, Left
from sweep.metrics import predictions as read_predictions
from sweep.nested import assign
from sweep.plan import RunSpec, Target, content_id, folder_name
from sweep.prepare import versions
from sweep.seeds import LARGEST, format_seeds, natural
from sweep.store import Failure, Manifest, Member, Record, Store, atomic, history, predictions
from sweep.store.manifest import SeedEntry
from sweep.store.names import HISTORY, PREDICTIONS
from sweep.store.owner import now
from sweep.store.record import diverged
from sweep.variants import without_hash
from sweep.words import plural

STAMP = "adopted: not run here; seeds are as the files name them; whether missing runs failed is unknown"
TARGET = Target("adopted")
_MOST = 8  # names in one line

Point = tuple[tuple[str, Any], ...]  # (name, value) of each parameter that distinguishes variants
Key = tuple[str, str, int]  # task, variant and seed, as folders


@dataclass(frozen=True)
class Adoption:
    """The runs that a command would adopt, and what was noticed about them.

    runs: by their folders. twice: runs that two places claim to be. unread: places that could not be read.
    """

    manifest: Manifest
    runs: Mapping[Key, Entry]
    twice: Mapping[Key, Sequence[str]]
    unread: Sequence[Entry]
    missing: Sequence[str]
    kind: str
    numbered: bool
    files: Mapping[Key, Mapping[str, Path]]

    def lines(self) -> Iterator[str]:
        """Yield what is shown before anything is written."""
        cells, config = self.manifest.experiment["cells"], self.manifest.config
        said = f"for {some([*config['seed_names']])}" if config.get("seed_names") else ""
        if self.numbered:
            said = "numbered in order, because nothing is named seed (see --seed); no runs are paired by them"
        each = sorted({len(cell["seeds"]) for cell in cells})
        lengths = f"{each[0]} to {each[-1]} per task" if len(each) > 1 else ""
        seeds = some(format_seeds(sorted(self.manifest.seeds)).split(","))
        failed = sum(bool(entry.failed) for entry in self.runs.values())
        found: dict[str, Sequence[str]] = {
            "variants": [some(without_hash([cell["variant"] for cell in cells]))],
            "tasks": [some(without_hash([cell["task"] for cell in cells]))],
            "seeds": [" ".join([seeds, *(f"({why})" for why in (said, lengths) if why)])],
            "metrics": [some(name for entry in self.runs.values() if entry.found for name in entry.found.metrics)],
            "failed": [f"{failed}, as reported by their tracker"] if failed else [],
            "missing": [f"{len(self.missing)}: {some(self.missing)}; whether they failed is unknown"]
            if self.missing else [],
            "unread": [f"{entry.place}: {entry.why}" for entry in self.unread],
            "duplicate": [f"{_called(key)}: {some(places)}" for key, places in self.twice.items()],
            "unequal": list(self._unequal()),
        }  # fmt: skip
        yield f"{plural(len(self.runs), 'run')} found ({self.kind})"
        for what, told in found.items():
            yield from (f"  {what:<10} {one}" for one in told[:_MOST] if one)
            if len(told) > _MOST:
                yield f"  {'':<10} and {len(told) - _MOST} more"

    def counts(self) -> dict[str, Any]:
        """Return what was found, as numbers and names."""
        return {
            "found": len(self.runs), "missing": list(self.missing), "numbered": self.numbered,
            "twice": {_called(key): list(places) for key, places in self.twice.items()},
            "unread": {entry.place: entry.why for entry in self.unread}, "unequal": list(self._unequal()),
        }  # fmt: skip

    def _unequal(self) -> Iterator[str]:
        """Yield runs whose length differs from most of their variant, and runs that lack a metric of the others."""
        cells: dict[tuple[str, str], dict[Key, Found]] = defaultdict(dict)
        for key, entry in self.runs.items():
            if entry.found is not None and not entry.failed:
                cells[key[:2]][key] = entry.found
        for its in cells.values():
            ends = {key: found.history[-1][0] if found.history else 0 for key, found in its.items()}
            usual = Counter(ends.values()).most_common(1)[0][0]
            if odd := [f"{_called(key)} ends at step {end}" for key, end in ends.items() if end != usual]:
                yield f"{some(odd)}; the others end at step {usual}"
            every = set().union(*(found.metrics for found in its.values()))
            lacking = {key: sorted(every - set(found.metrics)) for key, found in its.items()}
            yield from (f"{_called(key)} has no {some(names)}" for key, names in lacking.items() if names)


def _called(key: Key) -> str:
    """Return the name of a run: its folder below `members/`."""
    return "/".join(part for part in (key[0], key[1], f"seed{key[2]}") if part)


def adoption(
    sources: Sequence[Opened],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    kept: str | None = None,
    origin: str = "",
    **settings: Any,
) -> Adoption:
    """Return what would be adopted from these sources, together with what the directory already holds.

    overrides, settings: of the config, for reports. kept: the pattern of prediction files.

    Raises: ConfigError if nothing can be read, StoreError if `out` holds something else.
    """
    store = _existing(out)
    old = store.manifest if store else None
    every = [(entry, _claim(source.roles, entry.names)) for source in sources for entry in source.entries]
    if not any(entry.found is not None for entry, _ in every):
        places = "; ".join(f"{entry.place}: {entry.why}" for entry, _ in every[:3])
        raise ConfigError(
            f"no metrics were found in {plural(len(every), 'place')}", where=some(s.name for s in sources), hint=places
        )
    # A run without a seed among runs with one could be any of them.
    named = [each for each in every if each[1].seed is not None] or every
    strays = [entry for entry, claim in every if claim.seed is None] if len(named) < len(every) else []
    names = dict(old.config.get("seed_names") or {}) if old else {}
    seeds, numbered = _seeds([claim for _, claim in named], names)
    tasks: dict[str, str] = {}
    points: dict[str, Point] = {}
    claims: dict[Key, list[Entry]] = defaultdict(list)
    for (entry, claim), seed in zip(named, seeds, strict=True):
        tasks[claim.task] = claim.task_folder
        points.setdefault(variant := claim.variant, claim.point)
        claims[claim.task_folder, variant, seed].append(entry)
    twice = {key: [entry.place for entry in its] for key, its in claims.items() if len(its) > 1}
    runs = {key: its[0] for key, its in claims.items() if its[0].found is not None}
    declared = {**(old.config.get("tasks", {}) if old else {}), **{task: {} for task in tasks if task}}
    asked = to_dict(load(None, overrides, tasks=declared, **settings)) if overrides or settings else {}
    config = {
        **(old.config if old else {"primary": None, "goals": {}}),
        **{key: asked[key] for key in ("primary", "goals", "references") if asked.get(key)},
        "adopted_by": origin,
        "tasks": declared,
        **({"seed_names": names} if names else {}),
        **({"numbered": True} if numbered else {}),
    }
    manifest = _manifest(out, old, list(tasks.values()), points, set(claims), config)
    planned = {(c["task"], c["variant"], seed) for c in manifest.experiment["cells"] for seed in c["seeds"]}
    there = {(m.task, m.variant, m.seed) for m in store.scan() if m.record is not None} if store else set()
    missing = [_called(key) for key in sorted(planned - set(runs) - there)]
    unread = [entry for entry, _ in named if entry.found is None]
    unread += [replace(each, why=each.why or "it names no seed, but others do") for each in strays]
    kind = some(source.kind for source in sources)
    files = _prediction_files(kept, sources[0].roles, names, set(runs)) if kept else {}
    return Adoption(manifest, runs, twice, unread, missing, kind, numbered, files)


@dataclass(frozen=True)
class _Claim:
    """The seed, the task and the variant that the place of a run names."""

    seed: Any
    task: str
    point: Point

    @property
    def task_folder(self) -> str:
        return folder_name(self.task, self.task) if self.task else ""

    @property
    def variant(self) -> str:
        """Return the folder of a variant: `lr-0.01-3f9a1c`, and `resnet-3f9a1c` for {"method": "resnet"}."""
        words = (
            each if isinstance(each, str) else f"{name.rpartition('.')[2]}-{json.dumps(each)}"
            for name, each in self.point
        )  # fmt: skip
        values = {f"params.{name}": each for name, each in self.point}
        return folder_name("-".join(words), values) if self.point else ""


def _claim(roles: Roles, names: Mapping[str, Any]) -> _Claim:
    """Return a run's claim in a form that a record can hold: a folder may not be UTF-8, a parameter may be infinite."""
    names, seed, task, variant = (atomic.strict(each) for each in (names, roles.seed, roles.task, roles.variant or ()))
    values = ((name.replace("/", "."), names.get(name)) for name in variant)
    point = tuple(
        (name, each if each is None or isinstance(each, int | float | str) else json.dumps(each))
        for name, each in values
    )
    found = names.get(task)
    return _Claim(names.get(seed), "" if found is None else str(found), point)


def _existing(out: Path) -> Store | None:
    if not Store.exists(out):
        return None
    found = Store.open(out)
    if not found.manifest.adopted:
        raise StoreError("it holds a sweep that was run here", where=str(out), hint="choose another --out")
    return found


def _seeds(claims: Sequence[_Claim], names: dict[str, int]) -> tuple[list[int], bool]:
    """Return each run's seed, and whether the seeds were only counted. Add labels that are not numbers to `names`."""
    said = [claim.seed for claim in claims]
    seeds = [each for each in said if type(each) is int and 0 <= each <= LARGEST]
    if len(seeds) == len(said) and not names:
        return seeds, False
    if any(each is None for each in said):
        before: Counter[tuple[str, Point]] = Counter()
        made = []
        for claim in claims:
            made.append(before[claim.task, claim.point])
            before[claim.task, claim.point] += 1
        return made, True
    for label in sorted({str(each) for each in said} - set(names), key=natural):
        names[label] = max(names.values(), default=-1) + 1
    return [names[str(each)] for each in said], False


def _manifest(
    out: Path, old: Manifest | None, tasks: Sequence[str], points: Mapping[str, Point], found: set[Key],
    config: Mapping[str, Any],
) -> Manifest:  # fmt: skip
    """Return the plan: every variant of every task, with the seeds that any variant of the task has."""
    before = list(old.experiment["cells"]) if old else []
    params: dict[str, Any] = {cell["variant"]: cell["params"] for cell in before}
    grid: dict[str, list[Any]] = {key: list(had) for key, had in (old.config["grid"] if old else {}).items()}
    for variant, point in points.items():
        values: dict[str, Any] = {}
        for key, each in point:
            values = assign(values, key, each)
            had = grid.setdefault(f"params.{key}", [])
            had += [each] if each not in had else []
        params.setdefault(variant, values)
    seeds: dict[str, set[int]] = defaultdict(set, {cell["task"]: set(cell["seeds"]) for cell in before})
    for task, _, seed in found:
        seeds[task].add(seed)
    order = dict.fromkeys([*(cell["task"] for cell in before), *tasks])
    cells = [
        {"task": task, "variant": variant, "params": values, "data": "", "seeds": sorted(seeds[task])}
        for task, (variant, values) in product(order, params.items())
    ]  # fmt: skip
    experiment = {
        "target": {"kind": TARGET.kind, "reference": "", "argv": [], "digest": ""}, "cells": cells, "repeats": 1,
        "deterministic": False, "device": "", "threads": 0,
    }  # fmt: skip
    config = {**config, "grid": grid}
    every = tuple(sorted(set().union(*seeds.values())))
    if old is None:
        return Manifest(
            out.resolve().name, config, experiment, every, (SeedEntry(now(), every, False),),
            {"seed-sweep": versions().get("seed-sweep", "")}, {"status": "adopted", "summary": STAMP},
        )  # fmt: skip
    larger = replace(old, config=config, experiment=experiment, seeds=every)
    added = tuple(seed for seed in every if seed not in old.planned)
    grown = tuple(folder for folder in larger.cells if folder not in old.cells)
    log = (*old.seed_log, SeedEntry(now(), added, True, variants=grown))
    return replace(larger, seed_log=log) if added or grown else larger


def _prediction_files(
    pattern: str, roles: Roles, names: Mapping[str, int], runs: set[Key]
) -> dict[Key, dict[str, Path]]:
    """Return the prediction files of each run, by split.

    Raises: ConfigError if a file belongs to no run that was found.
    """
    found: dict[Key, dict[str, Path]] = defaultdict(dict)
    for path, parts in matching(pattern):
        said = {name: value(part) for name, part in parts.items()}
        claim = _claim(replace(roles, seed=roles.seed or "seed"), said)
        seed = names.get(str(claim.seed), claim.seed) if claim.seed is not None else 0
        key = (claim.task_folder, claim.variant, seed)
        if key not in runs:
            raise ConfigError("no run was found for these predictions", where=str(path))
        found[key][str(said.get("split", "test"))] = path
    if not found:
        raise ConfigError("no file matches the pattern of the predictions", where=pattern)
    return dict(found)


def take(plan: Adoption, out: Path, *, replacing: bool = False) -> tuple[Store, int, int]:
    """Write new runs, and with `replacing` also changed ones. Return the store and the numbers of new and changed runs.

    Raises: StoreError, before anything is written, for runs that two places claim, and for changed ones.
    """
    if plan.twice:
        key, places = next(iter(plan.twice.items()))
        raise StoreError(
            f"{len(plan.twice)} runs were found twice, such as {_called(key)}: {some(places)}",
            where=str(out), hint="name the part that differs between them, or leave one of them out",
        )  # fmt: skip
    Store.claim(out)
    with Store.lock(out):
        held = {(m.task, m.variant, m.seed): m for m in Store.open(out).scan()} if Store.exists(out) else {}
        made = {key: _made(plan, key) for key in plan.runs}
        new = [key for key in made if key not in held or held[key].record is None]
        changed = [key for key in made if key not in new and _differs(held[key], *made[key])]
        if changed and not replacing:
            shown = some([f"{held[key].key} ({plan.runs[key].place})" for key in changed])
            raise StoreError(
                f"{plural(len(changed), 'run')} changed after adoption: {shown}", where=str(out),
                hint="add --replace to adopt them as they are now; the old records are kept",
            )  # fmt: skip
        store = Store.adopt(out, plan.manifest)
        params = {(cell["task"], cell["variant"]): cell["params"] for cell in plan.manifest.experiment["cells"]}
        for key in (*new, *changed):
            if key in changed:
                store.put_by(held[key])
            _write(store, key, params[key[:2]], *made[key])
    return store, len(new), len(changed)


def _made(plan: Adoption, key: Key) -> tuple[Record, dict[str, bytes]]:
    """Return the record of a run, without its attempt, and its files."""
    entry = plan.runs[key]
    assert entry.found is not None
    found, files, notes = entry.found, {}, list(entry.found.notes)
    failure = Failure("raised", f"its tracker reports: {entry.failed}") if entry.failed else diverged(found.metrics)
    if found.history:
        files[HISTORY] = history.encode(found.history)
    for split, path in plan.files.get(key, {}).items():
        way = Collect(predictions={split: path.name})
        for _, arrays, note in read_predictions(way, Left(path.resolve().parent, {}, None, "")):
            stream = BytesIO()
            predictions.write(stream, predictions.checked(**arrays).arrays())
            files[PREDICTIONS.format(split=split)] = stream.getvalue()
            notes += [note] if note else []
    digests = {"metrics": content_id(atomic.strict(dict(found.metrics)))} if found.metrics else {}
    record = Record(
        spec={}, spec_id="", status="failed" if failure else "ok", attempt="", failure=failure, metrics=found.metrics,
        digests=digests, result={"rule": "as adopted", "epoch": found.history[-1][0] if found.history else None},
        notes=tuple(notes), collected={"source": entry.place},
    )  # fmt: skip
    return record, files


def _differs(member: Member, made: Record, files: Mapping[str, bytes]) -> bool:
    old = member.record
    assert old is not None
    return (
        atomic.strict(dict(old.metrics)) != atomic.strict(dict(made.metrics)) or old.failure != made.failure
        or any(name not in old.artifacts or old.artifacts[name].sha256 != atomic.bytes_digest(data)
               for name, data in files.items())
    )  # fmt: skip


def _write(store: Store, key: Key, params: Mapping[str, Any], record: Record, files: Mapping[str, bytes]) -> None:
    task, variant, seed = key
    spec = RunSpec(
        target=TARGET, params=params, variant=variant, task=task, seed=seed, streams={}, repeat=0,
        deterministic=False, device="", threads=0, data="",
    )  # fmt: skip
    attempt = store.begin(spec)
    for name, data in files.items():
        attempt.write(name, data)
    artifacts = attempt.artifacts()
    store.commit(
        attempt, replace(record, spec=spec.to_json(), spec_id=spec.id, attempt=attempt.nonce, artifacts=artifacts)
    )
