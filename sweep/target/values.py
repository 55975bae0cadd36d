"""Values: the data, apart from source code, that a function reaches and that decide its result, by content."""

from __future__ import annotations

import copyreg
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from sweep.target import imports
from sweep.target.source import BUILT_IN, closed_over, globals_of, meaning

LARGEST = 8 << 30  # bytes of one value
MOST_OBJECTS = 500_000  # parts of one value that are looked into
DEEPEST = 200  # levels of a value
# Objects that hold no data and exist once per process.
_IDLE = ("_thread.lock", "_thread.RLock", "_io.TextIOWrapper", "_thread._local")


class Incomparable(Exception):
    """A value whose content is too large or cannot be compared between processes. The reason is stored as given."""


def values_of(function: Callable[..., Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return (the digest of every value that a function reaches, why others cannot be compared), by name.

    It reaches defaults, closures, bound arguments and instances, and the globals that it and the functions and classes
    of the user's own modules name, directly or indirectly.
    """
    found: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for name, value in _reached(function):
        try:
            found[name] = Content().of(value)
        except Incomparable as error:
            unknown[name] = str(error)
    return found, unknown


def _reached(function: Any) -> Iterator[tuple[str, Any]]:
    todo: list[tuple[str, Any]] = [("", function)]
    seen: set[int] = set()
    names: dict[str, int] = {}
    while todo:
        name, value = todo.pop(0)
        if id(value) in seen:
            continue
        if isinstance(value, (FunctionType, MethodType, type, partial)) or hasattr(value, "__wrapped__"):
            seen.add(id(value))
            todo += _parts(value)
        elif isinstance(value, ModuleType):
            seen.add(id(value))
            todo += _of_module(value)
        elif name and not isinstance(value, BuiltinFunctionType):
            names[name] = names.get(name, 0) + 1
            yield (name if names[name] == 1 else f"{name} ({names[name]})"), value
            if owned(type(value)):
                todo.append((name, type(value)))
        elif not isinstance(value, BuiltinFunctionType):
            yield "itself", value
            todo.append((name, type(value)))


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return (name, value) of everything that a function, class or partial refers to."""
    if isinstance(value, partial):
        pairs = [*((str(i), each) for i, each in enumerate(value.args)), *value.keywords.items()]
        return [("", value.func), *((f"partial.{name}", each) for name, each in pairs)]
    if isinstance(value, MethodType):
        return [("", value.__func__), (f"{value.__func__.__name__}.self", value.__self__)]
    if not owned(value):
        return []
    where = getattr(value, "__qualname__", "")
    if isinstance(value, type):
        return [*(("", base) for base in value.__bases__), *_attributes(value)]
    if not isinstance(value, FunctionType):
        return [("", value.__wrapped__)]
    given = (value.__defaults__ or (), (value.__kwdefaults__ or {}))
    pairs = [(f"{where}.default{i}", each) for i, each in enumerate(given[0])]
    pairs += [(f"{where}.{name}", each) for name, each in given[1].items()]
    pairs += closed_over(value)
    if hasattr(value, "__wrapped__"):
        pairs.append(("", value.__wrapped__))
    for name, attribute in globals_of(value.__code__):
        if name not in value.__globals__:
            continue
        each = value.__globals__[name]
        if not isinstance(each, ModuleType):
            pairs.append((f"{value.__module__}.{name}", each))
        elif _own_module(each.__name__) and attribute in vars(each):
            pairs.append((f"{each.__name__}.{attribute}", vars(each)[attribute]))
        elif not attribute:  # the module itself is used, so all of it counts
            pairs.append(("", each))
    return pairs


def _of_module(module: ModuleType) -> list[tuple[str, Any]]:
    """Return the public values of a user's module. Its source is counted elsewhere."""
    if not _own_module(module.__name__):
        return []
    passed = (ModuleType, FunctionType, BuiltinFunctionType, type)
    public = ((name, each) for name, each in vars(module).items() if not name.startswith("_"))
    return [(f"{module.__name__}.{name}", each) for name, each in public if not isinstance(each, passed)]


def _attributes(value: type) -> list[tuple[str, Any]]:
    """Return the functions and values of a class, without those that Python put there."""
    found: list[tuple[str, Any]] = []
    for name, each in vars(value).items():
        inner = _within(each)
        if isinstance(inner, FunctionType):
            found.append(("", inner))
        elif not name.startswith("_") and not hasattr(type(inner), "__get__"):
            found.append((f"{value.__qualname__}.{name}", inner))
    return found


def _within(attribute: Any) -> Any:
    """Return the function in a method, property, cached property or the like, and anything else as it is."""
    while hasattr(type(attribute), "__get__") and not isinstance(attribute, FunctionType):
        held = (getattr(attribute, name, None) for name in ("__func__", "fget", "func", "__wrapped__"))
        inner = next((each for each in held if each is not None), None)
        if inner is None:
            break
        attribute = inner
    return attribute


def owned(value: Any) -> bool:
    """Return whether a function or class is the user's own, not from an installed package, Python or sweep.

    A wrapper may have the module name of the function that it wraps, so its globals are also checked.
    """
    modules = [getattr(value, "__module__", "")]
    if isinstance(value, FunctionType):
        modules.append(value.__globals__.get("__name__", ""))
    return any(_own_module(str(name or "")) for name in modules)


def _own_module(name: str) -> bool:
    if name == "__main__":
        return True
    path = getattr(sys.modules.get(name), "__file__", None)
    top = name.partition(".")[0]
    if not path or top in sys.stdlib_module_names or f"{top}." == BUILT_IN:
        return False
    root = Path(path).resolve().parents[name.count(".") + (Path(path).name == "__init__.py")]
    return not imports.installed(root)


class Content:
    """The digest of one value by content: equal in two processes if and only if the value is equal."""

    def __init__(self) -> None:
        self._objects = self._bytes = 0
        self._open: dict[int, int] = {}
        self._done: dict[int, tuple[Any, str]] = {}  # holds the value, so that no other value can have its id

    def of(self, value: Any) -> str:
        """Return the sha256 of a value. Raises: Incomparable."""
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open:
            return f"cycle {len(self._open) - self._open[id(value)]}"
        self._objects += 1
        if self._objects > MOST_OBJECTS or len(self._open) > DEEPEST:
            raise Incomparable(f"it has more than {MOST_OBJECTS:,} parts or {DEEPEST} levels")
        self._open[id(value)] = len(self._open)
        try:
            digest = self._one(value)
        except Incomparable:
            raise
        except Exception as error:
            raise Incomparable(f"{_kind(value)}: {str(error).partition(chr(10))[0][:100]}") from error
        finally:
            del self._open[id(value)]
        self._done[id(value)] = (value, digest)
        return digest

    def _sha(self, kind: str, *parts: Any) -> str:
        digest = hashlib.sha256(kind.encode())
        for part in parts:
            data = (
                part if isinstance(part, (bytes, bytearray, memoryview)) else str(part).encode("utf-8", "surrogatepass")
            )
            size = memoryview(data).nbytes
            self._bytes += size
            if self._bytes > LARGEST:
                raise Incomparable(f"it has more than {LARGEST >> 30} GiB")
            digest.update(b"\0%d\0" % size)
            digest.update(data)
        return digest.hexdigest()

    def _one(self, value: Any) -> str:
        kind = _kind(value)
        if value is None or type(value) in (bool, int, float, complex, type(Ellipsis), type(NotImplemented)):
            return self._sha(kind, repr(value))
        if type(value) in (bytes, bytearray):
            return self._sha(kind, value)
        if type(value) is str or isinstance(value, PurePath):
            return self._sha("path" if isinstance(value, PurePath) else kind, _here(str(value)))
        if isinstance(value, Enum):
            return self._sha(kind, value.name, *([self.of(value.value)] if owned(type(value)) else []))
        if type(value) in (list, tuple):
            return self._sha(kind, *map(self.of, value))
        if type(value) in (set, frozenset):
            return self._sha(kind, *sorted(map(self.of, value)))
        if type(value) is dict:
            return self._sha(kind, *sorted(f"{self.of(key)} {self.of(each)}" for key, each in value.items()))
        if isinstance(value, ModuleType):
            return self._sha(kind, value.__name__, *(f"{name} {self.of(each)}" for name, each in _of_module(value)))
        if isinstance(value, (FunctionType, type)):
            return self._code(value)
        if kind in _IDLE:
            return self._sha(kind)
        return self._data(value, kind) or self._pickled(value, kind)

    def _code(self, value: Any) -> str:
        name = f"{value.__module__}.{value.__qualname__}"
        if not owned(value):
            if "<locals>" in name or "<lambda>" in name:
                raise Incomparable(f"{name} has no name of its own")
            return self._sha("code", name)
        return self._sha("code", meaning(value), *(f"{n} {self.of(each)}" for n, each in _parts(value)))

    def _data(self, value: Any, kind: str) -> str:
        """Return the digest of a value with bytes of its own, or "" for any other, without importing anything."""
        numpy, torch, pandas = (sys.modules.get(name) for name in ("numpy", "torch", "pandas"))
        if torch is not None and isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_quantized or value.is_meta:
                raise Incomparable(f"a tensor of layout {value.layout}")
            plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
            raw = plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy().data
            return self._sha("tensor", value.dtype, tuple(value.shape), value.requires_grad, raw)
        if torch is not None and isinstance(value, torch.Generator):
            return self._sha(kind, value.device, value.get_state().numpy().tobytes())
        if torch is not None and isinstance(value, (torch.dtype, torch.device)):
            return self._sha(kind, value)
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            if value.dtype.hasobject:
                return self._sha(kind, value.shape, *(self.of(each) for each in value.ravel().tolist()))
            return self._sha(
                kind, value.dtype.str, value.dtype.descr, value.shape, numpy.ascontiguousarray(value).tobytes()
            )
        if pandas is not None and isinstance(value, pandas.DataFrame):
            columns = (self.of(value.iloc[:, at]) for at in range(value.shape[1]))
            return self._sha(kind, self.of(value.columns), self.of(value.index), *columns)
        if pandas is not None and isinstance(value, pandas.Series):
            return self._sha(kind, self.of(value.name), value.dtype, self.of(value.index), self.of(value.to_numpy()))
        if pandas is not None and isinstance(value, pandas.Index):
            return self._sha(kind, self.of(list(value.names)), value.dtype, self.of(value.to_numpy()))
        return ""

    def _pickled(self, value: Any, kind: str) -> str:
        """Return the digest of what pickle would keep of a value: most classes define their content this way."""
        reducer = copyreg.dispatch_table.get(type(value))
        made = reducer(value) if reducer is not None else value.__reduce_ex__(4)
        own = self.of(type(value)) if owned(type(value)) else ""
        if isinstance(made, str):
            inner = getattr(value, "__wrapped__", None)
            return self._sha(kind, made, self.of(inner) if inner is not None else "")
        makers, arguments, state, items, pairs = (*made, None, None, None)[:5]
        name = f"{getattr(makers, '__module__', '')}.{getattr(makers, '__qualname__', makers)}"
        listed = [self.of(each) for each in items] if items is not None else []
        mapped = [f"{self.of(key)} {self.of(each)}" for key, each in pairs] if pairs is not None else []
        return self._sha(kind, own, name, self.of(arguments), self.of(state), *listed, *mapped)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _here(text: str) -> str:
    """Return a text without the working folder at its start, because a project may be moved."""
    here = os.getcwd()
    return f".{text[len(here) :]}" if text == here or text.startswith(here + os.sep) else text
