"""Learning curves of any length, read in one pass and thinned: the reader is told how far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep import aggregate
from sweep.errors import IntegrityError
from sweep.store import Member, Store
from sweep.store.history import Row

MOST_POINTS = 300  # of a curve that is drawn
MOST_METRICS = 60  # that are followed; a sweep that logs more has its first ones drawn


@dataclass(frozen=True)
class Curve:
    """What one run logged of one metric: every `stride`-th value, and the last one.

    counted: it enters the mean and the band, as it enters the table.
    """

    seed: int
    repeat: int
    failed: bool
    counted: bool
    steps: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64]
    stride: int


Curves = dict[str, dict[tuple[str, str], list[Curve]]]


class _Thinning:
    """Keeps every stride-th value of a stream, the stride doubling whenever there are too many."""

    def __init__(self, most: int) -> None:
        self.most, self.stride, self.count = most, 1, 0
        self.steps: list[int] = []
        self.numbers: list[float] = []
        self.last = (0, math.nan)

    def add(self, step: int, value: float) -> None:
        if self.count and step == self.last[0]:  # logged again: the later value stands
            self.last = (step, value)
            if self.steps and self.steps[-1] == step:
                self.numbers[-1] = value
            return
        if self.count % self.stride == 0:
            if len(self.steps) >= 2 * self.most:
                del self.steps[1::2], self.numbers[1::2]
                self.stride *= 2
            if self.count % self.stride == 0:
                self.steps.append(step)
                self.numbers.append(value)
        self.count += 1
        self.last = (step, value)


def curves(
    store: Store, members: Iterable[Member], most: int = MOST_POINTS, *, refused: list[str] | None = None
) -> Curves:
    """Metric -> (task, variant) -> a curve a run, in the members' order.

    refused: takes the names of runs whose history is not the one that was recorded; without it they raise.

    Memory holds twice `most` points a run and metric, however long the histories are. Strides are powers of
    two, so runs of unlike length share the steps of the coarsest.
    """
    found: Curves = {}
    members = list(members)
    counted = {member.key for member in aggregate.counted(members)}
    for member in members:
        kept: dict[str, _Thinning] = {}
        for row in _rows(store, member, refused):
            step = row[aggregate.STEP]
            for name, value in row.items():
                if name == aggregate.STEP:
                    continue
                if name not in kept:
                    if name not in found and len(found.keys() | kept.keys()) >= MOST_METRICS:
                        continue
                    kept[name] = _Thinning(most)
                kept[name].add(step, value)
        for name, thin in kept.items():
            made = _curve(member, thin, member.key in counted)
            found.setdefault(name, {}).setdefault((member.task, member.variant), []).append(made)
    return found


def _rows(store: Store, member: Member, refused: list[str] | None) -> Iterator[Row]:
    try:
        yield from store.rows(member)
    except IntegrityError:
        if refused is None:
            raise
        refused.append(member.key)


def _curve(member: Member, thin: _Thinning, counted: bool) -> Curve:
    steps, values = [*thin.steps], [*thin.numbers]
    if steps[-1] != thin.last[0]:
        steps.append(thin.last[0])
        values.append(thin.last[1])
    order = np.argsort(steps, kind="stable")
    return Curve(
        member.seed, member.repeat, member.status == "failed", counted,
        np.array(steps, dtype=np.int64)[order], np.array(values, dtype=np.float64)[order], thin.stride,
    )  # fmt: skip


def level_strides(runs: Sequence[Curve], most: int = MOST_POINTS) -> tuple[list[Curve], int]:
    """The same runs, all at the coarsest stride of any, few enough to draw; and that stride."""
    stride = max(run.stride for run in runs)
    while max(run.steps.size * run.stride for run in runs) / stride > most:
        stride *= 2
    return [_every(run, stride // run.stride) for run in runs], stride


def _every(run: Curve, times: int) -> Curve:
    if times == 1:
        return run
    keep = (np.arange(run.steps.size) % times == 0) | (np.arange(run.steps.size) == run.steps.size - 1)
    return replace(run, steps=run.steps[keep], numbers=run.numbers[keep], stride=run.stride * times)


def band(runs: Sequence[Curve], level: float) -> pd.DataFrame:
    """Return `aggregate.band` of the thinned runs that count: step, n, mean, low, high."""
    runs = [run for run in runs if run.counted]
    if not runs:
        return pd.DataFrame({name: np.array([]) for name in (aggregate.STEP, "n", "mean", "low", "high")})
    table = pd.DataFrame({
        "seed": np.concatenate([np.full(run.steps.size, run.seed) for run in runs]),
        aggregate.STEP: np.concatenate([run.steps for run in runs]),
        "value": np.concatenate([run.numbers for run in runs]),
    })  # fmt: skip
    return aggregate.band(table, "value", level)


def preferred(names: Sequence[str], primary: str) -> list[str]:
    """The metrics in the order of interest: the primary one, then val, test, train, the rest; learning rates last."""
    order = {"val": 0, "test": 1, "train": 2}
    leaf = primary.rpartition("/")[2]

    def key(name: str) -> tuple[bool, bool, bool, int, str]:
        split, _, rest = name.rpartition("/")
        return name == "lr", name != primary, rest not in (leaf, "loss", "nll"), order.get(split, 3), name

    return sorted(names, key=key)
