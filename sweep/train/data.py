"""Splits fixed by the data: train, val and test as tensors, normalised by statistics of train."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.errors import ConfigError
from sweep.train.params import Data
from sweep.train.read import Raw, data_files, read
from sweep.train.source import Source
from sweep.train.splits import Fold, Kind, Stamps, chosen, filled, stamps, stored

ROOM = 0.5  # the share of a device's free memory that the data may take


@dataclass(frozen=True)
class Split:
    """inputs (examples, ...) float32, or unchanged int64; targets (examples, ...) int64 or float32; ids int64."""

    inputs: Tensor
    targets: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets at positions of any shape, in that shape."""
        flat = indices.flatten()
        inputs = self.inputs.index_select(0, flat).view(*indices.shape, *self.inputs.shape[1:])
        return inputs, self.targets.index_select(0, flat).view(*indices.shape, *self.targets.shape[1:])

    def to(self, device: str | torch.device, *, inputs: bool = True) -> Split:
        """Return the split on a device. Without `inputs`, these stay where they are."""
        return Split(self.inputs.to(device) if inputs else self.inputs, self.targets.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Dataset:
    """Three splits and the scaling of their stored values: (value - mean) / std, both from train.

    outputs: the number of classes, or 1. Ids are positions in the stored data, and those of a separate test set follow
    the training data. target_mean and target_std undo the scaling of regression targets. wide: the features or channels
    that float32 cannot hold before the mean is subtracted (a time stamp); empty: none.
    """

    train: Split
    val: Split
    test: Split
    outputs: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    target_mean: float = 0.0
    target_std: float = 1.0
    wide: tuple[bool, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train.inputs.shape[1:])

    @property
    def inputs(self) -> int:
        """Return the number of values in one example."""
        return prod(self.input_shape)

    @property
    def vocabulary(self) -> int:
        """Return the number of different token ids in the inputs and targets: one more than the largest."""
        return max(self.outputs, *(int(split.inputs.max()) + 1 for split in (self.train, self.val, self.test)))

    @property
    def normalisation(self) -> dict[str, list[Any]]:
        """Return the scaling of the inputs, needed to give raw inputs to the model."""
        found: dict[str, list[Any]] = {"mean": list(self.mean), "std": list(self.std)}
        return {**found, "wide": list(self.wide)} if self.wide else found

    @property
    def about(self) -> dict[str, Any]:
        """Return the facts about the data that are stored next to the weights, needed to serve the model."""
        return {
            "classes": list(self.classes), "input_shape": list(self.input_shape), "normalisation": self.normalisation,
            "target": {"mean": self.target_mean, "std": self.target_std},
        }  # fmt: skip

    def to(self, device: str | torch.device) -> Dataset:
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

    def placed(self, device: str, *, fed: bool) -> Dataset:
        """Return the data for training on `device`. Inputs that would fill it stay on the CPU.

        fed: a loader brings the batches of train, so its inputs stay there in any case.
        """
        splits = self.train, self.val, self.test
        large = device == "cuda" and sum(s.inputs.nbytes for s in splits) > ROOM * torch.cuda.mem_get_info()[0]
        stay = large or fed, large, large
        train, val, test = (one.to(device, inputs=not on) for one, on in zip(splits, stay, strict=True))
        return replace(self, train=train, val=val, test=test)


def load(source: Data | Source, kind: Kind | None = None, split: int | Fold | None = None) -> Dataset:
    """Return the data set, from this process's cache if its files have not changed.

    kind: None treats class numbers and names as classes, other numbers as values.
    split: a 32-bit seed draws other test and val examples, unless the data set has its own. A fold is the test set,
    cut from all examples except the data set's own val. None: the one split that the data fix.
    The tensors are shared by all callers and must not be changed. Raises: ConfigError.
    """
    files = data_files(source).values() if isinstance(source, Data) else source.files()
    return _load(source, stamps(files), kind, split)


@lru_cache(maxsize=2)
def _load(source: Data | Source, stamps: Stamps, kind: Kind | None, split: int | Fold | None) -> Dataset:
    # The stored arrays are kept only if another fold or split of them may follow.
    raw = _raw(source) if split is None else _read(source, stamps)
    return dataset(raw, kind, source.where, split)


@lru_cache(maxsize=1)
def _read(source: Data | Source, stamps: Stamps) -> Raw:
    return _raw(source)


def _raw(source: Data | Source) -> Raw:
    return read(source) if isinstance(source, Data) else source.read()


def forget() -> None:
    """Free the data that were loaded last."""
    _load.cache_clear()
    _read.cache_clear()


def dataset(raw: Raw, kind: Kind | None, where: str, which: int | Fold | None = None) -> Dataset:
    """Return the normalised splits of stored data. kind, which: as for `load`. Raises: ConfigError."""
    if kind is None:
        kind = "regression" if raw.targets.dtype.kind == "f" else "classification"
    kept = stored(raw, kind, where)
    found = chosen(kept, raw, which)
    targets, wide, train = kept.targets, kept.wide, found["train"]
    inputs = filled(kept.inputs, train)

    mean, std = (np.zeros(0), np.zeros(0)) if raw.plain else _scale(inputs[train])
    shape = (1, -1) + (1,) * (inputs.ndim - 2)
    target_mean, target_std = 0.0, 1.0
    if kind == "regression" and targets.ndim == 1:
        target_mean, target_std = float(targets[train].mean()), float(targets[train].std()) or 1.0

    def split(index: NDArray[np.int64]) -> Split:
        y = targets[index] if kind == "classification" else (targets[index] - target_mean) / target_std
        made = torch.from_numpy(y).to(torch.int64 if kind == "classification" else torch.float32)
        if raw.plain:
            kept_as = torch.float32 if inputs.dtype.kind == "f" else torch.int64
            return Split(torch.from_numpy(inputs[index]).to(kept_as), made, torch.from_numpy(index))
        with np.errstate(over="ignore", invalid="ignore"):  # in wide columns, which are replaced below
            x = inputs[index].astype(np.float32)
            x -= mean.reshape(shape).astype(np.float32)
            x /= std.reshape(shape).astype(np.float32)
        if wide.any():
            exact = inputs[index][:, wide].astype(np.float64)
            x[:, wide] = (exact - mean[wide].reshape(shape)) / std[wide].reshape(shape)
        return Split(torch.from_numpy(x[:, 0] if raw.flat else x), made, torch.from_numpy(index))

    one = targets.shape[1] if targets.ndim > 1 else 1
    count = int(targets.max()) + 1 if kind == "classification" else one
    return Dataset(
        **{name: split(index) for name, index in found.items()}, outputs=count, mean=tuple(mean.tolist()),
        std=tuple(std.tolist()), classes=_names(raw, count, where) if kind == "classification" else (),
        target_mean=target_mean, target_std=target_std, wide=tuple(wide.tolist()) if wide.any() else (),
    )  # fmt: skip


def _names(raw: Raw, count: int, where: str) -> tuple[str, ...]:
    if raw.classes and len(raw.classes) != count:
        raise ConfigError(f"there are {len(raw.classes)} class names for {count} classes", where=where)
    return raw.classes or tuple(map(str, range(count)))


def _scale(inputs: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and standard deviation of each feature of a table, or of each channel of images."""
    axes = (0, *range(2, inputs.ndim))
    mean = np.atleast_1d(inputs.mean(axis=axes, dtype=np.float64))
    std = np.atleast_1d(inputs.std(axis=axes, dtype=np.float64))
    return mean, np.where(std > 0, std, 1.0)  # a constant feature becomes zero
