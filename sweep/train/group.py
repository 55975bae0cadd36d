"""Group: lanes of a pack whose steps are one CUDA graph, and the parts of an epoch that it is captured for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sweep.train.belt import Load
from sweep.train.capture import capture, side_by_side
from sweep.train.lane import Lane, step, update


@dataclass
class Seat:
    """A lane in a pack: which of the task's runs it is, and the state of torch's CUDA generator for it."""

    index: int
    lane: Lane
    generator: torch.Generator


@dataclass
class Section:
    """The steps of an epoch that have one batch size: `first` .. `first + count - 1`.

    orders: int64 (count, lanes, batch) positions; rates: float32 (count,); cursor: the step to do next,
    from 0; batch: (1, lanes, batch) what `orders` holds at the cursor. fed: inputs (lanes, batch, ...) and
    targets (lanes, batch) of the step, where a feed brings them. All on the device, all in place.
    """

    first: int
    count: int
    orders: Tensor
    rates: Tensor
    cursor: Tensor
    batch: Tensor
    fed: tuple[Tensor, Tensor] | None = None
    graph: torch.cuda.CUDAGraph | None = None
    warm: bool = False


@dataclass
class Group:
    """Lanes whose steps are one graph: in parallel on as many streams as it has, one after the other on each.

    rows: of the pack, which its seats are.
    """

    seats: Sequence[Seat]
    rows: slice
    streams: Sequence[torch.cuda.Stream]
    lr: Tensor
    sections: list[Section] = field(default_factory=list)

    @property
    def root(self) -> torch.cuda.Stream:
        return self.streams[0]

    def go(self, position: int, load: Load | None) -> None:
        """Do the step at this position of the epoch, of every lane; load: its batches, where a feed brings them."""
        section = next(s for s in self.sections if position < s.first + s.count)
        if load is not None:
            if section.fed is None:
                inputs, targets = load.inputs[self.rows], load.targets[self.rows]
                section.fed = torch.empty_like(inputs), torch.empty_like(targets)
            load.give(self.rows, *section.fed, self.root)
        if section.graph is None and section.warm:
            pool = next((s.graph.pool() for s in self.sections if s.graph is not None), None)
            generators = [seat.generator for seat in self.seats]
            section.graph = capture(self.root, generators, partial(self._step, section), pool)
        with torch.cuda.stream(self.root):
            if section.graph is not None:
                section.graph.replay()
            else:
                self._step(section)
                section.warm = True

    def _step(self, section: Section) -> None:
        if section.fed is None:
            torch.index_select(section.orders, 0, section.cursor, out=section.batch)
        torch.index_select(section.rates, 0, section.cursor, out=self.lr)
        section.cursor.add_(1)
        chains: list[list[Any]] = [[] for _ in self.streams]
        for i, seat in enumerate(self.seats):
            if section.fed is None:
                work = partial(step, seat.lane, section.batch[0, i])
            else:
                inputs, targets = section.fed
                work = partial(update, seat.lane, inputs[i], targets[i])
            chains[i % len(chains)].append((seat.generator, work))
        side_by_side(self.root, zip(self.streams, chains, strict=True))

    def load(self, orders: Tensor, sizes: Sequence[int], rates: Sequence[float], start: int) -> None:
        """Take the positions (lanes, examples) and rates of an epoch, to go on at its step `start`."""
        if not self.sections:
            self.sections = self._sections(sizes)
        first = 0
        for section in self.sections:
            size = section.orders.shape[2]
            rows = orders[:, first : first + section.count * size]
            section.orders.copy_(rows.view(len(orders), section.count, size).transpose(0, 1))
            span = slice(section.first, section.first + section.count)
            section.rates.copy_(torch.tensor(rates[span], dtype=torch.float32))
            section.cursor.fill_(max(0, start - section.first))
            first += section.count * size

    def _sections(self, sizes: Sequence[int]) -> list[Section]:
        whole = list(sizes).count(sizes[0])
        parts = [(0, whole)] + [(i, 1) for i in range(whole, len(sizes))]
        k, on = len(self.seats), self.lr.device
        return [
            Section(
                first, count,
                orders=torch.zeros(count, k, sizes[first], dtype=torch.int64, device=on),
                rates=torch.zeros(count, device=on), cursor=torch.zeros(1, dtype=torch.int64, device=on),
                batch=torch.zeros(1, k, sizes[first], dtype=torch.int64, device=on),
            )
            for first, count in parts
        ]  # fmt: skip
