"""Augmentation whose randomness is a function of (seed, epoch, example), on any device and in any worker."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sweep.train.params import Augment
from sweep.train.recipe import Recipe

_MASK = (1 << 64) - 1


def epoch_key(stream: int, epoch: int) -> int:
    """Return a signed 64-bit number for one epoch of one seed; `stream` is the seed of the stream `augment`."""
    key = (stream * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03) & _MASK
    return key - (1 << 64) if key >> 63 else key


def example_keys(key: Tensor, ids: Tensor) -> Tensor:
    """Return int64 (examples,): one well-mixed number for each; integer arithmetic, so equal everywhere."""
    return mix(key + ids * 0x632BE59BD9B4E019)


def mix(z: Tensor) -> Tensor:
    """Mix int64 by SplitMix64's finaliser (Steele et al., 2014, fig. 17); shifts made logical by a mask."""
    z = (z ^ _shift(z, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    z = (z ^ _shift(z, 27)) * (0x94D049BB133111EB - (1 << 64))
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def alters(recipe: Recipe) -> bool:
    """Return True where a recipe trains on other values than those of its examples: it needs their keys."""
    return recipe.augment is not None or recipe.mix is not None


def altered(recipe: Recipe, inputs: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return a training batch as the model gets it: augmented, then mixed."""
    if recipe.augment is not None:
        inputs = recipe.augment(inputs, keys)
    return (inputs, targets) if recipe.mix is None else recipe.mix(inputs, targets, keys)


def build(spec: Augment, black: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return (images (batch, channels, height, width), keys) -> images; `black` (channels, 1, 1) moves in."""
    placed = {black.device: black}  # a copy to a device within a step would stop it from being captured

    def augment(images: Tensor, keys: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows = torch.arange(height, device=images.device).expand(len(images), height)
        columns = torch.arange(width, device=images.device).expand(len(images), width)
        if spec.flip:
            mirrored = (mix(keys + 1) & 1).bool()[:, None]
            columns = torch.where(mirrored, width - 1 - columns, columns)
        if spec.shift:
            span = 2 * spec.shift + 1
            rows = rows + ((mix(keys + 2) & 0xFFFF) % span - spec.shift)[:, None]
            columns = columns + ((mix(keys + 3) & 0xFFFF) % span - spec.shift)[:, None]
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        flat = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
        moved = images.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, images.shape[1], -1))
        if images.device not in placed:
            placed[images.device] = black.to(images.device)
        return torch.where(inside[:, None], moved.view_as(images), placed[images.device])

    return augment
