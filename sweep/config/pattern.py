"""Patterns for a program's output: `{number}` stands for any number, never for part of one."""

from __future__ import annotations

import re
from functools import lru_cache

SIGN = "[-+\N{MINUS SIGN}]"
NOT_FINITE = rf"{SIGN}?(?:nan|inf(?:inity)?)\b"
NUMBER = rf"(?:{SIGN}?(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:{NOT_FINITE}))"
SHORTHAND = "{number}"

_BEFORE = re.compile(r"([A-Za-z_][\w/.@-]*)\\?[^\w{}()]*$")
# A character, an escaped one, or a bracket. `[]a]` must match in only one way, or the search for many would never end.
_PIECE = r"[^()\[\\]|\\.|\[\^?+\]?+[^\]]*\]"
_BODY = f"(?:{_PIECE})*"
for _ in range(8):  # levels of parentheses that are followed within a group
    _BODY = rf"(?:{_PIECE}|\((?!\?P<){_BODY}\))*"
_GROUP = re.compile(rf"(\(\?P<\w+>)({_BODY})\)")


@lru_cache(64)
def expand(pattern: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return the compiled pattern, and the name of each of its groups.

    `val_acc={number}` is short for `val_acc=(?P<val_acc>{number})`. A group also matches a sign before its own pattern,
    and nan or inf, or `(nan)`, instead of it: if such a value were skipped, an older one would count as the last.

    Raises: re.error, RecursionError, OverflowError.
    """
    names: dict[str, str] = {}
    text = ""
    for part in re.split(r"(\{number\})", pattern):
        named = _BEFORE.search(text) if part == SHORTHAND and not re.search(r"\(\?P<\w+>$", text) else None
        if named is None:
            text += part
        else:
            group = re.sub(r"\W", "_", named[1])
            while group in names:
                group += "_"
            names[group] = named[1]
            text += f"(?P<{group}>{part})"
    plain = re.compile(text.replace(SHORTHAND, NUMBER), re.MULTILINE)  # errors refer to the pattern as written
    groups = {group: names.get(group, group) for group in plain.groupindex}
    # Each group's body becomes `body | sign and body | nan, inf or (nan`.
    widened = _GROUP.sub(lambda m: f"{m[1]}(?:{m[2]})|{SIGN}(?:{m[2]})|[(\\[]?(?i:{NOT_FINITE}))", text)
    try:
        return re.compile(widened.replace(SHORTHAND, NUMBER), re.MULTILINE), groups
    except re.error:
        return plain, groups
