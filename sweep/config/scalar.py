"""One unquoted YAML value, read as YAML 1.2 does; what readers disagree about is refused."""

from __future__ import annotations

import re
from math import isfinite

from sweep.errors import ConfigError

INTERPOLATION = (
    "${…} is not filled in: a secret or a machine's path would travel into the records",
    "write the value itself, or let your code read the environment variable",
)

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NOT_FINITE = re.compile(r"[-+]?\.?(nan|inf|infinity)", re.IGNORECASE)
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _CONSTANTS |= {_word: _value, _word.capitalize(): _value, _word.upper(): _value}


def scalar(text: str) -> bool | int | float | str | None:
    """A plain (unquoted) scalar in YAML 1.2's core reading: `1e-3` is a float; yes, no, on, off are text.

    Raises ConfigError for what readers disagree about (`010`, `1_000`) and for NaN and infinity.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            raise ConfigError(f"{short(text)} is octal to some readers", hint="drop the 0, or quote it for text")
        if (len(digits) > 18 and not -(2**63) <= (number := int(text[:40])) < 2**64) or len(text) > 40:
            raise ConfigError(f"{short(text)} has more than 64 bits", hint="quote it for text")
        return number if len(digits) > 18 else int(text)
    if _BASED.fullmatch(text) and len(text) <= 18:
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not isfinite(value):
            raise ConfigError(f"{short(text)} is too large for a number", hint="write a finite number")
        return value
    if _NOT_FINITE.fullmatch(text):
        raise ConfigError(f"{text} is not a finite number", hint="write a finite number, or quote it for text")
    if re.fullmatch(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?", text):
        raise ConfigError(
            f"{short(text)} is a number to some readers and text to others",
            hint="write the digits without _, or quote it for text",
        )
    return text


def ambiguous(text: str) -> bool:
    """Whether YAML 1.1 reads this word as a boolean and YAML 1.2 (we) as text."""
    return text.lower() in ("yes", "no", "on", "off") and text in (
        text.lower(),
        text.capitalize(),
        text.upper(),
    )


class Ambiguous(str):
    """A bare yes, no, on or off: text to us, a boolean to YAML 1.1. Only typed keys may keep it."""

    __slots__ = ()


def short(text: str) -> str:
    """A text as it can stand in a message: cut."""
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


def show(value: object, limit: int = 60) -> str:
    """A value as it can stand in a message: quoted, on one line, cut."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]}… ({len(text)} characters)"
