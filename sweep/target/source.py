"""Source: the code that trains a run, as a digest of its meaning, and as text if no file holds it."""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from sweep.redaction import redact, redact_source
from sweep.target import imports

BUILT_IN = "sweep."
DEEPEST = 32  # levels of a value that are looked into
LONGEST = 1 << 20  # characters of a text that is kept, and of a value that is written in it


def built_in(reference: str) -> bool:
    """Return whether a reference is part of this package."""
    return reference.startswith(BUILT_IN)


def source_digest(function: Callable[..., Any]) -> str:
    """Return the sha256 over the normalised syntax trees of the defining file and of what it imports next to it.

    Comments and layout do not count. If no file holds the whole function (it is from a notebook, a script, or made
    within another function), the parts of the session that it uses also count. For built-ins, return the integer
    NUMERICS of their module, which is raised when their arithmetic changes: a digest would orphan every directory at
    each upgrade.
    """
    module = sys.modules.get(_module_of(function))
    numerics = getattr(module, "NUMERICS", None)
    if numerics is not None and built_in(_module_of(function)):
        return f"numerics-{numerics}"
    place = _file(function)
    parts = list(_parts(function))
    if place is None:
        digest = hashlib.sha256(_normal(parts[0]).encode())
    elif len(parts) < 2:
        return imports.digest(*place)
    else:
        digest = hashlib.sha256(imports.digest(*place).encode())
    for part in parts[1:]:
        digest.update(b"\0" + _normal(part).encode())
    return digest.hexdigest()


def source_text(function: Callable[..., Any]) -> str:
    """Return the text of a function that no importable file holds, and of what it uses from its session, else "".

    It is for people to read and never run. Text under the name of a secret is hidden. Text that is too long is cut.
    """
    if _file(function) is not None:
        return ""
    text = "\n\n".join(part.rstrip() for part in _parts(function)) + "\n"
    return text if len(text) <= LONGEST else text[:LONGEST] + "\n# [... cut ...]\n"


def mentions(function: Callable[..., Any], word: str) -> bool:
    """Return whether a word occurs anywhere in the source that `source_digest` covers."""
    place = _file(function)
    files = imports.files(*place) if place is not None else []
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    return any(word in text for text in (*_parts(function), *texts))


def shadowed_imports(function: Callable[..., Any]) -> tuple[Path, str] | None:
    """Return the first `shadowed` module among those that a function's files import from their own folder."""
    place = _file(function)
    if place is None or built_in(_module_of(function)) or imports.installed(place[1]):
        return None
    names = {name.partition(".")[0] for file in imports.files(*place) for name in imports.names(file, place[1])}
    return next((found for name in sorted(names) if (found := imports.shadowed(name, place[1]))), None)


def files_reached(function: Callable[..., Any]) -> list[Path]:
    """Return the files whose syntax `source_digest` covers, none for a built-in or a function that no file holds."""
    place = None if built_in(_module_of(function)) else _file(function)
    return imports.files(*place) if place is not None else []


def meaning(value: Any) -> str:
    """Return the normalised source of a function or class, without comments and layout."""
    return _normal(_source(value))


def _module_of(value: Any) -> str:
    if isinstance(value, partial):
        return _module_of(value.func)
    return str(getattr(value, "__module__", None) or "")


def _file(function: Callable[..., Any]) -> tuple[Path, Path] | None:
    """Return (the file that defines it, the folder its imports start from), absolute, or None for a session's own."""
    name = _module_of(function)
    path = getattr(sys.modules.get(name), "__file__", None)
    if not path or name == "__main__":
        return None
    file = Path(path).resolve()
    root = file.parent
    for _ in name.split(".")[1:]:
        root = root.parent
    return file, root


def _parts(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the source of a function, then of what it uses: everything in a session, only its closure in a file."""
    module = _module_of(function)
    whole = _file(function) is None
    todo: list[tuple[str, Any]] = [("", function)]
    seen: set[str] = set()
    code: list[Any] = []  # one piece of code may have several names: `super()` gives a class a second one
    while todo:
        name, value = todo.pop(0)
        if name in seen or any(value is each for each in code):
            continue
        seen.add(name)
        code += [value] if isinstance(value, (FunctionType, type)) else []
        text = _described(name, value, module)
        if text is not None:
            yield redact_source(text)
        todo += _used(value, module, whole)


def _used(value: Any, module: str, whole: bool) -> list[tuple[str, Any]]:
    """Return (name, value) of everything that a function or class of the session names."""
    if isinstance(value, partial):
        bound = {**{str(place): each for place, each in enumerate(value.args)}, **value.keywords}
        return [("partial of", value.func), *((f"partial.{name}", each) for name, each in bound.items())]
    if isinstance(value, type):
        if value.__module__ != module or not whole:
            return []
        methods = [each for each in vars(value).values() if isinstance(each, FunctionType)]
        bases = [(base.__qualname__, base) for base in value.__bases__]
        return [*bases, *(found for method in methods for found in _used(method, module, whole))]
    if not isinstance(value, FunctionType):
        inside = getattr(value, "__dict__", None) if callable(value) and _module_of(value) == module else None
        if not isinstance(inside, dict):
            return []
        kind = type(value).__qualname__
        return [(kind, type(value)), *((f"{kind}.{name}", each) for name, each in inside.items())]
    if value.__module__ != module:
        return []
    closed = closed_over(value)
    if not whole:
        return closed
    names = dict.fromkeys(name for name, _ in globals_of(value.__code__))
    return [*closed, *((name, value.__globals__[name]) for name in names if name in value.__globals__)]


def closed_over(function: FunctionType) -> list[tuple[str, Any]]:
    """Return (name, value) of everything that a function closes over."""
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with suppress(ValueError):  # the cell may still be empty
            found.append((f"{function.__qualname__}.{name}", cell.cell_contents))
    return found


def globals_of(code: CodeType) -> Iterator[tuple[str, str]]:
    """Yield (name, the attribute that is read from it, or "") wherever code names a global."""
    steps = list(dis.get_instructions(code))
    for step, after in zip(steps, [*steps[1:], *steps[-1:]], strict=True):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval), str(after.argval) if after.opname in ("LOAD_ATTR", "LOAD_METHOD") else ""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_of(constant)


def _described(name: str, value: Any, module: str) -> str | None:
    """Return the text that represents a value (its source, its digest or itself), or None if it does not count."""
    if isinstance(value, partial):
        return "partial"
    if isinstance(value, (FunctionType, type)):
        return _source(value) if value.__module__ == module else _beside(value.__module__)
    if isinstance(value, ModuleType):
        return _beside(value.__name__)
    if _is_plain(value):
        shown = redact({name: value})[name]
        return f"{name} = {shown!r}" if len(repr(shown)) <= LONGEST else f"{name} = <{_sha(repr(shown).encode())}>"
    found = _array(value)
    if found is not None:
        return f"{name} = <{found}>"
    return _source(value) if name == "" else None


def _is_plain(value: Any, depth: int = 0) -> bool:
    if depth > DEEPEST:
        return False
    if type(value) is dict:
        return all(isinstance(key, str) and _is_plain(each, depth + 1) for key, each in value.items())
    if type(value) in (list, tuple):
        return all(_is_plain(each, depth + 1) for each in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _array(value: Any) -> str | None:
    """Return the dtype, shape and digest of a NumPy array or a torch tensor, without importing either library."""
    try:
        array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
        if type(array).__module__ == "numpy" and hasattr(array, "tobytes") and not array.dtype.hasobject:
            return f"{array.dtype} {array.shape} {_sha(array.tobytes())}"
    except (TypeError, RuntimeError, AttributeError):
        return None
    return None


def _sha(data: bytes) -> str:
    return f"sha256 {hashlib.sha256(data).hexdigest()}"


def _beside(name: str) -> str | None:
    """Return the digest of a module in or below the current folder, or None for an installed one."""
    path = getattr(sys.modules.get(name), "__file__", None)
    file, here = Path(path or "").resolve(), Path.cwd().resolve()
    if not path or name == "__main__" or file.suffix != ".py" or "site-packages" in file.parts:
        return None
    return f"<module {name} {imports.digest(file, here)}>" if file.is_relative_to(here) else None


def _source(value: Any) -> str:
    try:
        return inspect.cleandoc("\n" + inspect.getsource(value))
    except (OSError, TypeError):
        pass
    if isinstance(value, type) and (text := _of_a_class(value)):
        return text
    code = getattr(value, "__code__", None)
    return repr(code and code.co_code)


def _of_a_class(value: type) -> str:
    """Return the text of a notebook's class, found through the code of its methods."""
    codes = [each.__code__ for each in vars(value).values() if isinstance(each, FunctionType)]
    text = "".join(linecache.getlines(codes[0].co_filename)) if codes else ""
    try:
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    except SyntaxError:
        return ""
    mine = [node for node in nodes if node.name == value.__name__]
    return textwrap.dedent(ast.get_source_segment(text, mine[-1]) or "") if mine else ""


def _normal(source: str) -> str:
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return source
