"""Belt: batches on their way to the lanes of a pack, copied to the device while earlier steps run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

AHEAD = 2  # steps whose batches are on the device before they are needed


@dataclass
class Load:
    """A step's inputs (lanes, batch, ...) and targets (lanes, batch) on the device, from the moment `there` on.

    taken: what to wait for before their memory may be used again, one event for each who took from it.
    """

    inputs: Tensor
    targets: Tensor
    there: torch.cuda.Event
    taken: list[torch.cuda.Event] = field(default_factory=list)

    def give(self, rows: slice, inputs: Tensor, targets: Tensor, stream: torch.cuda.Stream) -> None:
        """Copy the batches of these lanes to where a graph reads them, in the order of `stream`."""
        stream.wait_event(self.there)
        with torch.cuda.stream(stream):
            inputs.copy_(self.inputs[rows])
            targets.copy_(self.targets[rows])
            mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
            mark.record(stream)
        self.taken.append(mark)


class Belt:
    """Takes pinned batches from the host, in the order of the steps, and is never more than AHEAD of them."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._under_way: deque[Load] = deque()

    def load(self) -> Load:
        """Return the next step's load. What it copies is under way by then."""
        inputs, targets = next(self._batches)
        if len(self._under_way) == AHEAD:
            # Its memory is of the copying stream, which knows nothing of those that read it.
            for mark in self._under_way.popleft().taken:
                mark.synchronize()
        with torch.cuda.stream(self._stream):
            there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            load = Load(inputs.to("cuda", non_blocking=True), targets.to("cuda", non_blocking=True), there)
            there.record(self._stream)
        self._under_way.append(load)
        return load
