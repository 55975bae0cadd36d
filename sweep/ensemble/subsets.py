"""Which subsets of members are scored: every one of few, else the prefixes of balanced random orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats, Ints

Bools = npt.NDArray[np.bool_]
Part = tuple[Floats, Callable[[Floats], Floats]]

SUBSETS = 2000
PERMUTATIONS = 128
CACHED = 2**15  # numbers that are joined at once for all subsets of one size: they stay in the cache of a core


@dataclass(frozen=True)
class Walk:
    """Subsets that were scored: chosen (subsets, members), values (subsets, metrics)."""

    chosen: Bools
    values: Floats
    method: str

    @property
    def exact(self) -> bool:
        return self.method == "all subsets"


def all_of(count: int) -> bool:
    """Whether every subset of so many members is scored."""
    return bool(2**count - 1 <= SUBSETS)


def columns(count: int) -> int:
    """How many columns a part should have."""
    return max(8, CACHED // (2**count if all_of(count) else max(1, PERMUTATIONS // count) * min(count, PERMUTATIONS)))


def walked(parts: Iterable[Part], join: np.ufunc, count: int, metrics: int, seed: int) -> Walk:
    """Score subsets of `count` members: all of them up to SUBSETS, else the prefixes of random orders.

    A part is numbers (columns, members) about some of the examples, and what they, joined (columns, subsets), add
    to the scores (metrics, subsets). join: what makes one number of two, np.add or np.logaddexp.
    """
    if all_of(count):
        chosen = (np.arange(1, 2**count)[:, None] >> np.arange(count) & 1).astype(bool)
        values = np.zeros((metrics, len(chosen)))
        for rows, score in parts:
            values += score(_every(rows, join))
        return Walk(chosen, values.T, "all subsets")
    bases, starts = rotations(count, seed)
    values = np.zeros((count, metrics, len(bases) * len(starts)))
    for rows, score in parts:
        # Every order is a window of one that is written down twice: a size more is the window one further on.
        twice = [rows[:, np.concatenate([base, base])] for base in bases]
        joined = np.empty((len(rows), len(bases), len(starts)))
        for size in range(count):
            for which, columns in enumerate(twice):
                window = columns[:, starts + size] if len(starts) < count else columns[:, size : size + count]
                if size:
                    join(joined[:, which], window, out=joined[:, which])
                else:
                    joined[:, which] = window
            values[size] += score(joined.reshape(len(rows), -1))
    chosen = (np.argsort(orders_of(count, seed), axis=1) <= np.arange(count)[:, None, None]).reshape(-1, count)
    method = f"{len(bases) * len(starts)} permutations"
    return Walk(chosen, values.transpose(0, 2, 1).reshape(-1, metrics), method)


def _every(rows: Floats, join: np.ufunc) -> Floats:
    """(columns, 2^M - 1): joined for all non-empty subsets; bit i of 1 + a subset's place says that i is in."""
    made = np.empty((len(rows), 2 ** rows.shape[1]))
    for i in range(rows.shape[1]):
        start = 2**i
        made[:, start] = rows[:, i]
        join(made[:, 1:start], rows[:, i : i + 1], out=made[:, start + 1 : 2 * start])
    return made[:, 1:]


def orders_of(count: int, seed: int) -> Ints:
    """(orders, count), at most PERMUTATIONS: all rotations of random ones, each member as often in each place.

    That makes sizes 1, M - 1 and M exact, and the rest less noisy than independent orders.
    """
    bases, starts = rotations(count, seed)
    return np.concatenate([base[(starts[:, None] + np.arange(count)) % count] for base in bases])


def rotations(count: int, seed: int) -> tuple[Ints, Ints]:
    """Random orders (bases, count), and the places at which each is begun."""
    rng = np.random.default_rng(seed)
    bases = np.stack([rng.permutation(count) for _ in range(max(1, PERMUTATIONS // count))])
    starts = min(count, PERMUTATIONS)
    return bases, np.arange(starts) * count // starts
