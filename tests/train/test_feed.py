"""Batches that a loader brings: those of gathering in place, for one run and for the lanes of a pack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sweep.train.augment import build, epoch_key, example_keys
from sweep.train.data import Dataset, Split
from sweep.train.feed import Feed, feed_of
from sweep.train.params import Augment
from sweep.train.recipe import Recipe

BLACK = torch.full((1, 1, 1), -0.5)


def recipe(**parts: Any) -> Recipe:
    empty: Any = None
    return replace(
        Recipe(
            data=empty, model=empty, loss=empty, optimizer=empty, lr=0.1, schedule=empty, scoring=empty, epochs=1,
            batch_size=4,
        ),
        **parts,
    )  # fmt: skip


def split(count: int = 20) -> Split:
    draw = torch.Generator().manual_seed(0)
    return Split(torch.randn(count, 1, 6, 6, generator=draw), torch.arange(count) % 3, torch.arange(count) + 100)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augmented", [False, True])
def test_every_lane_gets_the_batch_that_it_would_gather(workers: int, augmented: bool) -> None:
    augment = build(Augment(shift=2, flip=True), BLACK) if augmented else None
    data, streams = split(), [7, 8, 9]
    feed = Feed(recipe(augment=augment, loader_workers=workers), data, "cpu")
    draw = torch.Generator().manual_seed(1)
    for epoch in (1, 2):  # workers live on
        steps = [torch.randint(0, len(data), (3, size), generator=draw) for size in (4, 4, 2)]
        brought = list(feed.batches(epoch, streams, steps))
        assert len(brought) == len(steps)
        for positions, (inputs, targets) in zip(steps, brought, strict=True):
            for lane, stream in enumerate(streams):
                wanted = data.inputs[positions[lane]]
                if augment is not None:
                    keys = example_keys(torch.tensor(epoch_key(stream, epoch)), data.ids[positions[lane]])
                    wanted = augment(wanted, keys)
                assert torch.equal(inputs[lane], wanted)
                assert torch.equal(targets[lane], data.targets[positions[lane]])


def test_what_a_feed_brings_is_not_placed_and_what_needs_none_has_none() -> None:
    data = Dataset(split(), split(5), split(6), outputs=3)
    placed = data.placed("cpu", fed=False)
    assert feed_of(recipe(), data, placed, "cpu") is None
    assert feed_of(recipe(loader_workers=0), data, placed, "cpu") is not None
    # Inputs that did not fit the device are brought, whether the recipe asked for it or not.
    elsewhere = replace(placed, train=replace(placed.train, inputs=placed.train.inputs.to("meta")))
    assert feed_of(recipe(), data, elsewhere, "cpu") is not None
