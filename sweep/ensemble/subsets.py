"""Which subsets of members are scored: every one of a size that has few, else prefixes of balanced random orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats, Ints

Bools = npt.NDArray[np.bool_]
Part = tuple[Floats, Callable[[Floats], Floats]]

SUBSETS = 2**13  # up to this many in all are scored, every one
OF_A_SIZE = 500  # subsets of a size up to which every one of them is scored
PERMUTATIONS = 128
CACHED = 2**15  # numbers that are joined at once for all subsets of one size: they stay in the cache of a core


@dataclass(frozen=True)
class Walk:
    """Subsets that were scored: chosen (subsets, members), values (subsets, metrics).

    exact (members,): whether every subset of the size k, at entry k - 1, counts alike, so that its mean has no noise.
    """

    chosen: Bools
    values: Floats
    method: str
    exact: Bools


def all_of(count: int) -> bool:
    """Whether every subset of so many members is scored."""
    return bool(2**count - 1 <= SUBSETS)


def enumerated(count: int) -> list[int]:
    """The sizes of which every subset is scored beside the orders; those make 1, count - 1 and count exact as it is."""
    return [size for size in range(2, count - 1) if comb(count, size) <= OF_A_SIZE]


def columns(count: int) -> int:
    """How many columns a part should have."""
    return max(8, CACHED // (2**count if all_of(count) else max(1, PERMUTATIONS // count) * min(count, PERMUTATIONS)))


def walked(parts: Iterable[Part], join: np.ufunc, count: int, metrics: int, seed: int) -> Walk:
    """Score subsets of `count` members: all of them up to SUBSETS, else all of a size up to OF_A_SIZE, and for the
    sizes between them the prefixes of random orders.

    A part is numbers (columns, members) about some of the examples, and what they, joined (columns, subsets), add
    to the scores (metrics, subsets). join: what makes one number of two, np.add or np.logaddexp.
    """
    if all_of(count):
        chosen = (np.arange(1, 2**count)[:, None] >> np.arange(count) & 1).astype(bool)
        values = np.zeros((metrics, len(chosen)))
        for rows, score in parts:
            values += score(_every(rows, join))
        return Walk(chosen, values.T, "all subsets", np.ones(count, dtype=bool))
    bases, starts = rotations(count, seed)
    values = np.zeros((count, metrics, len(bases) * len(starts)))
    sizes = enumerated(count)
    whole = {size: np.array(list(combinations(range(count), size))) for size in sizes}
    every = {size: np.zeros((metrics, len(rows))) for size, rows in whole.items()}
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
            if size + 1 not in whole:
                values[size] += score(joined.reshape(len(rows), -1))
        for size, members in whole.items():
            every[size] += score(_joined(rows, members, join))
    sizes_walked = [k for k in range(1, count + 1) if k not in whole]
    places = np.argsort(orders_of(count, seed), axis=1)
    masks = [places < k for k in sizes_walked]
    scored = [values[k - 1].T for k in sizes_walked]
    for size, members in whole.items():
        masks.append((members[:, :, None] == np.arange(count)).any(axis=1))
        scored.append(every[size].T)
    sampled = [k for k in sizes_walked if k not in (1, count - 1, count)]
    method = f"{len(bases) * len(starts)} permutations"
    if sizes:
        method = f"all subsets of up to {sampled[0] - 1} and from {sampled[-1] + 1} members on, {method} between"
    exact = np.array([k not in sampled for k in range(1, count + 1)])
    return Walk(np.concatenate(masks), np.concatenate(scored), method, exact)


def _joined(rows: Floats, members: Ints, join: np.ufunc) -> Floats:
    """(columns, subsets): the members (subsets, size) of each subset joined, by what is left out where that is less."""
    count, size = rows.shape[1], members.shape[1]
    if 2 * size <= count:
        made = rows[:, members[:, 0]]
        for place in range(1, size):
            join(made, rows[:, members[:, place]], out=made)
        return made
    # [:, a, b]: the members a to b - 1 joined; what stays between those left out is such a span.
    spans = np.full((len(rows), count + 1, count + 1), float(join.identity))
    for a in range(count):
        for b in range(a, count):
            join(spans[:, a, b], rows[:, b], out=spans[:, a, b + 1])
    absent = ~(members[:, :, None] == np.arange(count)).any(axis=1)
    gone = np.nonzero(absent)[1].reshape(len(members), count - size)
    starts = np.concatenate([np.zeros((len(gone), 1), dtype=np.int64), gone + 1], axis=1)
    ends = np.concatenate([gone, np.full((len(gone), 1), count)], axis=1)
    made = spans[:, starts[:, 0], ends[:, 0]]
    for place in range(1, starts.shape[1]):
        join(made, spans[:, starts[:, place], ends[:, place]], out=made)
    return made


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
