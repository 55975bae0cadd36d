"""Source: examples for a recipe of your own, read when a run needs them. Loads no torch.

If no test set or val set is named, it is drawn from the examples, always the same one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sweep.config import explain
from sweep.errors import ConfigError
from sweep.plan import content_id
from sweep.target.values import Content
from sweep.train.params import Data
from sweep.train.read import Raw, data_digest, data_files, positions, read, require_numbers
from sweep.train.splits import Fold, Kind
from sweep.train.table import of_frame

if TYPE_CHECKING:
    from sweep.train.data import Dataset

Array = NDArray[Any]
FEW = (1, 3, 4)  # channels that pictures have


@dataclass(frozen=True, eq=False)
class Source:
    """Examples with their targets, made by the functions of `sweep.data`.

    where: its name in errors. read: returns the checked arrays. content: a digest of all that decides them, part of a
    run's identity. files: those that it reads.
    """

    where: str
    read: Callable[[], Raw]
    content: Callable[[], str]
    files: Callable[[], tuple[Path, ...]] = tuple

    def load(self, kind: Kind | None = None, split: int | Fold | None = None) -> Dataset:
        """Return train, val and test, normalised (see `sweep.train.data.load`). Raises: ConfigError."""
        from sweep.train.data import load

        return load(self, kind, split)


def arrays(
    x: Any,
    y: Any,
    *,
    test: Any = None,
    val: Any = None,
    classes: Sequence[str] = (),
    normalise: bool = True,
    layout: str | None = None,
    group: Any = None,
) -> Source:
    """Return a source of arrays or tensors: inputs `x` (examples, ...) and targets `y` (examples, ...).

    Parameters
    ----------
    test : positions or pair (x, y), optional
        The positions of the test examples in `x`, or separate examples. Default: drawn at random, the same for every
        seed.
    val : positions or pair (x, y), optional
        The same for validation.
    classes : sequence of str, optional
        The names of the classes. Targets that are text are numbered in alphabetical order.
    normalise : bool, default True
        Subtract the mean and divide by the standard deviation of train, for each feature of a table or each channel of
        images. If an example has two dimensions, there is one mean for all. False keeps the values, as for token ids.
    group : array of shape (examples,), optional
        Examples with equal values stay together in one split or fold, for example those of one patient.
    layout : {"NHWC", "NCHW"}, optional
        "NHWC" for images with channels last. "NCHW" if images with channels first look as if they were last.

    Raises
    ------
    ConfigError
        If, when the data are read, shapes differ, a value is not finite, or targets cannot be used.
    """
    parts = (x, y, test, val, tuple(classes), normalise, layout, *(() if group is None else (group,)))
    return Source("data", partial(_of_arrays, *parts), lambda: Content().of(parts))


def dataset(train: Any, test: Any = None, val: Any = None, **options: Any) -> Source:
    """Return a source from map-style data sets of pairs (input, target). All items are held in memory.

    options: as for `arrays`.
    """
    parts = (train, test, val, options)
    return Source("data", partial(_of_items, *parts), lambda: _content_of(_of_items(*parts)))


def tokens(ids: Any, length: int, *, classes: Sequence[str] = ()) -> Source:
    """Return a source for a model that predicts the next token: windows of `length` ids, each with the id that follows.

    The first 80 % of the ids are train, the next 10 % val, the last 10 % test.
    """
    row = _array(ids).ravel()
    count = (len(row) - 1) // length
    if count < 20:
        raise ConfigError(
            f"{len(row)} tokens give too few windows of {length}: {max(count, 0)}, and at least 20 are needed",
            where="data",
        )
    x, y = (row[at : at + count * length].reshape(count, length) for at in (0, 1))
    val, test = count * 8 // 10, count * 9 // 10
    return arrays(x, y, val=np.arange(val, test), test=np.arange(test, count), classes=classes, normalise=False)


def text(source: str, length: int) -> Source:
    """Return a source for a model that predicts the next character of a text (see `tokens`)."""
    known = sorted(set(source))
    place = {character: i for i, character in enumerate(known)}
    return tokens(np.array([place[each] for each in source]), length, classes=known)


def npz(path: str | os.PathLike[str], **options: Any) -> Source:
    """Return a source from a NumPy file: x and y, or x_train, y_train with x_test, y_test, x_val, y_val, classes."""
    return _of_files({"name": "npz", "path": os.fspath(path), **options})


def idx(folder: str | os.PathLike[str], **options: Any) -> Source:
    """Return a source from the four IDX files of an MNIST-like data set."""
    return _of_files({"name": "idx", "folder": os.fspath(folder), **options})


def as_source(given: Any) -> Source:
    """Return the given source, or the source of a pair (x, y). Raises: ConfigError."""
    if isinstance(given, Source):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return arrays(*given)
    raise ConfigError(
        f"data of type {type(given).__name__} are not supported",
        where="data",
        hint="give sweep.data.arrays(x, y), or a pair (x, y)",
    )


def table(source: Any, target: str, **options: Any) -> Source:
    """Return a source from a table: a .csv, .tsv or .parquet file, a DataFrame, or an object with `to_pandas`.

    target: the column to predict. options: ignore, missing, split, group and limit, as in `params.data`.
    """
    if isinstance(source, (str, os.PathLike)):
        return _of_files({"path": os.fspath(source), "name": "table", "target": target, **options})
    frame = source.to_pandas() if hasattr(source, "to_pandas") else source
    content = (frame, target, options)
    return Source("data", partial(of_frame, frame, target, **options), lambda: Content().of(content))


def images(folder: str | os.PathLike[str], **options: Any) -> Source:
    """Return a source from pictures: a folder for each class, below train/ and test/ if these exist.

    options: size, split and limit, as in `params.data`.
    """
    return _of_files({"path": os.fspath(folder), "name": "images", **options})


def _of_files(given: dict[str, Any]) -> Source:
    """Return a source from files, read as the built-in recipes do. Raises: ConfigError."""
    try:
        data = Data.model_validate(given)
    except ValidationError as error:
        raise explain(error, where="data", model=Data) from None
    rest = data.model_dump(mode="json", exclude={"path", "folder"})
    return Source(
        data.where, partial(read, data), lambda: content_id({"files": data_digest(data), **rest}),
        lambda: tuple(data_files(data).values()),
    )  # fmt: skip


def _content_of(raw: Raw) -> str:
    held = [getattr(raw, name) for name in raw.__dataclass_fields__ if name != "together"]
    return Content().of([*held, *([] if raw.together is None else [raw.together])])


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj()
    found = np.asarray(value)
    if found.dtype == object and found.size and all(isinstance(each, str) for each in found.flat):
        found = found.astype(str)
    return found


def _of_arrays(
    x: Any, y: Any, test: Any, val: Any, classes: tuple[str, ...], normalise: bool, layout: str | None,
    group: Any = None,
) -> Raw:  # fmt: skip
    named = {"": (_array(x), _array(y))}
    taken = {}
    for name, given in (("test", test), ("val", val)):
        if isinstance(given, tuple) and len(given) == 2:
            named[f" of {name}"] = (_array(given[0]), _array(given[1]))
        elif given is not None:
            taken[name] = _array(given)
    taken = positions(taken, len(named[""][0]), "data")
    texts = [pair[1] for pair in named.values() if pair[1].dtype.kind in "US"]
    if texts and len(texts) == len(named):
        known = np.unique(np.concatenate([each.ravel() for each in texts]))
        classes = classes or tuple(map(str, known))
        named = {part: (a, np.searchsorted(known, b)) for part, (a, b) in named.items()}
    for part, pair in named.items():
        named[part] = _checked(part, *pair, layout, images=normalise)
    flat = normalise and named[""][0].ndim == 3
    if flat:
        named = {part: (a[:, None], b) for part, (a, b) in named.items()}
    test_inputs, test_targets = named.get(" of test", (None, None))
    val_inputs, val_targets = named.get(" of val", (None, None))
    return Raw(
        *named[""], test_inputs, test_targets, val_inputs, val_targets, tuple(classes), taken.get("test"),
        taken.get("val"), plain=not normalise, flat=flat, together=None if group is None else _array(group),
    )  # fmt: skip


def _checked(part: str, x: Array, y: Array, layout: str | None, *, images: bool) -> tuple[Array, Array]:
    """Return x and y as they are used. Raises: ConfigError."""
    require_numbers(x, y, part, "data")
    if x.ndim == 4 and images and layout is None and x.shape[3] in FEW[:2] and min(x.shape[1:3]) > max(FEW):
        raise ConfigError(
            f"images{part} of shape {x.shape[1:]} seem to have their channels last", where="data",
            hint='torch expects them first: set layout="NHWC" to move them, or layout="NCHW" if they are first',
        )  # fmt: skip
    if layout not in (None, "NHWC", "NCHW"):
        raise ConfigError(f"layout is {layout!r}", where="data", hint='use "NHWC" or "NCHW"')
    if layout == "NHWC":
        if x.ndim != 4:
            raise ConfigError(f"examples of shape {x.shape[1:]} are not images with channels last", where="data")
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return (x[:, None] if x.ndim == 1 else x), y.astype(np.int64) if y.dtype == bool else y


def _of_items(train: Any, test: Any, val: Any, options: dict[str, Any]) -> Raw:
    pairs = {name: _items(name, each) for name, each in (("train", train), ("test", test), ("val", val)) if each}
    x, y = pairs["train"]
    return arrays(x, y, test=pairs.get("test"), val=pairs.get("val"), **options).read()


def _items(name: str, given: Any) -> tuple[Array, Array]:
    try:
        rows = [given[i] for i in range(len(given))]
        x, y = zip(*((_array(a), _array(b)) for a, b in rows), strict=True)
        return np.stack(x), np.stack(y)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the items of {name} are not pairs (input, target) of one shape: {error}", where="data",
            hint="make each input and target an array, a tensor or a number, for example with a transform",
        ) from error  # fmt: skip
