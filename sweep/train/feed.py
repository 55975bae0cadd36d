"""Batches from a DataLoader and their way to the device, for data that workers prepare or that do not fit there.

The bits are the same as when batches are gathered on the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Indexed

from sweep.determinism import seeding
from sweep.train.augment import altered, alters, epoch_key, example_keys
from sweep.train.data import Dataset, Split
from sweep.train.recipe import Recipe

AHEAD = 2  # steps of a pack whose batches are on the device before they are needed
Item = tuple[int, Sequence[int], NDArray[np.int64]]


class _Batches(Indexed[tuple[Tensor, Tensor]]):
    """A split whose items are whole batches of several lanes, indexed by (epoch, streams, positions).

    streams: the seed of each lane's stream `augment`. positions: int64 (lanes, batch).
    """

    def __init__(self, split: Split, recipe: Recipe) -> None:
        self.split, self.recipe = split, recipe

    def __getitem__(self, item: Item) -> tuple[Tensor, Tensor]:
        epoch, streams, positions = item
        indices = torch.from_numpy(positions)
        inputs, targets = self.split.at(indices)
        if not alters(self.recipe):
            return inputs, targets
        made = []
        for stream, rows, x, y in zip(streams, indices, inputs, targets, strict=True):
            keys = example_keys(torch.tensor(epoch_key(stream, epoch)), self.split.ids.index_select(0, rows))
            made.append(altered(self.recipe, x, y, keys))
        return torch.stack([x for x, _ in made]), torch.stack([y for _, y in made])


class Feed:
    """The loader of a run, or of all lanes of a pack."""

    def __init__(self, recipe: Recipe, split: Split, device: str) -> None:
        """split: on the CPU."""
        self.device = device
        self.plan: list[Item] = []  # the items to fetch next, changed in place for every epoch so that workers persist
        count = recipe.loader_workers or 0
        options: dict[str, Any] = {"persistent_workers": True} if count else {}
        self.loader: DataLoader[Any] = DataLoader(
            _Batches(split, recipe), batch_size=None, sampler=self.plan,
            num_workers=count, pin_memory=device == "cuda",
            # Making an iterator draws a number: it needs a generator of its own, or dropout would change.
            generator=seeding.generator(0), worker_init_fn=seeding.worker_init_fn, **options,
        )  # fmt: skip

    def batches(
        self, epoch: int, streams: Sequence[int], positions: Iterable[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs (lanes, batch, ...) and targets (lanes, batch) for each of the positions (lanes, batch).

        streams: of augmentation, one per lane. The batches are on the CPU, pinned if a GPU will get them.
        """
        self.plan[:] = [(epoch, tuple(streams), each.numpy()) for each in positions]
        yield from self.loader

    def alone(self, epoch: int, stream: int, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one run at these positions, on the device."""
        for inputs, targets in self.batches(epoch, [stream], (batch[None] for batch in batches)):
            yield inputs[0].to(self.device, non_blocking=True), targets[0].to(self.device, non_blocking=True)


def feed_of(recipe: Recipe, stored: Dataset, placed: Dataset, device: str) -> Feed | None:
    """Return the feed that the recipe asks for or the placed data need, or None to gather batches on the device."""
    if recipe.loader_workers is None and placed.train.inputs.device.type == device:
        return None
    return Feed(recipe, stored.train, device)


class Belt:
    """A copier of a pack's pinned batches to the device while earlier steps run, at most AHEAD steps early.

    inputs (lanes, batch, ...) and targets (lanes, batch): of the last step that was loaded, on the device.
    """

    inputs: Tensor
    targets: Tensor

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # For each step under way: its tensors, and the events to wait for before their memory may be reused.
        self._under_way: deque[tuple[Tensor, Tensor, list[torch.cuda.Event]]] = deque()

    def load(self) -> None:
        """Take the next step's batches and start to copy them."""
        inputs, targets = next(self._batches)
        if len(self._under_way) == AHEAD:
            # Their memory belongs to the copying stream, which does not wait for its readers.
            for mark in self._under_way.popleft()[2]:
                mark.synchronize()
        with torch.cuda.stream(self._stream):
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.inputs = inputs.to("cuda", non_blocking=True)
            self.targets = targets.to("cuda", non_blocking=True)
            self._there.record(self._stream)
        self._under_way.append((self.inputs, self.targets, []))

    def give(self, rows: slice, inputs: Tensor, targets: Tensor, stream: torch.cuda.Stream) -> None:
        """Copy the batches of these lanes on `stream` to the tensors that a graph reads."""
        stream.wait_event(self._there)
        with torch.cuda.stream(stream):
            inputs.copy_(self.inputs[rows])
            targets.copy_(self.targets[rows])
            mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
            mark.record(stream)
        self._under_way[-1][2].append(mark)
