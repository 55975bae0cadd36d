"""Data sets from files: the files, their digest, and their arrays, checked before they are used."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import ConfigError, EnvironmentRefused
from sweep.train.params import Data, Positions

Array = NDArray[Any]

MOST_DIMENSIONS = 4  # (examples, channels, height, width)
# The type codes of the IDX format (big-endian), as its description lists them.
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# The MNIST family: the name of each part with and without its compression, with "." or "-" before idx.
IDX_PARTS = {
    "train_images": "train-images",
    "train_labels": "train-labels",
    "test_images": "t10k-images",
    "test_labels": "t10k-labels",
}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_EMBEDDED = {
    "digits": {"table": "digits.csv.gz"},
    "diabetes": {"inputs": "diabetes_data_raw.csv.gz", "targets": "diabetes_target.csv.gz"},
}


@dataclass(frozen=True)
class Raw:
    """A data set as it was stored: inputs (examples, ...), targets (examples, ...), and its own splits if any.

    NaN among inputs is replaced by the median of the training examples. test, val: their positions among the inputs,
    if they are not stored separately. together: one value per example; examples with equal values are in one split or
    fold. plain: inputs are not normalised. flat: inputs have a channel only for
    the normalisation. limit, seed: of the split, see `Data`.
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


def data_files(data: Data) -> Mapping[str, Path]:
    """Return the files of a data set by part. Raises: ConfigError naming a missing file and the folder."""
    if data.name in _EMBEDDED:
        folder = _sklearn_data()
        return {part: folder / name for part, name in _EMBEDDED[data.name].items()}
    place = Path(data.where).expanduser()
    if data.name == "images":
        return _pictures(place)
    if data.name == "idx":
        if not place.is_dir():
            raise ConfigError(
                f"no such folder: {place}",
                where="params.data.folder",
                hint="on Debian and Ubuntu: apt install dataset-fashion-mnist, then "
                "params.data.folder=/usr/share/datasets/fashion-mnist",
            )
        return {part: _idx_file(place, stem) for part, stem in IDX_PARTS.items()}
    if not place.is_file():
        raise ConfigError(
            f"no such file: {place}",
            where="params.data.path",
            hint="give an absolute path, or one relative to the folder in which you run the command",
        )
    return {"arrays" if data.name == "npz" else "table": place}


def data_digest(data: Data) -> str:
    """Return the sha256 (hex) over the name and the bytes of every file, in the order of the parts' names.

    The folder of the files does not count: the same data elsewhere are the same experiment.
    """
    whole = hashlib.sha256()
    for part, path in sorted(data_files(data).items()):
        with path.open("rb") as file:
            whole.update(f"{part}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _pictures(folder: Path) -> Mapping[str, Path]:
    """Return the pictures below the folders of their classes, by their path below `folder`."""
    found = sorted(each for each in folder.rglob("*") if each.suffix.lower() in PICTURES and each.is_file())
    parts = {each.relative_to(folder).as_posix(): each for each in found}
    if not parts or any("/" not in name for name in parts):
        raise ConfigError(
            "some pictures are not in the folder of a class" if parts else f"there are no pictures in {folder}",
            where="params.data.path", hint=f"make a folder per class in {folder}, with files {', '.join(PICTURES)}",
        )  # fmt: skip
    return parts


def _idx_file(folder: Path, stem: str) -> Path:
    dims = 3 if stem.endswith("images") else 1
    names = [f"{stem}{dot}idx{dims}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"{folder} has none of the files {', '.join(names)}",
        where="params.data.folder",
        hint="the folder must hold the four files of an MNIST-like data set, compressed or not",
    )


def _sklearn_data() -> Path:
    # Located, not imported: importing scikit-learn takes a second, reading its tables only milliseconds.
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentRefused("scikit-learn is not installed", hint="pip install scikit-learn")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def read(data: Data) -> Raw:
    """Return the arrays of a data set. Raises: ConfigError naming the file and what is wrong with it."""
    raw = _stored(data)
    if isinstance(data.split, Positions):
        if raw.test_inputs is not None:
            raise ConfigError("the data have their own test set", where="params.data.split", hint="leave split out")
        given = {name: np.array(index) for name, index in data.split if index is not None}
        named = positions(given, len(raw.inputs), "params.data.split")
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
        train, test = (
            _usable(read_idx(images), read_idx(files[f"{split}_labels"]), "", str(images))
            for split, images in (("train", files["train_images"]), ("test", files["test_images"]))
        )
        return Raw(*train, *test)
    if data.name == "table":
        from sweep.train.table import read_table

        return read_table(files["table"], data)
    if data.name == "images":
        return _read_images(files, data)
    return _read_npz(files["arrays"], data.split if isinstance(data.split, str) else None, data.group)


def positions(given: Mapping[str, Array], count: int, where: str) -> dict[str, Array]:
    """Return the positions of test and val in `count` examples, given as positions or masks. Raises: ConfigError."""
    found = {}
    for name, index in given.items():
        if index.dtype == bool and index.shape == (count,):
            index = np.flatnonzero(index)
        listed = index.ndim == 1 and index.dtype.kind in "iu" and index.size
        if not listed or not 0 <= index.min() <= index.max() < count or len(np.unique(index)) < len(index):
            raise ConfigError(
                f"{name} is not a selection of the {count} examples", where=where,
                hint=f"give different positions from 0 to {count - 1}, a mask, or a pair (x, y)",
            )  # fmt: skip
        found[name] = index
    if np.intersect1d(found.get("test", []), found.get("val", [])).size:
        raise ConfigError("some examples are in both test and val", where=where)
    return found


def by_name(names: Array, where: str) -> tuple[Array | None, Array | None]:
    """Return the positions of test and of val, from one name (train, val, test) per example. Raises: ConfigError."""
    known = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}
    plain = np.array([known.get(name := str(each).strip().lower(), name) for each in names.ravel()])
    odd = sorted(set(plain.tolist()) - {"train", "val", "test"})
    if odd or "train" not in plain or len(plain) != len(names):
        raise ConfigError(
            f"the split holds {', '.join(map(repr, odd[:3]))}" if odd else "the split has no train examples",
            where=where, hint="give train, val or test for each example",
        )  # fmt: skip
    test, val = (np.flatnonzero(plain == name) for name in ("test", "val"))
    return (test if len(test) else None), (val if len(val) else None)


def _read_images(files: Mapping[str, Path], data: Data) -> Raw:
    """Return pictures as (channels, height, width), with their folders' names as classes."""
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
        some = " and ".join(f"{height}x{width}" for width, height in sorted(sizes)[:2])
        raise ConfigError(
            f"the pictures have {len(sizes)} different sizes, such as {some}",
            where=data.path, hint="set params.data.size=[64,64] to resize them",
        )  # fmt: skip
    grey = all(one.mode == "L" for one in made)
    inputs = np.stack([np.asarray(one if grey else one.convert("RGB")) for one in made])
    inputs = inputs[:, None] if grey else inputs.transpose(0, 3, 1, 2)
    targets = np.array([classes.index(each[apart]) for each in names])
    test, val = by_name(np.array([each[0] for each in names]), data.path or "") if apart else (None, None)
    return Raw(np.ascontiguousarray(inputs), targets, classes=tuple(classes), test=test, val=val)


def read_idx(path: Path) -> Array:
    """Read one IDX file. Its content, not its name, tells whether it is compressed.

    Header: two zero bytes, a type code, the number of dimensions, then each size as a big-endian uint32.
    Raises: ConfigError if the header is not an IDX header or the length does not match it.
    """

    def wrong(what: str) -> ConfigError:
        return ConfigError(what, where=str(path), hint="download the file again: it is damaged or in another format")

    try:
        with _open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] == 0:
                raise wrong(f"there is no IDX header; the file {f'starts with {magic.hex()}' if magic else 'is empty'}")
            sizes = file.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise wrong("the IDX header is cut off")
            if magic[3] > MOST_DIMENSIONS:
                raise wrong(f"the IDX header declares {magic[3]} dimensions; images have at most {MOST_DIMENSIONS}")
            shape = struct.unpack(f">{magic[3]}I", sizes)
            dtype = np.dtype(IDX_TYPES[magic[2]])
            wanted = prod(shape) * dtype.itemsize
            # One byte more than promised is enough to notice a longer file without unpacking all of it.
            body = file.read(wanted + 1)
    except (OSError, EOFError, zlib.error, OverflowError, MemoryError) as error:
        raise wrong(f"it cannot be read ({error})") from error
    if len(body) != wanted:
        more = "more" if len(body) > wanted else f"{len(body)}"
        raise wrong(f"the header declares {wanted} bytes {shape}, but the file holds {more}")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _read_npz(path: Path, split: str | None, group: str | None) -> Raw:
    """Read `x`, `y`, or `x_train`, `y_train` with `x_test`, `y_test` and perhaps `x_val`, `y_val`, `classes`."""
    where = str(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip, its codecs and NumPy's headers each have exceptions of their own
        raise ConfigError(
            f"it is not an .npz file of plain arrays ({error})",
            where=where,
            hint="write it with numpy.savez(path, x=x, y=y)",
        ) from error  # fmt: skip
    suffix = "_train" if "x_train" in arrays else ""
    (inputs, targets), test_pair, val_pair = (_pair(arrays, part, where) for part in (suffix, "_test", "_val"))
    if inputs is None or targets is None:
        raise ConfigError(f"it has no x and y; it holds {', '.join(arrays) or 'nothing'}", where=where)
    classes = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else ()
    for name in (split, group):
        if name is not None and (name not in arrays or arrays[name].shape != (len(inputs),)):
            raise ConfigError(
                f"it has no array {name!r} with one value per example; it holds {', '.join(arrays)}", where=where
            )
    together = None if group is None else arrays[group]
    if split is not None:
        test, val = by_name(arrays[split], f"{where}: {split}")
        return Raw(inputs, targets, classes=classes, test=test, val=val, together=together)
    return Raw(inputs, targets, *test_pair, *val_pair, classes, together=together)


def _pair(arrays: Mapping[str, Array], part: str, where: str) -> tuple[Array | None, Array | None]:
    x, y = arrays.get(f"x{part}"), arrays.get(f"y{part}")
    if (x is None) != (y is None):
        raise ConfigError(f"x{part} and y{part} belong together, but only one of them is there", where=where)
    if x is None or y is None:
        return None, None
    return _usable(x, y, part, where)


def _usable(x: Array, y: Array, part: str, where: str) -> tuple[Array, Array]:
    """Return inputs, with a channel added to images without one, and one target each. Raises: ConfigError."""
    require_numbers(x, y, part, where)
    if x.ndim not in (2, 3, 4) or y.shape not in ((len(x),), (len(x), 1)):
        raise ConfigError(
            f"x{part} has shape {x.shape} and y{part} has shape {y.shape}",
            where=where,
            hint="give x as (examples, features), (examples, height, width) or (examples, channels, height, width), "
            "and y as one number per example",
        )
    return (x[:, None] if x.ndim == 3 else x), y


def require_numbers(x: Array, y: Array, part: str, where: str) -> None:
    """Check that inputs and targets are finite numbers, one target per input. Raises: ConfigError."""
    for name, one in ((f"x{part}", x), (f"y{part}", y)):
        if one.ndim == 0 or not one.size:
            raise ConfigError(f"{name} of shape {one.shape} holds nothing to learn from", where=where)
        if one.dtype.kind not in "fiub":
            raise ConfigError(
                f"{name} holds values of type {one.dtype}, not numbers",
                where=where,
                hint="convert them to numbers; only the target may be text",
            )
        if not np.isfinite(one).all():
            rows = np.flatnonzero(~np.isfinite(one).reshape(len(one), -1).all(1))
            raise ConfigError(
                f"{name} holds values that are not finite, first in row {rows[0]} ({len(rows)} rows in all)",
                where=where, hint="leave those rows out, or fill in the missing values",
            )  # fmt: skip
    if len(x) != len(y):
        raise ConfigError(
            f"x{part} has {len(x)} rows and y{part} has {len(y)}", where=where, hint="give one row per example in both"
        )
