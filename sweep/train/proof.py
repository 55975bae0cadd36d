"""Proof: every lane of a pack against the plain loop with the same seed, digest by digest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep.determinism import seeding
from sweep.errors import ConfigError, SweepError
from sweep.handle import Run
from sweep.plan import RunSpec, stream_seed
from sweep.store import Attempt, Failure
from sweep.store.owner import this_process
from sweep.target import bind, find
from sweep.task import Interval, Place
from sweep.train import lanes, loop


@dataclass(frozen=True)
class Compared:
    """One lane: the links of its chain, and the first that differs from its solo run ("" for none)."""

    seed: int
    links: int
    differs: str


@dataclass(frozen=True)
class LaneProof:
    """What comparing a pack with solo runs showed. note: why there was no pack, or ""."""

    lanes: tuple[Compared, ...]
    note: str = ""

    @property
    def equal(self) -> bool:
        return not self.note and all(not each.differs for each in self.lanes)

    def __str__(self) -> str:
        if self.note:
            return f"no lanes: {self.note}"
        bad = [each for each in self.lanes if each.differs]
        if bad:
            named = "; ".join(f"seed {each.seed} first at {each.differs}" for each in bad[:5])
            return f"lanes DIFFER from solo runs: {len(bad)} of {len(self.lanes)} ({named})"
        links = sum(each.links for each in self.lanes)
        return f"lanes: {len(self.lanes)} of {len(self.lanes)} equal to their solo runs ({links} digests compared)"


def compare_lanes(spec: RunSpec, place: Place, count: int) -> LaneProof:
    """Train `count` seeds from the spec's on as one pack, then each by the plain loop, and compare.

    Nothing is recorded. Raises: ConfigError when the spec is not of a recipe on a GPU in deterministic mode;
    SweepError when a run fails.
    """
    if spec.target.kind != "recipe" or spec.device != "cuda":
        raise ConfigError("only recipes on a GPU are packed into lanes", where="--lanes", hint="device: cuda")
    if not spec.deterministic:
        raise ConfigError("fast mode promises no equal bits", where="--lanes", hint="add --deterministic")
    specs = [
        replace(spec, seed=seed, streams={name: stream_seed(seed, name) for name in spec.streams})
        for seed in range(spec.seed, spec.seed + count)
    ]
    function = find(spec.target.reference)
    recipe = function(**bind(function, spec.params, kind="recipe"))
    with tempfile.TemporaryDirectory() as scratch, seeding.restored():
        packed = _chains(lanes.train, recipe, specs, Path(scratch) / "lanes")
        notes = [note for run, _ in packed for note in run.notes if note.startswith(lanes.ALONE)]
        if notes:
            return LaneProof((), notes[0])
        solo = _chains(loop.train, recipe, specs, Path(scratch) / "solo")
    return LaneProof(tuple(_compared(run.seed, a, b) for (run, a), (_, b) in zip(packed, solo, strict=True)))


def _chains(trainer: Any, recipe: Any, specs: Sequence[RunSpec], folder: Path) -> list[tuple[Run, Mapping[str, str]]]:
    seeding.set_threads(specs[0].threads)
    seeding.fill_memory(False)
    seeding.seed_everything(specs[0].seed, deterministic=True)
    runs = []
    for spec in specs:
        path = folder / f"seed{spec.seed}"
        path.mkdir(parents=True)
        runs.append(Run(spec, Attempt(path, spec.id, this_process(), number=1), Interval(0, 0)))
    try:
        for index, result in trainer(recipe, runs):
            if isinstance(result, Failure):
                raise SweepError(f"seed {runs[index].seed} failed: {result}", where=trainer.__module__)
    finally:
        for run in runs:
            run.attempt.close()
    return [(run, dict(run.chain)) for run in runs]


def _compared(seed: int, a: Mapping[str, str], b: Mapping[str, str]) -> Compared:
    differs = next((link for link in {**b, **a} if a.get(link) != b.get(link)), "")
    return Compared(seed, len(a), differs)
