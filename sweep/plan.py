"""The plan: the runs of a config, tasks x variants x seeds x repeats or folds. Each is identified by its content."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from sweep.errors import ConfigError
from sweep.nested import assign, merge
from sweep.redaction import redact

if TYPE_CHECKING:
    from sweep.config import Config

Json = Any  # None, bool, int, float, str, and lists and dicts of them

STREAMS = ("init", "order", "augment", "dropout")
SPLIT = "split"


def canonical(value: Json) -> str:
    """Return the canonical JSON of a value: sorted keys, no blanks, shortest floats. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def content_id(value: Json) -> str:
    """Return the sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def stream_seed(seed: int, stream: str) -> int:
    """Return the 32-bit seed of a named stream; torch's CPU generator reads no more bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:4], "little")


def leaf_of(seed: int, repeat: int, folds: int) -> str:
    """Return the last part of a run's key: seed42, seed42-r1 for a repeat, or seed42-fold0."""
    return f"seed{seed}" + (f"-fold{repeat}" if folds else f"-r{repeat}" if repeat else "")


@dataclass(frozen=True)
class Target:
    """The recipe, function or command that is trained, by reference, with the digest of its source."""

    kind: Literal["recipe", "function", "command", "adopted"]
    reference: str = ""
    argv: tuple[str, ...] = ()
    digest: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Json]) -> Target:
        return cls(**{**body, "argv": tuple(body["argv"])})


@dataclass(frozen=True)
class RunSpec:
    """The specification of one run. Two runs with equal specs are the same experiment."""

    target: Target
    params: Mapping[str, Json]
    variant: str
    task: str
    seed: int
    streams: Mapping[str, int]
    repeat: int
    deterministic: bool
    device: str
    threads: int
    data: str
    vectorize: int = 0  # rows of a vectorised step; 0: not vectorised
    folds: int = 0  # the number of folds, which `repeat` then counts from 0; 0: no folds

    def to_json(self) -> dict[str, Json]:
        """Return the spec as it is stored and hashed. Secrets are hidden, so they are not part of the identity."""
        body = asdict(self)
        body["target"]["argv"] = redact(self.target.argv)
        body["params"] = redact(self.params)
        for later in ("vectorize", "folds"):
            if not body[later]:
                del body[later]  # specs of older versions lack these keys
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Json]) -> RunSpec:
        return cls(**{**body, "target": Target.from_json(body["target"])})

    @property
    def fold(self) -> int:
        """Return the fold on which the run is tested, counted from 0; 0 without folds."""
        return self.repeat if self.folds else 0

    @property
    def id(self) -> str:
        """Return the sha256 (hex) of the spec: the identity of a run."""
        return content_id(self.to_json())

    @property
    def key(self) -> str:
        """Return the run's folder below `members/`, unique within a sweep."""
        parts = [part for part in (self.task, self.variant) if part]
        return "/".join([*parts, leaf_of(self.seed, self.repeat, self.folds)])


@dataclass(frozen=True)
class Cell:
    """One variant of one task: a run without its seed and repeat."""

    variant: str
    task: str
    params: Mapping[str, Json]
    data: str = ""


@dataclass(frozen=True)
class Plan:
    """A config with its references found and checked, and its runs. Nothing is started or written by it.

    Seeds are the outermost loop, so that seeds are completed one after another.
    """

    config: Config
    target: Target
    cells: tuple[Cell, ...]
    device: str
    inputs: Mapping[str, Json] | None = None  # files and values besides the source; None for built-in recipes
    function: bytes | None = None  # pickled, if it cannot be imported
    source: str = ""  # its text
    watched: Mapping[str, Any] = field(default_factory=dict)  # the files that runs read (see `sweep.target.inputs`)

    def __post_init__(self) -> None:
        """Raises: ConfigError if two cells would share a folder."""
        folders = Counter((cell.task, cell.variant) for cell in self.cells)
        if shared := [name for name, count in folders.items() if count > 1]:
            raise ConfigError(f"two variants would share the folder {'/'.join(shared[0])!r}", where="grid")

    def __len__(self) -> int:
        return len(self.cells) * len(self.config.seeds) * self.copies

    @property
    def copies(self) -> int:
        """Return the number of runs of a seed in each cell: one per fold or repeat."""
        return self.config.folds or self.config.repeats

    def __iter__(self) -> Iterator[RunSpec]:
        for seed in self.config.seeds:
            yield from self.of_seed(seed)

    def of_seed(self, seed: int) -> Iterator[RunSpec]:
        asked = self.config
        # The split is fixed by the data, and a stream of the run only if it varies.
        names = (*STREAMS, *([SPLIT] if SPLIT in asked.vary else []))
        streams = {
            name: stream_seed(seed if not asked.vary or name in asked.vary else asked.seed, name) for name in names
        }
        for cell, repeat in product(self.cells, range(self.copies)):
            yield RunSpec(
                target=self.target, params=cell.params, variant=cell.variant, task=cell.task, seed=seed,
                streams=streams, repeat=repeat, deterministic=asked.deterministic, device=self.device,
                threads=asked.threads, data=cell.data, vectorize=asked.vectorize, folds=asked.folds,
            )  # fmt: skip

    def experiment(self) -> dict[str, Json]:
        """Return all that must be equal for seeds to join a directory: everything except the seeds."""
        asked = self.config
        return {
            "target": {**asdict(self.target), "argv": redact(self.target.argv)},
            "cells": [
                {"variant": c.variant, "task": c.task, "params": redact(c.params), "data": c.data} for c in self.cells
            ],
            "repeats": self.copies,
            "deterministic": asked.deterministic,
            "device": self.device,
            "threads": asked.threads,
            "vary": list(asked.vary),
            **({"inputs": redact(self.inputs)} if self.inputs is not None else {}),
            **({"cwd": asked.cwd} if asked.cwd else {}),
            **({"base_seed": asked.seed} if asked.vary else {}),
            **({"vectorize": asked.vectorize} if asked.vectorize else {}),
            **({"folds": asked.folds} if asked.folds else {}),
        }


def grid_points(grid: Mapping[str, Sequence[Json]]) -> Iterator[dict[str, Json]]:
    """Yield every combination of a grid in the written order; one empty point without a grid."""
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def folder_name(label: str, value: Json) -> str:
    """Return a folder name that is valid on any file system, with a hash of the value that makes it unique.

    The hash also distinguishes names that differ only in case or Unicode normalisation.
    """
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:60]
    return f"{plain or 'variant'}-{content_id(value)[:6]}"


def variant_name(point: Mapping[str, Json]) -> str:
    """Return `lr-0.01-3f9a1c` for {"params.optimizer.lr": 0.01}, and "" for the only variant."""
    if not point:
        return ""
    label = "-".join(f"{key.rpartition('.')[2]}-{as_text(value)}" for key, value in point.items())
    return folder_name(label, dict(point))


def as_text(value: Json) -> str:
    """Return text unchanged, and other values as JSON."""
    return value if isinstance(value, str) else canonical(value)


def grown(config: Config, grid: Mapping[str, Sequence[Json]]) -> Config:
    """Return the config with the values of an existing grid of the same parameters before its own.

    The config stays as it is if a value is hidden as a secret.
    """
    if set(grid) != set(config.grid) or redact(config.grid) != config.grid:
        return config
    joined = {
        key: [*values, *(new for new in config.grid[key] if canonical(new) not in map(canonical, values))]
        for key, values in grid.items()
    }
    return config.model_copy(update={"grid": joined})


def cells_of(config: Config) -> Iterator[Cell]:
    """Yield the cells, with parameters that are not checked yet, and without the identity of their data."""
    tasks = {folder_name(name, name): changes.get("params", {}) for name, changes in config.tasks.items()} or {"": {}}
    for (task, changes), point in product(tasks.items(), grid_points(config.grid)):
        params: Mapping[str, Json] = merge(config.params, changes)
        for dotted, value in point.items():
            params = assign(params, dotted.removeprefix("params."), value)
        yield Cell(variant=variant_name(point), task=task, params=params)
