"""Splits fixed by the data: train, val and test as tensors, normalised by what train knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.errors import ConfigError
from sweep.train.files import data_files
from sweep.train.params import Data
from sweep.train.read import Raw, read

Task = Literal["classification", "regression"]
TEST_SHARE = 0.25
VAL_SHARE = 0.15  # of what is left for training
VAL_MOST = 5_000  # enough to choose an epoch and to calibrate on
ROOM = 0.5  # of a device's free memory: more the data may not take


@dataclass(frozen=True)
class Split:
    """inputs (examples, ...) float32; targets (examples,) int64 classes or float32; ids (examples,) int64."""

    inputs: Tensor
    targets: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: str | torch.device) -> Split:
        return Split(self.inputs.to(device), self.targets.to(device), self.ids.to(device))

    def beside(self, device: str | torch.device) -> Split:
        """Targets and ids on the device, the inputs where they are."""
        return Split(self.inputs, self.targets.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Dataset:
    """Three splits and how to get from stored values to theirs: (value - mean) / std, both from train.

    outputs: classes, or 1. Ids are positions in the stored data; a test set of its own counts on from the
    end of the training data. target_mean and target_std undo the scaling of regression targets.
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

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train.inputs.shape[1:])

    def to(self, device: str | torch.device) -> Dataset:
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

    def placed(self, device: str, *, fed: bool) -> Dataset:
        """The data for training on `device`; inputs that would fill it stay on the CPU, and all that learns copes.

        fed: a loader brings the batches of train, so its inputs stay in any case.
        """
        splits = self.train, self.val, self.test
        large = device == "cuda" and sum(s.inputs.nbytes for s in splits) > ROOM * torch.cuda.mem_get_info()[0]
        stay = large or fed, large, large
        train, val, test = (s.beside(device) if on else s.to(device) for s, on in zip(splits, stay, strict=True))
        return replace(self, train=train, val=val, test=test)


def load(data: Data, task: Task, split: int | None = None) -> Dataset:
    """The data set, from the cache of this process when its files have not changed since.

    split: draws test and val anew, as a function of this 32-bit seed; what the data set itself sets apart for
    test or val stays as it is. None: the one split that is fixed by the data.
    The tensors are shared by all who ask: they must not be written to. Raises: ConfigError.
    """
    stamps = tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in data_files(data).values())
    return _load(data, task, stamps, split)


@lru_cache(maxsize=2)
def _load(data: Data, task: Task, stamps: tuple[tuple[str, int, int], ...], seed: int | None) -> Dataset:
    raw = read(data)
    where = data.path or data.folder or data.name
    inputs, targets, own = _joined(raw)
    groups = _labels(targets, where) if task == "classification" else np.zeros(len(targets), np.int64)
    rest, test = own["train"], own["test"]
    if not len(test):
        rest, test = _split(rest, groups, TEST_SHARE, seed)
    if data.limit is not None:
        rest, test = _first(rest, data.limit, seed), _first(test, data.limit, seed)
    train, val = rest, own["val"]
    if not len(val):
        train, val = _split(rest, groups, min(VAL_SHARE, VAL_MOST / len(rest)), seed)
    for name, index in (("train", train), ("val", val), ("test", test)):
        if len(index) < 2:
            raise ConfigError(f"{len(index)} examples are left for {name}", where=where)

    mean, std = _scale(inputs[train])
    shape = (1, -1) + (1,) * (inputs.ndim - 2)
    target_mean, target_std = 0.0, 1.0
    if task == "regression":
        target_mean, target_std = float(targets[train].mean()), float(targets[train].std()) or 1.0

    def split(index: NDArray[np.int64]) -> Split:
        x = inputs[index].astype(np.float32)
        x -= mean.reshape(shape).astype(np.float32)
        x /= std.reshape(shape).astype(np.float32)
        y = groups[index] if task == "classification" else (targets[index] - target_mean) / target_std
        kind = torch.int64 if task == "classification" else torch.float32
        return Split(
            torch.from_numpy(x), torch.from_numpy(y).to(kind),
            torch.from_numpy(index),
        )  # fmt: skip

    count = int(groups.max()) + 1 if task == "classification" else 1
    return Dataset(
        split(train), split(val), split(test), outputs=count, mean=tuple(mean.tolist()),
        std=tuple(std.tolist()), classes=_names(raw, count, where) if task == "classification" else (),
        target_mean=target_mean, target_std=target_std,
    )  # fmt: skip


def _joined(raw: Raw) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[np.int64]]]:
    """All examples behind one another, and which of them are whose by the data set's own account."""
    inputs, targets, own, start = [], [], {}, 0
    for name, x, y in (
        ("train", raw.inputs, raw.targets),
        ("test", raw.test_inputs, raw.test_targets),
        ("val", raw.val_inputs, raw.val_targets),
    ):
        count = 0 if x is None else len(x)
        own[name] = np.arange(start, start + count, dtype=np.int64)
        start += count
        if x is not None and y is not None:
            inputs.append(x)
            targets.append(y.reshape(-1))
    return np.concatenate(inputs), np.concatenate(targets), own


def _labels(targets: NDArray[Any], where: str) -> NDArray[np.int64]:
    labels = targets.astype(np.int64)
    if not np.array_equal(labels, targets) or labels.min() < 0:
        raise ConfigError(
            "the targets are not class numbers from 0 on", where=where, hint="for numbers: recipe regressor"
        )
    if labels.max() >= 100_000:
        raise ConfigError(f"the largest class number is {labels.max()}: are these classes?", where=where)
    return labels


def _names(raw: Raw, count: int, where: str) -> tuple[str, ...]:
    if raw.classes and len(raw.classes) != count:
        raise ConfigError(f"{len(raw.classes)} class names for {count} classes", where=where)
    return raw.classes or tuple(map(str, range(count)))


def _scale(inputs: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each feature of a table, or of each channel of images."""
    axes = (0, *range(2, inputs.ndim))
    mean = np.atleast_1d(inputs.mean(axis=axes, dtype=np.float64))
    std = np.atleast_1d(inputs.std(axis=axes, dtype=np.float64))
    return mean, np.where(std > 0, std, 1.0)  # a constant feature becomes zero


def _rank(index: NDArray[np.int64], seed: int | None = None) -> NDArray[np.uint64]:
    """A pseudo-random key for each example, fixed or by seed.

    The finaliser of SplitMix64 (Steele et al., 2014, fig. 17). Not NumPy's generators: their streams
    may change between versions, and with them the split.
    """
    z = index.astype(np.uint64) + np.uint64(1)
    if seed is not None:
        z += _rank(np.array([seed]))
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _first(index: NDArray[np.int64], count: int, seed: int | None) -> NDArray[np.int64]:
    return np.sort(index[np.argsort(_rank(index, seed))[:count]])


def _split(
    index: NDArray[np.int64], groups: NDArray[np.int64], share: float, seed: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(kept, taken): the share is taken of every class; seed is that of a split of its own, not of the run."""
    order = index[np.argsort(_rank(index, seed))]
    taken = np.zeros(len(order), bool)
    for group in np.unique(groups[index]):
        members = np.flatnonzero(groups[order] == group)
        taken[members[: round(share * len(members))]] = True
    return np.sort(order[~taken]), np.sort(order[taken])
