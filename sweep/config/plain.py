"""Whatever a caller hands in, as plain data: what strict JSON can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import PurePath
from typing import Any

from sweep.config.document import DEEPEST, Path
from sweep.config.scalar import INTERPOLATION, Ambiguous, show
from sweep.errors import ConfigError

Report = Callable[[ConfigError, Path], None]

# Below these, no declared type could notice that `no` was meant as false.
_UNTYPED = ("params", "grid", "tasks")


def plain(value: Any, report: Report, path: Path = ()) -> Any:
    """`value` as dict, list, str, int, float, bool and None, NumPy scalars and paths converted.

    What cannot be plain data (NaN, `${`, objects, keys that are no text, text that is not Unicode, more than
    32 levels) is handed to `report` with its path and becomes None.
    """
    if len(path) > DEEPEST:
        problem = ConfigError(f"nested deeper than {DEEPEST} levels")
    elif isinstance(value, Mapping):
        return _mapping(value, report, path)
    elif isinstance(value, list | tuple):
        return [plain(inner, report, (*path, place)) for place, inner in enumerate(value)]
    elif value is None or isinstance(value, bool):
        return value
    elif isinstance(value, str):
        if (bad := _text(value, path)) is None:
            return str(value)
        problem = bad
    elif isinstance(value, int):
        if -(2**63) <= value < 2**64:
            return int(value)
        problem = ConfigError("has more than 64 bits")
    elif isinstance(value, float):
        if isfinite(value):
            return float(value)
        problem = ConfigError(f"{value} is not a finite number", hint="write a finite number")
    elif isinstance(value, PurePath):
        return plain(str(value), report, path)
    elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return plain(value.item(), report, path)
    else:
        kind = type(value).__name__
        problem = ConfigError(f"a {kind} is not data", hint="text, numbers, true, false, lists and keys are")
    report(problem, path)
    return None


def _mapping(value: Mapping[Any, Any], report: Report, path: Path) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, inner in value.items():
        if not isinstance(key, str) or not key or not _encodes(key):
            report(ConfigError(f"the key {show(key)} is not text"), path)
        elif "${" in key:
            report(ConfigError(INTERPOLATION[0], hint=INTERPOLATION[1]), path)
        else:
            out[key] = plain(inner, report, (*path, key))
    return out


def _text(text: str, path: Path) -> ConfigError | None:
    if "${" in text:
        return ConfigError(INTERPOLATION[0], hint=INTERPOLATION[1])
    if not _encodes(text):
        return ConfigError(f"{show(text)} is not Unicode text", hint="write it as UTF-8")
    if isinstance(text, Ambiguous) and path[:1] and path[0] in _UNTYPED:
        word = "true" if text.lower() in ("yes", "on") else "false"
        hint = f'write {word}, or "{text}" in quotes for text'
        return ConfigError(f"{text} is text to YAML 1.2 and {word} to YAML 1.1", hint=hint)
    return None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
