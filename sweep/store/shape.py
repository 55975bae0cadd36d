"""The shapes of what a directory holds: a file is checked where it is decoded, and believed from there on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

from sweep.plan import content_id
from sweep.store import atomic

FORMAT = 1
LARGEST = 1 << 63  # of a whole number: beyond it, no count of ours

# A type, or a text or None that it has to be; a tuple of shapes, of which one fits; [shape] of all items; {key: shape},
# where "*" stands for all keys, and "key?" for one that may be absent.
Shape = Any


def seal(whole: Any) -> bytes:
    """Return a dataclass as strict JSON with its own checksum."""
    body = atomic.strict({"format": FORMAT, **asdict(whole)})
    return (atomic.dumps({**body, "checksum": content_id(body)}) + "\n").encode()


def unseal(data: bytes, kind: type) -> dict[str, Any]:
    """Return the fields of a dataclass that was sealed; those that this version does not know are left out.

    Raises: ValueError, KeyError, TypeError, AttributeError.
    """
    try:
        body = atomic.loads(data)
    except ValueError as error:
        raise ValueError(f"it does not parse ({error})") from error
    checksum, version = body.pop("checksum"), body["format"]
    if type(version) is not int or version > FORMAT:
        raise ValueError("it was written by a newer version of sweep: upgrade to read it")
    if content_id(body) != checksum:
        raise ValueError("its checksum does not hold")
    known = {field.name for field in fields(kind)}
    return {key: value for key, value in body.items() if key in known}


def require(value: Any, shape: Shape, at: str = "it") -> None:
    """Check a JSON value. `float` takes whole numbers as well; a bool is no number, nor is a whole one beyond
    `LARGEST`.

    Raises: ValueError naming the place.
    """
    if shape is Any:
        return
    if isinstance(shape, type):  # first, as nearly all are
        whole = type(value) is int and shape in (int, float)
        if not (abs(value) < LARGEST if whole else type(value) is shape):
            raise ValueError(f"{at} is no {'number' if shape in (int, float) else 'text' if shape is str else 'value'}")
    elif isinstance(shape, dict):
        if not isinstance(value, (dict, Mapping)):  # an abstract class alone takes ten times as long
            raise ValueError(f"{at} is no table")
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
            raise ValueError(f"{at} is no list")
        for each in value:
            require(each, shape[0], at)
    elif isinstance(shape, tuple):
        kind = None if value is None else type(value)
        if kind is not int and kind in shape:  # as nearly all are
            return
        for each in shape:
            with suppress(ValueError):
                require(value, each, at)
                return
        raise ValueError(f"{at} is not what it has to be")
    elif value != shape:
        raise ValueError(f"{at} is not {shape!r}")
