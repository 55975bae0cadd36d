"""Which subsets of members are scored: every one of few, else the prefixes of balanced random orders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats

State = TypeVar("State")
Bools = npt.NDArray[np.bool_]

SUBSETS = 2000
PERMUTATIONS = 128
THREADS = 8


@dataclass(frozen=True)
class Walk:
    """Subsets that were scored: chosen (subsets, members), values (subsets, metrics)."""

    chosen: Bools
    values: Floats
    method: str

    @property
    def exact(self) -> bool:
        return self.method == "all subsets"


def walked(
    count: int,
    add: Callable[[State | None, int], State],
    value: Callable[[State, int], tuple[float, ...]],
    seed: int,
) -> Walk:
    """Score subsets of `count` members: all of them up to SUBSETS, else the prefixes of random orders.

    add(state, i): the state with member i, which is not changed in place; value(state, size): its scores. Random
    orders are walked in several threads at once, each order in one.
    """
    if 2**count - 1 <= SUBSETS:
        method = "all subsets"
        scored = [(members, value(state, len(members))) for members, state in _every(count, add)]
    else:
        orders = orders_of(count, seed)
        method = f"{len(orders)} permutations"
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
            walks = threads.map(lambda order: _prefixes(order, add, value), orders)
            scored = [each for walk in walks for each in walk]
    chosen = np.zeros((len(scored), count), dtype=bool)
    for row, (members, _) in enumerate(scored):
        chosen[row, list(members)] = True
    return Walk(chosen, np.array([scores for _, scores in scored], dtype=np.float64), method)


def _every(
    count: int,
    add: Callable[[State | None, int], State],
    members: tuple[int, ...] = (),
    state: State | None = None,
) -> Iterator[tuple[tuple[int, ...], State]]:
    """All non-empty subsets, depth first: one addition each, and at most M sums alive."""
    for i in range(members[-1] + 1 if members else 0, count):
        grown = add(state, i)
        yield (*members, i), grown
        yield from _every(count, add, (*members, i), grown)


def orders_of(count: int, seed: int) -> list[tuple[int, ...]]:
    """At most PERMUTATIONS orders: all rotations of random ones, so each member is as often in each place.

    That makes sizes 1, M - 1 and M exact, and the rest less noisy than independent orders.
    """
    rng = np.random.default_rng(seed)
    orders: list[tuple[int, ...]] = []
    for _ in range(max(1, PERMUTATIONS // count)):
        order = rng.permutation(count).tolist()
        for turn in range(min(count, PERMUTATIONS)):
            start = turn * count // min(count, PERMUTATIONS)
            orders.append(tuple(order[start:] + order[:start]))
    return orders


def _prefixes(
    order: tuple[int, ...],
    add: Callable[[State | None, int], State],
    value: Callable[[State, int], tuple[float, ...]],
) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    scored: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    state: State | None = None
    for size, i in enumerate(order, start=1):
        state = add(state, i)
        scored.append((order[:size], value(state, size)))
    return scored
