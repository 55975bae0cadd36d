"""The shapes of the JSON files in a directory: a file is checked when it is decoded, and then trusted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

from sweep.plan import content_id
from sweep.store import atomic

FORMAT = 1
LARGEST = 1 << 63  # no whole number of ours reaches it

# A type; a text or None for exactly that value; a tuple of alternatives; [shape] for all items of a list; {key: shape}
# for a table, where "*" means all keys, and "key?" one that may be absent.
Shape = Any


def seal(whole: Any) -> bytes:
    """Return a dataclass as strict JSON with a checksum."""
    body = atomic.strict({"format": FORMAT, **asdict(whole)})
    return atomic.encoded({**body, "checksum": content_id(body)})


def unseal(data: bytes, kind: type) -> dict[str, Any]:
    """Return the fields of a sealed dataclass, without those that this version does not know.

    Raises: ValueError, KeyError, TypeError, AttributeError.
    """
    try:
        body = atomic.loads(data)
    except ValueError as error:
        raise ValueError(f"it cannot be parsed ({error})") from error
    checksum, version = body.pop("checksum"), body["format"]
    if type(version) is not int or version > FORMAT:
        raise ValueError("it was written by a newer version of sweep: upgrade to read it")
    if content_id(body) != checksum:
        raise ValueError("its checksum does not match its content")
    known = {field.name for field in fields(kind)}
    return {key: value for key, value in body.items() if key in known}


def require(value: Any, shape: Shape, at: str = "it") -> None:
    """Check a JSON value. `float` accepts whole numbers. Bools, and whole numbers beyond `LARGEST`, are not numbers.

    Raises: ValueError naming the place.
    """
    if shape is Any:
        return
    if isinstance(shape, type):  # first, because nearly all are types
        whole = type(value) is int and shape in (int, float)
        if not (abs(value) < LARGEST if whole else type(value) is shape):
            raise ValueError(
                f"{at} is not {'a number' if shape in (int, float) else 'text' if shape is str else 'a value'}"
            )
    elif isinstance(shape, dict):
        if not isinstance(value, (dict, Mapping)):  # `dict` first: Mapping alone takes ten times as long
            raise ValueError(f"{at} is not a table")
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if key == "*":
                for each in value:
                    require(value[each], inner, f"{at}.{str(each)[:40]}")
            elif name in value:
                require(value[name], inner, f"{at}.{name}")
            elif name == key:
                raise ValueError(f"{at} has no {name}")
    elif isinstance(shape, list):
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{at} is not a list")
        for each in value:
            require(each, shape[0], at)
    elif isinstance(shape, tuple):
        kind = None if value is None else type(value)
        if kind is not int and kind in shape:  # the usual case
            return
        for each in shape:
            with suppress(ValueError):
                require(value, each, at)
                return
        raise ValueError(f"{at} has the wrong form")
    elif value != shape:
        raise ValueError(f"{at} is not {shape!r}")
