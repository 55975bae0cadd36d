"""The comparison of every lane of a pack with the same seed elsewhere, digest by digest.

Lanes must agree with the plain loop, and rows of a vectorised pack with the same seeds in another pack and alone.
"""

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
from sweep.store import Failure
from sweep.train.lanes import ALONE
from sweep.verify.chain import first_difference
from sweep.verify.rehearse import scratch_run
from sweep.words import plural
from sweep.worker.train import attempted


@dataclass(frozen=True)
class LaneProof:
    """The result of comparing a pack with the same seeds elsewhere.

    lanes: number of seeds. links: number of compared digests. differ: seed -> the first link that differs. note: the
    reason if there was no pack. width: of vectorised steps, or 0 if lanes were compared with solo runs.
    """

    lanes: int = 0
    links: int = 0
    differ: Mapping[int, str] | None = None
    note: str = ""
    width: int = 0

    @property
    def equal(self) -> bool:
        return not self.note and not self.differ

    def __str__(self) -> str:
        if self.note:
            return f"no lanes: {self.note}"
        what = f"rows of vectorize={self.width}" if self.width else "lanes"
        where = "the same rows beside other seeds and alone" if self.width else "their solo runs"
        if self.differ:
            named = "; ".join(f"seed {seed} first at {link}" for seed, link in list(self.differ.items())[:5])
            return f"{what} DIFFER from {where}: {len(self.differ)} of {self.lanes} ({named})"
        compared = f"{plural(self.links, 'digest')} compared"
        return f"{what}: {self.lanes} of {self.lanes} equal to {where} ({compared})"


def compare_lanes(spec: RunSpec, count: int) -> LaneProof:
    """Train `count` seeds, beginning with that of the spec, as one pack and then elsewhere, and compare.

    Lanes are trained again by the plain loop. Vectorised rows are trained again in reverse order among the same number
    of other seeds, and the first one alone. Nothing is recorded.
    Raises: ConfigError unless the spec is of a recipe, on a GPU or vectorised, in deterministic mode; SweepError if a
    run fails.
    """
    if spec.target.kind != "recipe" or not (spec.device == "cuda" or spec.vectorize):
        raise ConfigError(
            "only recipes on a GPU or with vectorize train several seeds together", where="--lanes",
            hint="add device=cuda or vectorize=16",
        )  # fmt: skip
    if not spec.deterministic:
        raise ConfigError("fast mode does not promise equal bits", where="--lanes", hint="add --deterministic")
    seeds = range(spec.seed, spec.seed + 2 * count)
    every = [replace(spec, seed=s, streams={name: stream_seed(s, name) for name in spec.streams}) for s in seeds]
    specs, others = every[:count], every[count:]
    with tempfile.TemporaryDirectory() as scratch, seeding.restored():
        folder = Path(scratch)
        packed = _trained(specs, folder / "lanes", plain=False)
        note = next((note for run in packed for note in run.notes if note.startswith(ALONE)), "")
        if note:
            return LaneProof(note=note)
        if spec.vectorize:
            mixed = [each for pair in zip(others, reversed(specs), strict=True) for each in pair]
            again = _trained(mixed, folder / "mixed", plain=False)
            again += _trained(specs[:1], folder / "alone", plain=False)
        else:
            again = _trained(specs, folder / "solo", plain=True)
    chains = {run.seed: run.chain for run in packed}
    compared = [run for run in again if run.seed in chains]
    found = {run.seed: first_difference(chains[run.seed], run.chain) for run in reversed(compared)}
    differ = {seed: difference.link for seed, difference in found.items() if difference is not None}
    return LaneProof(len(packed), sum(len(run.chain) for run in compared), differ, width=spec.vectorize)


def _trained(specs: Sequence[RunSpec], folder: Path, *, plain: bool) -> list[Run]:
    """Train the specs' runs together. plain: one after the other, by the plain loop."""
    runs = [scratch_run(spec, folder / f"seed{spec.seed}", plain=plain) for spec in specs]
    try:
        for index, result in attempted(runs, Job()):
            if isinstance(result, Failure):
                raise SweepError(f"seed {runs[index].seed} failed: {result}", where=specs[index].target.reference)
    except Unrecorded as error:
        raise SweepError(f"the runs failed: {error}", where=specs[0].target.reference) from error
    finally:
        for run in runs:
            run.attempt.close()
    return runs
