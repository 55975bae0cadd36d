"""Augmentation and mixup: their randomness depends only on (seed, epoch, example), on any device, in any worker."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sweep.errors import ConfigError
from sweep.train.data import Dataset
from sweep.train.params import Augment
from sweep.train.recipe import Recipe

QUANTILES = 4096  # of the distribution of shares in mixup
_MASK = (1 << 64) - 1


def epoch_key(stream: int, epoch: int) -> int:
    """Return a signed 64-bit number for one epoch of one seed. stream: the seed of the stream `augment`."""
    key = (stream * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03) & _MASK
    return key - (1 << 64) if key >> 63 else key


def example_keys(key: Tensor, ids: Tensor) -> Tensor:
    """Return int64 (examples,), one well-mixed number each. Integer arithmetic makes it equal everywhere."""
    return mix(key + ids * 0x632BE59BD9B4E019)


def mix(z: Tensor) -> Tensor:
    """Mix int64 by SplitMix64's finaliser (Steele et al., 2014, fig. 17). A mask makes its shifts logical."""
    z = (z ^ _shift(z, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    z = (z ^ _shift(z, 27)) * (0x94D049BB133111EB - (1 << 64))
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def alters(recipe: Recipe) -> bool:
    """Return whether a recipe changes its training examples and therefore needs their keys."""
    return recipe.augment is not None or recipe.mix is not None


def altered(recipe: Recipe, inputs: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return a training batch as the model gets it: augmented, then mixed."""
    if recipe.augment is not None:
        inputs = recipe.augment(inputs, keys)
    return (inputs, targets) if recipe.mix is None else recipe.mix(inputs, targets, keys)


def build(spec: Augment, black: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return (images (batch, channels, height, width), keys) -> images; `black` (channels, 1, 1) fills the edges."""
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


def augmenting(spec: Augment, load: Callable[[], Dataset]) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the augmentation of a spec, with the data's own black, or None. Raises: ConfigError."""
    if not (spec.shift or spec.flip):
        return None
    found = load()
    if len(found.input_shape) != 3:
        raise ConfigError(
            f"shift and flip need images, but the examples have shape {tuple(found.input_shape)}",
            where="params.augment",
        )
    black = [-mean / std for mean, std in zip(found.mean, found.std, strict=True)]
    return build(spec, torch.tensor(black, dtype=torch.float32).view(-1, 1, 1))


def mixup(alpha: float, load: Callable[[], Dataset]) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return a function that mixes each example with the one before it in its batch, each with its own share.

    Shares are drawn from Beta(alpha, alpha) (Zhang et al., 2018). Class numbers become shares of the classes.
    """
    from scipy.special import betaincinv  # takes a third of a second to load, and few recipes mix

    shares = torch.from_numpy(betaincinv(alpha, alpha, (torch.arange(QUANTILES).numpy() + 0.5) / QUANTILES)).float()
    placed = {shares.device: shares}  # a copy to a device within a step would stop it from being captured
    classes: dict[torch.device, Tensor] = {}

    def mixed(inputs: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        shares_of_classes = targets.dim() == 2 and targets.is_floating_point()
        if not inputs.is_floating_point() or not (targets.dim() == 1 or shares_of_classes):
            raise ConfigError(
                "mixup needs inputs that are numbers, and one target per example", where="mixup", hint="leave it out"
            )
        if inputs.device not in placed:
            placed[inputs.device] = shares.to(inputs.device)
        if not targets.is_floating_point():
            if targets.device not in classes:
                classes[targets.device] = torch.arange(load().outputs).to(targets.device)
            targets = (targets[:, None] == classes[targets.device]).float()
        share = placed[inputs.device][mix(keys + 5) & (QUANTILES - 1)]
        return _with_neighbour(inputs, share), _with_neighbour(targets, share)

    return mixed


def _with_neighbour(values: Tensor, share: Tensor) -> Tensor:
    by_example = share.view(-1, *(1 for _ in values.shape[1:]))
    return values * by_example + values.roll(1, 0) * (1 - by_example)
