"""Which subsets of members are scored: every one of few, else the prefixes of balanced random orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats

State = TypeVar("State")
Bools = npt.NDArray[np.bool_]

SUBSETS = 2000
PERMUTATIONS = 128


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
    exact = 2**count - 1 <= SUBSETS
    if exact:
        steps, method = _every(count, add), "all subsets"
    else:
        orders = orders_of(count, seed)
        steps, method = _prefixes(orders, add), f"{len(orders)} permutations"
    chosen: list[Bools] = []
    values: list[tuple[float, ...]] = []
    for members, state in steps:
        mask = np.zeros(count, dtype=bool)
        mask[list(members)] = True
        chosen.append(mask)
        values.append(value(state, len(members)))
    return Walk(np.stack(chosen), np.array(values, dtype=np.float64), method)


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
    orders: list[tuple[int, ...]], add: Callable[[State | None, int], State]
) -> Iterator[tuple[tuple[int, ...], State]]:
    for order in orders:
        state: State | None = None
        for size, i in enumerate(order, start=1):
            state = add(state, i)
            yield order[:size], state
