"""The examples of train, val and test, fixed by the targets and the sizes alone. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.errors import ConfigError
from sweep.textfile import Stat, stat_of
from sweep.train.params import Data
from sweep.train.read import Raw, data_digest, data_files, read

_SINGLE, _DOUBLE = np.finfo(np.float32), np.finfo(np.float64)
Kind = Literal["classification", "regression", "labels"]  # what targets are
Stamps = tuple[tuple[str, Stat], ...]
TEST_SHARE = 0.25
IGNORED = -100  # torch's own mark for a target that does not count, among several numbers per example
LOST = 1e-4  # the largest share of a feature's deviation that rounding may take
NOISE = 4  # roundings of float64: a constant that was computed in several ways has a smaller deviation
NORMALISED = ", normalised in float64"
_VALUES = "to predict numbers, use recipe regressor, or loss='mse' in your own recipe"
VAL_SHARE = 0.15  # of the examples that are left for training
VAL_MOST = 5_000  # enough to choose an epoch and to calibrate on


class Fold(NamedTuple):
    """The part of the data on which a run is tested: number `number` (from 0) of `of`."""

    number: int
    of: int


@dataclass(frozen=True)
class Stored:
    """All examples in one array, with the data set's own splits and groups.

    groups: their class numbers, 0 if an example does not have exactly one class. together: examples with equal numbers
    belong to one split or fold; None: each example may belong to any. own: the positions of each of the data set's own
    splits.
    wide: the features or channels that float32 cannot hold before the mean is subtracted (a time stamp).
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    groups: NDArray[np.int64]
    together: NDArray[np.int64] | None
    own: Mapping[str, NDArray[np.int64]]
    wide: NDArray[np.bool_]
    where: str


@dataclass(frozen=True)
class Seen:
    """The facts about a data set before a run starts. counts: of training examples, one per split seed or fold."""

    shape: tuple[int, ...]
    counts: tuple[int, ...]
    wide: bool


def stored(raw: Raw, kind: Kind, where: str) -> Stored:
    """Return the examples of a data set. Raises: ConfigError."""
    inputs, targets, own = _joined(raw, where)
    if kind == "classification":
        targets = _labels(targets, where)
    if kind == "labels" and not np.isin(targets, (0, 1)).all():
        raise ConfigError("the targets of some labels are not 0 or 1", where=where)
    one = kind == "classification" and targets.ndim == 1
    wide = np.zeros(inputs.shape[1:2], np.bool_) if raw.plain else _wide(filled(inputs, own["train"]))
    together = None
    if raw.together is not None:
        if raw.together.shape != targets.shape[:1]:
            raise ConfigError(
                f"the groups have shape {raw.together.shape} for {len(targets)} examples", where=where,
                hint="give one group per example, and no separate test or val",
            )  # fmt: skip
        together = np.unique(raw.together, return_inverse=True)[1].astype(np.int64)
    return Stored(inputs, targets, targets if one else np.zeros(len(targets), np.int64), together, own, wide, where)


def chosen(found: Stored, raw: Raw, split: int | Fold | None = None) -> dict[str, NDArray[np.int64]]:
    """Return the positions of train, val and test examples (see `sweep.train.data.load`). Raises: ConfigError."""
    seed, limit = split if isinstance(split, int) else raw.seed, raw.limit
    rest, test = found.own["train"], found.own["test"]
    if isinstance(split, Fold):
        rest, test = _fold(np.concatenate([rest, test]), found, split, seed)
    elif not len(test):
        rest, test = _split(rest, found, TEST_SHARE, seed)
    if limit is not None:
        rest, test = _first(rest, limit, seed), _first(test, limit, seed)
    train, val = rest, found.own["val"]
    if not len(val):
        train, val = _split(rest, found, min(VAL_SHARE, VAL_MOST / max(len(rest), 1)), seed)
    splits = {"train": train, "val": val, "test": test}
    for name, index in splits.items():
        if len(index) < 2:
            raise ConfigError(
                f"too few examples are left for {name}: {len(index)}, and at least 2 are needed", where=found.where
            )
    return splits


def look(data: Data, kind: Kind, splits: Sequence[int | Fold] = ()) -> Seen:
    """Return the facts about a data set, from this process's cache if its files have not changed.

    splits: seeds of splits, or folds; empty: the split that the data fix. Raises: ConfigError.
    """
    # Without a limit and groups, each class gives the same number of examples to the split of any seed.
    alike = data.limit is None and data.group is None and all(isinstance(each, int) for each in splits)
    return _look(data, kind, stamps(data_files(data).values()), () if alike else tuple(splits))


@lru_cache(maxsize=16)
def _look(data: Data, kind: Kind, stamps: Stamps, splits: tuple[int | Fold, ...]) -> Seen:
    raw = read(data)
    found = stored(raw, kind, data.where)
    counts = tuple(len(chosen(found, raw, split)["train"]) for split in splits or (None,))
    return Seen(tuple(found.inputs.shape[1:]), counts, bool(found.wide.any()))


def identity(data: Data, kind: Kind) -> str:
    """Return the digest of a data set's files, and its normalisation rule if float32 is not precise enough.

    Earlier versions normalised all data in float32. On such data, their runs and new ones are different experiments.
    Raises: ConfigError.
    """
    # The embedded tables do not need it, so they are not read a second time.
    wide = data.name not in ("digits", "diabetes") and look(data, kind).wide
    return data_digest(data) + (NORMALISED if wide else "")


def stamps(files: Iterable[Path]) -> Stamps:
    """Return the stamps that reveal changes of files, without reading the files."""
    return tuple((str(path), stat_of(path)) for path in files)


def filled(inputs: NDArray[Any], train: NDArray[np.int64]) -> NDArray[Any]:
    """Return a table with missing numbers replaced by the median of its training examples."""
    if inputs.ndim != 2 or inputs.dtype.kind != "f" or not (missing := np.isnan(inputs)).any():
        return inputs
    known = [column[~np.isnan(column)] for column in inputs[train].T]
    return np.where(missing, [np.median(column) if len(column) else 0.0 for column in known], inputs)


def _joined(raw: Raw, where: str) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[np.int64]]]:
    """Return all examples in one array, and the positions of each of the data set's own splits."""
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
            targets.append(y.reshape(-1) if y.shape[1:] == (1,) else y)
            if x.shape[1:] != inputs[0].shape[1:] or targets[-1].shape[1:] != targets[0].shape[1:]:
                raise ConfigError(f"the examples of {name} differ in shape from those of train", where=where)
    for name, index in (("test", raw.test), ("val", raw.val)):
        if index is not None:
            own["train"], own[name] = np.setdiff1d(own["train"], index), np.sort(index).astype(np.int64)
    return np.concatenate(inputs), np.concatenate(targets), own


def _labels(targets: NDArray[Any], where: str) -> NDArray[np.int64]:
    labels = targets.astype(np.int64)
    counted = labels if labels.ndim == 1 else labels[labels != IGNORED]
    if not np.array_equal(labels, targets) or counted.min(initial=0) < 0:
        raise ConfigError(
            "the targets are not class numbers (0, 1, 2, …)", where=where, hint=_VALUES
        )  # fmt: skip
    if labels.max() >= 100_000:
        raise ConfigError(f"the largest class number is {labels.max()}: are these classes?", where=where, hint=_VALUES)
    return labels


def _rank(index: NDArray[np.int64], seed: int | None = None) -> NDArray[np.uint64]:
    """Return a pseudo-random key for each example, fixed or by seed.

    It is the finaliser of SplitMix64 (Steele et al., 2014, fig. 17). NumPy's generators are not used, because their
    streams, and with them the split, may change between versions.
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
    index: NDArray[np.int64], found: Stored, share: float, seed: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (kept, taken): the share is taken from every class, or in whole groups. seed: that of the split."""
    if found.together is not None:
        names, sizes = np.unique(found.together[index], return_counts=True)
        order = np.argsort(_rank(names, seed))
        before = np.cumsum(sizes[order]) - sizes[order]
        apart = np.isin(found.together[index], names[order[before < round(share * len(index))]])
        return index[~apart], index[apart]
    order = index[np.argsort(_rank(index, seed))]
    taken = np.zeros(len(order), bool)
    for group in np.unique(found.groups[index]):
        members = np.flatnonzero(found.groups[order] == group)
        taken[members[: round(share * len(members))]] = True
    return np.sort(order[~taken]), np.sort(order[taken])


def _fold(
    index: NDArray[np.int64], found: Stored, fold: Fold, seed: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (kept, taken): one of the equal parts into which the examples are cut, in their order or by seed.

    Each class is spread evenly over the parts. Groups stay whole: the largest one left joins the smallest part.
    """
    order = np.sort(index) if seed is None else index[np.argsort(_rank(index, seed))]
    if found.together is not None:
        names, place, sizes = np.unique(found.together[order], return_inverse=True, return_counts=True)
        if len(names) < fold.of:
            raise ConfigError(f"{len(names)} groups cannot be cut into {fold.of} folds", where=found.where)
        part, filled_to = np.zeros(len(names), np.int64), np.zeros(fold.of, np.int64)
        for name in np.argsort(-sizes, kind="stable"):
            part[name] = filled_to.argmin()
            filled_to[part[name]] += sizes[name]
        taken = part[place] == fold.number
    else:
        groups, parts = found.groups[order], np.empty(len(order), np.int64)
        parts[np.argsort(groups, kind="stable")] = np.arange(len(order)) % fold.of
        for group in np.unique(groups):
            parts[groups == group] = np.sort(parts[groups == group])
        taken = parts == fold.number
    return np.sort(order[~taken]), np.sort(order[taken])


def _wide(inputs: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the features or channels whose differences float64 can hold and float32 cannot.

    It depends on all examples, so it is a property of the data and not of the split. A computed constant may vary by
    rounding, which must not be scaled up to a deviation of 1.
    """
    found = np.zeros(inputs.shape[1], np.bool_)
    if np.can_cast(inputs.dtype, np.float32):
        return found
    axes = (0, *range(2, inputs.ndim))
    low, high = (one.astype(np.float64) for one in (inputs.min(axis=axes), inputs.max(axis=axes)))
    most = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore", invalid="ignore"):
        # A deviation is at least range / sqrt(2 n). Features that this cannot rule out, usually none, are measured.
        least = (high - low) / np.sqrt(2 * inputs[:, 0].size)
        for index in np.flatnonzero((high > low) & (most * _SINGLE.epsneg + _SINGLE.smallest_subnormal > LOST * least)):
            one = inputs[:, index]
            std = one.std(dtype=np.float64)
            lost = np.abs(one - one.astype(np.float32)).max()
            found[index] = lost > LOST * std and std >= NOISE * most[index] * _DOUBLE.eps
    return found
