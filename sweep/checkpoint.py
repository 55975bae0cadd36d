"""The file of a checkpoint: values keep their types, and loading it runs no code.

torch reads the file with `weights_only=True`: tensors, numbers, text, bytes and plain containers. Other types that can
be restored exactly are written as calls of the makers below. A file may only name these functions and those of torch.
"""

from __future__ import annotations

import io
import pathlib
import pickle
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from sweep.errors import SweepError

SMALL = 1024  # bytes of an array up to which a storage of its own takes more space than it saves
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_FACTORIES: Mapping[str, Callable[[], Any] | None] = {
    "None": None, "int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "set": set,
    "tuple": tuple,
}  # fmt: skip
_CODE = (type, FunctionType, BuiltinFunctionType)
# Types that were read back from a file before, and types that torch reads.
_readable: set[type] = {Tensor, Parameter, OrderedDict, Counter, torch.Size, torch.dtype, torch.device}


class Unrestorable(SweepError):
    """A state holds a value that could not be restored."""


def _array(content: bytes | Tensor) -> np.ndarray[Any, Any]:
    if isinstance(content, Tensor) and content.is_meta:
        return np.empty(0)  # the file is read only to check that it can be
    raw = content.numpy().tobytes() if isinstance(content, Tensor) else content
    made: np.ndarray[Any, Any] = np.load(io.BytesIO(raw), allow_pickle=False)
    return made


def _scalar(content: bytes | Tensor) -> Any:
    return _array(content)[()]


def _path(kind: str, text: str) -> PurePath:
    # A path of another operating system becomes a path of this one.
    made: PurePath = Path(text) if kind in _PATHS[:2] else getattr(pathlib, _PATHS[_PATHS.index(kind)])(text)
    return made


def _deque(items: list[Any], most: int | None) -> deque[Any]:
    return deque(items, most)


def _defaultdict(factory: str, items: dict[Any, Any]) -> defaultdict[Any, Any]:
    return defaultdict(_FACTORIES[factory], items)


def _range(start: int, stop: int, step: int) -> range:
    return range(start, stop, step)


def _namespace(items: dict[str, Any]) -> Namespace:
    return Namespace(**items)


def _simple_namespace(items: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**items)


# Checkpoint files name these functions and this module. If they were renamed or moved, older runs could not resume.
_MAKERS = (_array, _scalar, _path, _deque, _defaultdict, _range, _namespace, _simple_namespace)


def _npy(array: Any) -> bytes | Tensor:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    if stream.tell() <= SMALL:
        return stream.getvalue()
    return torch.frombuffer(bytearray(stream.getbuffer()), dtype=torch.uint8)


def _written(value: Any, kind: type) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """Return the maker and the arguments that restore this value; None if it is left to torch."""
    if kind is np.ndarray and not value.dtype.hasobject:
        return _array, (_npy(value),)
    if issubclass(kind, np.generic) and kind.__module__ == "numpy" and not value.dtype.hasobject:
        return _scalar, (_npy(value),)
    if kind.__name__ in _PATHS and issubclass(kind, PurePath):
        return _path, (kind.__name__, str(value))
    if kind is deque:
        return _deque, (list(value), value.maxlen)
    if kind is defaultdict:
        name = next((name for name, made in _FACTORIES.items() if made is value.default_factory), None)
        return None if name is None else (_defaultdict, (name, dict(value)))
    if kind is range:
        return _range, (value.start, value.stop, value.step)
    if kind is Namespace:
        return _namespace, (dict(vars(value)),)
    if kind is SimpleNamespace:
        return _simple_namespace, (dict(vars(value)),)
    return None


# torch raises NotImplementedError for tensors that it cannot write or read: nested, quantised and MKL-DNN ones.
_FAULTS = (
    pickle.PickleError, TypeError, AttributeError, ValueError, KeyError, NotImplementedError, RecursionError
)  # fmt: skip


def dump(state: Mapping[str, Any], rest: Mapping[str, Any], *, read_back: bool) -> memoryview:
    """Return the bytes of a checkpoint: the state of the user, and that of the run.

    They are read back if they hold a new type, or on request, so that a state that cannot be restored is found before
    it is needed.

    Raises: Unrestorable, with the first value that could not be restored and its place.
    """
    try:
        return _dumped({"state": dict(state), **rest}, read_back=read_back)
    except _FAULTS as error:
        place, value = _culprit(state, "")
        raise Unrestorable(
            f"state{place} is {described(value)}, which a checkpoint cannot restore",
            hint="keep tensors, numbers, text, arrays, paths and plain containers of them",
        ) from error


def _dumped(body: Any, *, read_back: bool) -> memoryview:
    new: set[type] = set()

    class Pickler(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:  # not called for numbers, text and plain containers
            kind = type(value)
            if kind in _readable:
                return NotImplemented
            made = _written(value, kind)
            if made is None and not (isinstance(value, _CODE) and _allowed(value)):
                new.add(kind)
            return NotImplemented if made is None else made

    stream = io.BytesIO()
    torch.save(body, stream, pickle_module=SimpleNamespace(Pickler=Pickler, __name__="pickle"))
    if new or read_back:
        stream.seek(0)
        load(stream, device="meta")
        _readable.update(new.difference(_CODE))
    return stream.getbuffer()


def _allowed(value: Any) -> bool:
    """Return whether a function or class belongs to torch or is one of the makers, so that a file may name it."""
    return str(value.__module__).partition(".")[0] in ("torch", "collections", "_codecs") or value in _MAKERS


def load(file: Path | io.BytesIO, *, device: str = "cpu") -> dict[str, Any]:
    """Return the content of a file from `dump`.

    Raises: the exceptions of torch, for a file that is damaged or would run code.
    """
    with torch.serialization.safe_globals(list(_MAKERS)):
        body: dict[str, Any] = torch.load(file, weights_only=True, map_location=device)
    return body


def _culprit(value: Any, place: str) -> tuple[str, Any]:
    """Return the innermost part of a state that cannot be written and read, and where it is."""
    for name, part in _parts(value):
        if not _restorable(part):
            return _culprit(part, place + name)
    return place, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key in value:
            yield f", key {key!r}", key
        for key, each in value.items():
            yield f"[{key!r}]", each
    elif isinstance(value, (list, tuple, set, deque)):
        for number, each in enumerate(value):
            yield f"[{number}]", each


def _restorable(value: Any) -> bool:
    try:
        _dumped(value, read_back=True)
    except _FAULTS:
        return False
    return True


def described(value: Any) -> str:
    """Return the type and the text of a value, cut if it is long."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
