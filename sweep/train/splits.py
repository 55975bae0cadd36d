"""Which examples are train, val and test: fixed by the targets and the sizes alone. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweep.errors import ConfigError
from sweep.train.files import data_files
from sweep.train.params import Data
from sweep.train.read import Raw, read

Task = Literal["classification", "regression"]
Stamps = tuple[tuple[str, int, int], ...]
TEST_SHARE = 0.25
VAL_SHARE = 0.15  # of what is left for training
VAL_MOST = 5_000  # enough to choose an epoch and to calibrate on


@dataclass(frozen=True)
class Members:
    """All examples behind one another, their class numbers (0 in regression), and the positions of each split."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    groups: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def members(raw: Raw, data: Data, task: Task, seed: int | None = None) -> Members:
    """Return which examples of a data set belong to which split; see `sweep.train.data.load`. Raises: ConfigError."""
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
    return Members(inputs, targets, groups, train, val, test)


def train_shape(data: Data, task: Task) -> tuple[int, ...]:
    """Return (training examples, *shape of one) of the split that the data fix, from this process's cache if it can.

    Raises: ConfigError.
    """
    return _train_shape(data, task, stamps(data))


@lru_cache(maxsize=16)
def _train_shape(data: Data, task: Task, stamps: Stamps) -> tuple[int, ...]:
    found = members(read(data), data, task)
    return (len(found.train), *found.inputs.shape[1:])


def stamps(data: Data) -> Stamps:
    """Return what tells that a file of a data set has changed, without reading it."""
    return tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in data_files(data).values())


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
