"""A pattern for a program's output: `{number}` in it stands for any number, and no number is ever cut."""

from __future__ import annotations

import re
from functools import lru_cache

SIGN = "[-+\N{MINUS SIGN}]"
NOT_FINITE = rf"{SIGN}?(?:nan|inf(?:inity)?)\b"
NUMBER = rf"(?:{SIGN}?(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:{NOT_FINITE}))"
SHORTHAND = "{number}"

_BEFORE = re.compile(r"([A-Za-z_][\w/.@-]*)\\?[^\w{}()]*$")


@lru_cache(64)
def expand(pattern: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return the pattern ready to search, and what each of its groups is called.

    `val_acc={number}` is short for `val_acc=(?P<val_acc>{number})`. A group also takes a sign before what it asks
    for, and nan or inf in its place, also as `(nan)`: a value that is skipped would let the one before stand for it.

    Raises: re.error, RecursionError, OverflowError.
    """
    names: dict[str, str] = {}
    text = ""
    for part in re.split(r"(\{number\})", pattern):
        if part != SHORTHAND:
            text += part
            continue
        named = None if re.search(r"\(\?P<\w+>$", text) else _BEFORE.search(text)
        if named is None:
            text += NUMBER
        else:
            group = re.sub(r"\W", "_", named[1])
            while group in names:
                group += "_"
            names[group] = named[1]
            text += f"(?P<{group}>{NUMBER})"
    plain = re.compile(text, re.MULTILINE)  # what is wrong with it is said of what was written
    widened = re.compile(_widened(text), re.MULTILINE)
    return widened, {group: names.get(group, group) for group in plain.groupindex}


def _widened(text: str) -> str:
    """Write each named group's body as `body | sign and body | nan, inf or (nan`."""
    out, at = "", 0
    for found in re.finditer(r"\(\?P<\w+>", text):
        if found.start() < at:
            continue
        end = _closing(text, found.end())
        if end < 0:
            break
        body = text[found.end() : end]
        if "(?P<" in body or re.search(r"\(\?\w*[a-zA-Z]\)", body):
            continue
        out += f"{text[at : found.end()]}(?:{body})|{SIGN}(?:{body})|[(\\[]?(?i:{NOT_FINITE})"
        at = end
    widened = out + text[at:]
    try:
        re.compile(widened)
    except re.error:
        return text
    return widened


def _closing(text: str, at: int) -> int:
    """Return the place of the parenthesis that closes what is open at `at`, or -1."""
    depth, inside = 1, False
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif inside:
            inside = char != "]"
        elif char == "[":
            inside = True
            at += text[at + 1 : at + 2] in ("]", "^")  # a bracket that stands first is an ordinary character
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return at
        at += 1
    return -1
