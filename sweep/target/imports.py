"""The Python files that a file imports from its own folder: their digest, their versions, and shadowed names."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

_NEEDED = (
    "sweep", "torch", "numpy", "ray", "pandas", "scipy", "pydantic", "click", "rich", "safetensors", "matplotlib",
    "jinja2", "sklearn", "fsspec", "yaml", "cloudpickle",
)  # fmt: skip
_TAKEN = {*_NEEDED, *sys.stdlib_module_names} - {"__main__"}
_Import = tuple[int | None, str, tuple[str, ...]]  # level (None for `import`), module, names


def files(start: Path, root: Path) -> list[Path]:
    """Return, sorted, the file and every module below `root` that it imports directly or indirectly.

    Of installed packages, only the file's own package is included. The others count by their versions.
    """
    own = start.relative_to(root).parts[0] if installed(root) else None
    seen: set[Path] = set()
    todo = [start]
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in names(file, root):
            if own is not None and name.partition(".")[0] != own.removesuffix(".py"):
                continue
            base = root.joinpath(*name.split("."))
            todo += [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]
    return sorted(seen)


def digest(path: Path, root: Path) -> str:
    """Return the sha256 over the normalised syntax trees of a Python file and of the files it imports below `root`."""
    whole, found = hashlib.sha256(), files(path, root)
    for file in found:
        whole.update(str(file.relative_to(root)).encode() + b"\0")
        whole.update(_parsed(file)[0].encode() + b"\0")
    if installed(root):
        for package, version in _versions(found, root, path):
            whole.update(f"{package} {version}".encode() + b"\0")
    return whole.hexdigest()


def meaning(path: Path) -> str:
    """Return the sha256 of a Python file's normalised syntax tree."""
    return hashlib.sha256(_parsed(path)[0].encode()).hexdigest()


def installed(folder: Path) -> bool:
    """Return whether a folder holds installed packages, each with its version, rather than one project's code."""
    return any(folder.glob("*.dist-info")) or bool({"site-packages", "dist-packages"} & set(folder.parts))


def _versions(paths: list[Path], root: Path, start: Path) -> list[tuple[str, str]]:
    """Return the version of every other installed package that the files of a package import."""
    tops = {name.partition(".")[0] for path in paths for name in names(path, root)}
    tops -= {"", start.relative_to(root).parts[0].removesuffix(".py"), *sys.stdlib_module_names}
    known = metadata.packages_distributions()
    packages = sorted({package for top in tops for package in known.get(top, [])})
    return [(package, metadata.version(package)) for package in packages]


def shadowed(name: str, folder: Path) -> tuple[Path, str] | None:
    """Return the file of a top-level module in `folder` and what Python imports under its name instead.

    Only names of the standard library and of packages needed here are checked. Return None if nothing is shadowed.
    """
    beside = (folder / name / "__init__.py", folder / f"{name}.py")
    mine = next((p for p in beside if p.is_file()), None) if name in _TAKEN else None
    if mine is None:
        return None
    loaded = sys.modules.get(name)
    if loaded is not None and name != "__main__":
        other = getattr(loaded, "__file__", None) or "a module built into Python"
    else:
        elsewhere = [each for each in sys.path if Path(each or ".").resolve() != folder.resolve()]
        spec = PathFinder.find_spec(name, elsewhere)
        if spec is None and name not in sys.builtin_module_names:
            return None
        other = (spec and spec.origin) or "a module built into Python"
    return None if Path(other).resolve() == mine.resolve() else (mine, other)


def names(file: Path, root: Path) -> Iterator[str]:
    package = file.relative_to(root).parent.parts
    for level, module, wanted in _parsed(file)[1]:
        if level is None:
            yield from wanted
            continue
        above = package[: len(package) - level + 1] if level else ()
        base = ".".join([*above, *([module] if module else [])])
        yield base
        yield from (f"{base}.{name}".strip(".") for name in wanted)


def _parsed(file: Path) -> tuple[str, tuple[_Import, ...]]:
    """Return (the normalised syntax tree of a file as text, what it imports)."""
    return _parse(file.read_bytes())


@lru_cache(maxsize=128)  # planning reads each file of a project several times
def _parse(data: bytes) -> tuple[str, tuple[_Import, ...]]:
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    try:
        tree = ast.parse(text)
        data.decode("utf-8")
    except UnicodeDecodeError:
        return ast.dump(tree), ()
    except SyntaxError:
        return text, ()
    found: list[_Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.append((None, "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return ast.dump(tree), tuple(found)
