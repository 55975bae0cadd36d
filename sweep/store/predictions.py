"""predictions-<split>.npz: ids, targets and the predictions for each example, never an object array."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from io import BufferedReader, BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import IntegrityError, SweepError

Array = NDArray[Any]
LIMIT = 8 << 30  # bytes that one file may unpack to


class Arrays:
    """A dataclass of arrays, some of them optional."""

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are not None, by name."""
        return {name: array for name, array in vars(self).items() if array is not None}


@dataclass(frozen=True)
class Predictions(Arrays):
    """The predictions of one member for one split.

    ids (examples,): integers or text; targets (examples,) or (examples, outputs); for classes `probs`
    (examples, classes), whose rows sum to one; for regression `mean` and optionally `var`, shaped as targets.
    """

    ids: Array
    targets: Array
    probs: Array | None = None
    mean: Array | None = None
    var: Array | None = None


def write(stream: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Write arrays as `.npz` with a fixed date, so that equal arrays give equal bytes."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in sorted(arrays.items()):
            buffer = BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue())


def load(stream: BufferedReader, *, where: str) -> Predictions:
    """Return the predictions in an open file, without unpickling. Raises: IntegrityError for any other file."""
    held = arrays(stream, {f.name for f in fields(Predictions)}, "predictions", where)
    try:
        found = Predictions(**held)
        _require_rows(found)
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"not a readable predictions file ({error})", where=where) from error
    return found


def joined(parts: Sequence[Predictions], *, where: str) -> Predictions:
    """Return the predictions of several folds as one. Raises: SweepError if they overlap or differ in form."""
    held = [one.arrays() for one in parts]
    try:
        made = {name: np.concatenate([each[name] for each in held]) for name in max(held, key=len)}
    except (KeyError, ValueError) as error:
        raise SweepError(f"the folds saved predictions of different forms ({error})", where=where) from error
    distinct, counts = np.unique(made["ids"], return_counts=True)
    if len(distinct) < len(made["ids"]):
        raise SweepError(
            f"two folds saved predictions for the example {distinct[counts.argmax()].item()!r}", where=where,
            hint="save predictions only for the examples of run.fold, so that each example is tested once",
        )  # fmt: skip
    return Predictions(**made)


def arrays(stream: BufferedReader, known: Collection[str], what: str, where: str) -> dict[str, Array]:
    """Return the arrays with the `known` names in an open `.npz` file of ours, without unpickling.

    Raises: IntegrityError for any other file.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > LIMIT:
            raise ValueError(f"unpacks to more than {LIMIT >> 30} GiB")
        # Ours are not compressed, so that a directory never unpacks to more bytes than it has.
        if size > os.fstat(stream.fileno()).st_size:
            raise ValueError(f"unpacks to {size:,} bytes, more than the file has")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as data:
            held: dict[str, Array] = {name: data[name] for name in data.files if name in known}
        for name, array in held.items():
            if array.dtype.kind == "U" and array.size and _points(array).max() > sys.maxunicode:
                raise ValueError(f"{name} holds invalid text")
        return held
    except Exception as error:  # zipfile, its codecs and NumPy raise different exceptions
        raise IntegrityError(f"not a readable {what} file ({error})", where=where) from error


def _points(array: Array) -> Array:
    """Return the code points of an array of text."""
    return np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))


def _require_rows(found: Predictions) -> None:
    """Refuse arrays without one row per example, or with anything but numbers and text. Raises: ValueError."""
    for name, array in found.arrays().items():
        if not array.ndim or not found.ids.ndim or len(array) != len(found.ids):
            raise ValueError(f"{name} has the shape {array.shape}, but ids has {found.ids.shape}")
        if array.dtype.kind not in ("fiubUS" if name in ("ids", "targets") else "fiub"):
            raise ValueError(f"{name} holds {array.dtype}")


def checked(ids: Any, targets: Any, probs: Any = None, mean: Any = None, var: Any = None) -> Predictions:
    """Return predictions from the arrays, lists or tensors of training code.

    Raises: SweepError naming the one with the wrong shape.
    """
    out = Predictions(ids=plain(ids), targets=plain(targets), probs=_float(probs), mean=_float(mean), var=_float(var))
    n = len(out.ids) if out.ids.ndim else 0
    for name, array in out.arrays().items():
        if not array.ndim:
            raise SweepError(f"{name} is a single value, not one for each example", where="save_predictions")
        if array.dtype.hasobject:
            raise SweepError(f"{name} holds Python objects, not numbers", where="save_predictions")
        if len(array) != n:
            raise SweepError(f"{name} has {len(array)} rows, but ids has {n}", where="save_predictions")
    if len(np.unique(out.ids)) != n:
        raise SweepError("several examples have the same id", where="save_predictions")
    if (out.probs is None) == (out.mean is None):
        raise SweepError("give either probs (for classes) or mean (for regression)", where="save_predictions")
    return out


def plain(value: Any) -> Array:
    """Return an array from an array, a tensor on any device or a list."""
    if hasattr(value, "detach"):  # a tensor, recognised without importing torch
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(value)


def _float(value: Any) -> Array | None:
    if value is None:
        return None
    array = plain(value)
    return array if array.dtype.kind == "f" else array.astype(np.float64)
