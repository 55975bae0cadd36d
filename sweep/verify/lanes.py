"""Every lane of a pack against the plain loop with the same seed, digest by digest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweep.determinism import seeding
from sweep.errors import ConfigError, SweepError
from sweep.handle import Run
from sweep.job import Job, Unrecorded
from sweep.plan import RunSpec, stream_seed
from sweep.store import Attempt, Failure
from sweep.store.owner import this_process
from sweep.train.lanes import ALONE
from sweep.verify.chain import first_difference
from sweep.words import plural
from sweep.worker.train import attempted


@dataclass(frozen=True)
class LaneProof:
    """The result of comparing a pack with solo runs.

    lanes: of how many seeds, links: digests compared; differ: seed -> the first link that is not its solo run's.
    note: why there was no pack, or "".
    """

    lanes: int = 0
    links: int = 0
    differ: Mapping[int, str] | None = None
    note: str = ""

    @property
    def equal(self) -> bool:
        return not self.note and not self.differ

    def __str__(self) -> str:
        if self.note:
            return f"no lanes: {self.note}"
        if self.differ:
            named = "; ".join(f"seed {seed} first at {link}" for seed, link in list(self.differ.items())[:5])
            return f"lanes DIFFER from solo runs: {len(self.differ)} of {self.lanes} ({named})"
        return f"lanes: {self.lanes} of {self.lanes} equal to their solo runs ({plural(self.links, 'digest')} compared)"


def compare_lanes(spec: RunSpec, count: int) -> LaneProof:
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
    with tempfile.TemporaryDirectory() as scratch, seeding.restored():
        packed = _trained(specs, Path(scratch) / "lanes", plain=False)
        note = next((note for run in packed for note in run.notes if note.startswith(ALONE)), "")
        if note:
            return LaneProof(note=note)
        solo = _trained(specs, Path(scratch) / "solo", plain=True)
    found = {a.seed: first_difference(a.chain, b.chain) for a, b in zip(packed, solo, strict=True)}
    differ = {seed: difference.link for seed, difference in found.items() if difference is not None}
    return LaneProof(len(packed), sum(len(run.chain) for run in packed), differ)


def _trained(specs: Sequence[RunSpec], folder: Path, *, plain: bool) -> list[Run]:
    """Train the specs' runs together. plain: one after the other, by the plain loop."""
    runs = []
    for spec in specs:
        path = folder / f"seed{spec.seed}"
        path.mkdir(parents=True)
        runs.append(Run(spec, Attempt(path, spec.id, this_process(), number=1), (0, 0.0), plain=plain))
    try:
        for index, result in attempted(runs, Job()):
            if isinstance(result, Failure):
                raise SweepError(f"seed {runs[index].seed} failed: {result}", where=specs[index].target.reference)
    except Unrecorded as error:
        raise SweepError(f"the runs fail: {error}", where=specs[0].target.reference) from error
    finally:
        for run in runs:
            run.attempt.close()
    return runs
