"""Whatever a caller hands in, as plain data: what strict JSON can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import PurePath
from typing import Any

from sweep.config.yaml import DEEPEST, INTERPOLATION, Contested, Float, Int, Path, show
from sweep.errors import ConfigError

Report = Callable[[ConfigError, Path], None]

# Below these, no declared type could notice that `no` was meant as false.
_UNTYPED = ("params", "grid", "tasks")


def plain(value: Any, report: Report, path: Path = ()) -> Any:
    """Return `value` as dict, list, str, int, float, bool and None, NumPy scalars and paths converted.

    What cannot be plain data (NaN, `${`, objects, keys that are no text, text that is not Unicode, more than
    32 levels) is handed to `report` with its path and becomes None.
    """
    if isinstance(value, PurePath):
        value = str(value)
    elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    try:
        if len(path) > DEEPEST:
            raise ConfigError(f"nested deeper than {DEEPEST} levels")
        if isinstance(value, list | tuple):
            return [plain(inner, report, (*path, place)) for place, inner in enumerate(value)]
        if isinstance(value, Mapping):
            keys = [key for key in value if _is_key(key, report, path)]
            return {key: plain(value[key], report, (*path, key)) for key in keys}
        return _leaf(value, untyped=path[:1] != () and path[0] in _UNTYPED)
    except ConfigError as problem:
        report(problem, path)
        return None


def _is_key(key: Any, report: Report, path: Path) -> bool:
    try:
        if not isinstance(key, str) or not key:
            raise ConfigError(f"the key {show(key)} is not text")
        _leaf(str(key), untyped=False)
    except ConfigError as problem:
        report(problem, path)
        return False
    return True


def _leaf(value: Any, *, untyped: bool) -> bool | int | float | str | None:
    """Return a single value. Raises: ConfigError."""
    if value is None or isinstance(value, bool) or (untyped and isinstance(value, Int | Float)):
        return value
    if isinstance(value, str):
        if "${" in value:
            raise ConfigError(INTERPOLATION[0], hint=INTERPOLATION[1])
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise ConfigError(f"{show(value)} is not Unicode text", hint="write it as UTF-8")
        if isinstance(value, Contested) and (untyped or value.number):
            raise ConfigError(value.what, hint=value.hint)
        return str(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ConfigError("has more than 64 bits")
        return int(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise ConfigError(f"{value} is not a finite number", hint="write a finite number")
        return float(value)
    raise ConfigError(f"a {type(value).__name__} is not data", hint="text, numbers, true, false, lists and keys are")
