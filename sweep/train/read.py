"""Data sets as NumPy arrays: the embedded tables, IDX files and .npz files, checked before they are used."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import ConfigError
from sweep.train.files import data_files
from sweep.train.params import Data, Positions

Array = NDArray[Any]

MOST_DIMENSIONS = 4  # (examples, channels, height, width)
# The type codes of the IDX format (big-endian), as its description lists them.
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class Raw:
    """A data set as it was stored: inputs (examples, ...), targets (examples, ...), splits of its own if any.

    NaN among inputs stands for the median of the training examples. test, val: positions of theirs among the inputs,
    where they are not stored apart. together: of equal values among these, one per example, all are in one split or
    fold. plain: inputs are left as they are, not normalised. flat: inputs have a channel for
    the normalisation alone. limit, seed: of the split, see `Data`.
    """

    inputs: Array
    targets: Array
    test_inputs: Array | None = None
    test_targets: Array | None = None
    val_inputs: Array | None = None
    val_targets: Array | None = None
    classes: tuple[str, ...] = ()
    test: Array | None = None
    val: Array | None = None
    plain: bool = False
    flat: bool = False
    limit: int | None = None
    seed: int | None = None
    together: Array | None = None


def read(data: Data) -> Raw:
    """Return the arrays of a data set. Raises: ConfigError naming the file and what is wrong with it."""
    raw = _stored(data)
    if isinstance(data.split, Positions):
        count = len(raw.inputs)
        named = {name: np.array(index) for name, index in data.split if index is not None}
        for name, index in named.items():
            if not is_part(index, count):
                raise ConfigError(f"it names no part of {count} examples", where=f"params.data.split.{name}")
        if raw.test_inputs is not None or np.intersect1d(named.get("test", []), named.get("val", [])).size:
            raise ConfigError(
                "test and val must be apart, and the data have no test of their own", where="params.data.split"
            )
        raw = replace(raw, test=named.get("test"), val=named.get("val"))
    return replace(raw, limit=data.limit, seed=data.split if isinstance(data.split, int) else None)


def _stored(data: Data) -> Raw:
    files = data_files(data)
    if data.name == "digits":
        table = np.loadtxt(files["table"], delimiter=",", dtype=np.float32)
        return Raw(table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64))
    if data.name == "diabetes":
        inputs = np.loadtxt(files["inputs"], dtype=np.float64)
        return Raw(inputs, np.loadtxt(files["targets"], dtype=np.float64))
    if data.name == "idx":
        parts = {part: read_idx(path) for part, path in files.items()}
        for split in ("train", "test"):
            images, labels = parts[f"{split}_images"], parts[f"{split}_labels"]
            if labels.ndim != 1 or len(images) != len(labels):
                raise ConfigError(
                    f"{len(images)} images, but labels of shape {labels.shape}",
                    where=str(files[f"{split}_labels"]),
                )
            if images.ndim not in (2, 3, 4) or not images.size:
                raise ConfigError(
                    f"images of shape {images.shape}: (examples, height, width) is needed, none of them 0",
                    where=str(files[f"{split}_images"]),
                )
        train, test = parts["train_images"].shape, parts["test_images"].shape
        if train[1:] != test[1:]:
            raise ConfigError(
                f"images of shape {test}, and those to train on of {train}", where=str(files["test_images"])
            )
        return Raw(
            _as_images(parts["train_images"]), parts["train_labels"],
            _as_images(parts["test_images"]), parts["test_labels"],
        )  # fmt: skip
    if data.name == "table":
        from sweep.train.table import read_table

        return read_table(files["table"], data)
    if data.name == "images":
        return _read_images(files, data)
    return _read_npz(files["arrays"], data.split if isinstance(data.split, str) else None, data.group)


def is_part(index: Array, count: int) -> bool:
    """Return True for the positions of some of `count` examples, each once."""
    if index.ndim != 1 or index.dtype.kind not in "iu" or not index.size:
        return False
    return bool(0 <= index.min() <= index.max() < count) and len(np.unique(index)) == len(index)


def by_name(names: Array, where: str) -> tuple[Array | None, Array | None]:
    """Return the positions of test and of val, from one name (train, val, test) per example. Raises: ConfigError."""
    known = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}
    plain = np.array([known.get(name := str(each).strip().lower(), name) for each in names.ravel()])
    odd = sorted(set(plain.tolist()) - {"train", "val", "test"})
    if odd or "train" not in plain or len(plain) != len(names):
        raise ConfigError(
            f"the split says {', '.join(map(repr, odd[:3])) or 'nothing of train'}", where=where,
            hint="it names train, val or test for each example",
        )  # fmt: skip
    test, val = (np.flatnonzero(plain == name) for name in ("test", "val"))
    return (test if len(test) else None), (val if len(val) else None)


def _read_images(files: Mapping[str, Path], data: Data) -> Raw:
    """Return pictures as (channels, height, width), with classes by the names of their folders."""
    from PIL import Image

    names = [name.split("/") for name in files]
    parts = {parts[0].lower() for parts in names}
    apart = parts <= {"train", "test", "val", "valid", "validation"} and all(len(each) > 2 for each in names)
    classes = sorted({each[apart] for each in names})
    made = []
    for path in files.values():
        try:
            with Image.open(path) as picture:
                one = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
                made.append(one.resize((data.size[1], data.size[0])) if data.size else one)
        except OSError as error:
            raise ConfigError(f"it cannot be read as a picture ({error})", where=str(path)) from error
    sizes = {one.size for one in made}
    if len(sizes) > 1:
        raise ConfigError(
            f"pictures of {len(sizes)} sizes, such as {' and '.join(f'{h}x{w}' for w, h in sorted(sizes)[:2])}",
            where=data.path, hint="params.data.size=[64,64] brings them to one",
        )  # fmt: skip
    grey = all(one.mode == "L" for one in made)
    inputs = np.stack([np.asarray(one if grey else one.convert("RGB")) for one in made])
    inputs = inputs[:, None] if grey else inputs.transpose(0, 3, 1, 2)
    targets = np.array([classes.index(each[apart]) for each in names])
    test, val = by_name(np.array([each[0] for each in names]), data.path or "") if apart else (None, None)
    return Raw(np.ascontiguousarray(inputs), targets, classes=tuple(classes), test=test, val=val)


def read_idx(path: Path) -> Array:
    """Read one IDX file, compressed or not (told apart by content, not by name).

    Header: two zero bytes, a type code, the number of dimensions, then each size as a big-endian uint32.
    Raises: ConfigError when the header is none of IDX or the length is not what the header says.
    """

    def wrong(what: str) -> ConfigError:
        return ConfigError(what, where=str(path), hint="fetch the file again: it is damaged or of another format")

    try:
        with _open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
                raise wrong(f"no IDX header (starts with {magic.hex() or 'nothing'})")
            sizes = file.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise wrong("the IDX header is cut off")
            if magic[3] > MOST_DIMENSIONS:
                raise wrong(f"the IDX header promises {magic[3]} dimensions; images have {MOST_DIMENSIONS} at most")
            shape = struct.unpack(f">{magic[3]}I", sizes)
            dtype = np.dtype(IDX_TYPES[magic[2]])
            wanted = prod(shape) * dtype.itemsize
            # One byte more than promised is enough to notice a longer file without unpacking all of it.
            body = file.read(wanted + 1)
    except (OSError, EOFError, zlib.error, OverflowError, MemoryError) as error:
        raise wrong(f"cannot be read ({error})") from error
    if len(body) != wanted:
        more = "more" if len(body) > wanted else f"{len(body)}"
        raise wrong(f"the header promises {wanted} bytes {shape}, the file holds {more}")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _as_images(inputs: Array) -> Array:
    """Give (examples, height, width) the channel that convolutions expect."""
    return inputs[:, None] if inputs.ndim == 3 else inputs


def _read_npz(path: Path, split: str | None, group: str | None) -> Raw:
    """Read `x`, `y`, or `x_train`, `y_train` with `x_test`, `y_test` and perhaps `x_val`, `y_val`, `classes`."""
    where = str(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip, its codecs and NumPy's headers each have exceptions of their own
        raise ConfigError(
            f"not an .npz of plain arrays ({error})",
            where=where,
            hint="write it with numpy.savez(path, x=x, y=y)",
        ) from error  # fmt: skip
    suffix = "_train" if "x_train" in arrays else ""
    pairs = [_pair(arrays, part, where) for part in (suffix, "_test", "_val")]
    (inputs, targets), (test_inputs, test_targets), (val_inputs, val_targets) = pairs
    if inputs is None or targets is None:
        raise ConfigError(f"no x and y; it holds {', '.join(arrays) or 'nothing'}", where=where)
    for part, x in (("_test", test_inputs), ("_val", val_inputs)):
        if x is not None and x.shape[1:] != inputs.shape[1:]:
            raise ConfigError(f"x{part} has examples of another shape than x{suffix}", where=where)
    classes = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else ()
    for name in (split, group):
        if name is not None and (name not in arrays or arrays[name].shape != (len(inputs),)):
            raise ConfigError(
                f"no array {name!r} with one value per example; it holds {', '.join(arrays)}", where=where
            )
    together = None if group is None else arrays[group]
    if split is not None:
        test, val = by_name(arrays[split], f"{where}: {split}")
        return Raw(inputs, targets, classes=classes, test=test, val=val, together=together)
    return Raw(inputs, targets, test_inputs, test_targets, val_inputs, val_targets, classes, together=together)


def _pair(arrays: Mapping[str, Array], part: str, where: str) -> tuple[Array | None, Array | None]:
    x, y = arrays.get(f"x{part}"), arrays.get(f"y{part}")
    if (x is None) != (y is None):
        raise ConfigError(f"x{part} and y{part} go together, only one of them is there", where=where)
    if x is None or y is None:
        return None, None
    _check_pair(f"x{part}", x, y, where)
    return _as_images(x), y


def _check_pair(name: str, x: Array, y: Array, where: str) -> None:
    if x.ndim not in (2, 3, 4) or x.dtype.kind not in "fiub":
        raise ConfigError(
            f"{name} is {x.dtype} of shape {x.shape}: numbers (examples, features), (examples, height, "
            "width) or (examples, channels, height, width) are needed",
            where=where,
        )
    if not x.size:
        raise ConfigError(f"{name} of shape {x.shape} holds nothing to learn from", where=where)
    if y.shape not in ((len(x),), (len(x), 1)) or y.dtype.kind not in "fiub":
        raise ConfigError(
            f"y{name[1:]} is {y.dtype} of shape {y.shape}, but {name} has {len(x)} rows: one number a row is needed",
            where=where,
        )
    for key, array in ((name, x), (f"y{name[1:]}", y)):
        if not np.isfinite(array).all():
            raise ConfigError(f"{key} holds values that are not finite", where=where)
