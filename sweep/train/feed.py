"""Batches from a DataLoader: for data that workers prepare. The bits are those of gathering on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Indexed

from sweep import seeding
from sweep.train.augment import epoch_key, example_keys
from sweep.train.data import Split

Augmenter = Callable[[Tensor, Tensor], Tensor]
Item = tuple[int, list[int]]


class Batches(Indexed[tuple[Tensor, Tensor]]):
    """A split whose items are whole batches, asked for as (epoch, positions)."""

    def __init__(self, split: Split, augment: Augmenter | None, stream: int) -> None:
        self.split, self.augment, self.stream = split, augment, stream

    def __getitem__(self, item: Item) -> tuple[Tensor, Tensor]:
        epoch, positions = item
        indices = torch.tensor(positions)
        inputs = self.split.inputs.index_select(0, indices)
        if self.augment is not None:
            key = torch.tensor(epoch_key(self.stream, epoch))
            inputs = self.augment(inputs, example_keys(key, self.split.ids.index_select(0, indices)))
        return inputs, self.split.targets.index_select(0, indices)


class Plan:
    """What the loader is to fetch next; it is told anew for every epoch, so workers may live on."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Feed:
    """The loader of one run."""

    def __init__(
        self, split: Split, augment: Augmenter | None, streams: dict[str, int], workers: int, device: str
    ) -> None:
        self.plan, self.device = Plan(), device
        options: dict[str, Any] = {"persistent_workers": True} if workers else {}
        self.loader: DataLoader[Any] = DataLoader(
            Batches(split, augment, streams["augment"]), batch_size=None, sampler=self.plan,
            num_workers=workers, pin_memory=device == "cuda",
            # Making an iterator draws a number: from a generator of its own, or dropout would change.
            generator=seeding.generator(streams["order"]), worker_init_fn=seeding.worker_init_fn, **options,
        )  # fmt: skip

    def batches(self, epoch: int, indices: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of these positions, on the device."""
        self.plan.items = [(epoch, batch.tolist()) for batch in indices]
        for inputs, targets in self.loader:
            yield inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
