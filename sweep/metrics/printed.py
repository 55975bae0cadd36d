"""A program's output: its lines without colours, the objects it prints, and what a pattern finds in it."""

from __future__ import annotations

import ast
import json
import re
import signal
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sweep.config.pattern import NUMBER, expand
from sweep.errors import SweepError
from sweep.metrics.rows import STEPS, NotFound, Row, as_number
from sweep.nested import flatten

_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
_TOKEN = re.compile(rf"(?<![\w.])(?:{NUMBER})|(?<=[\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
# What continues a number after a token that is a number by itself: 1_000, 1.2.3, 1'000, 0x1F, Windows' 1.#QNAN, and
# after a whole number also 1,5.
_GOES_ON = re.compile("_\\d|\\.\\d|['\u2019\u00a0\u202f\u2009]\\d{3}|x[0-9A-Fa-f]|#[A-Z]")
_SCALED = re.compile(r"[kKMGTB](?!\w)")  # 1.5k, which is not 1.5
_COMMA = re.compile(r",\d+(?![\d.])")
_LONGEST = 1 << 20  # characters of one dict in Python's form
_IN_VAIN = 2 << 20
_CLOSING = re.compile(r"\}[ \t]*$", re.MULTILINE)
_SECONDS = 5  # CPU time that a search may take, plus a second for every 2 million characters
_DECODER = json.JSONDecoder()


def clean(text: str) -> str:
    """Return the text as a terminal would show it: no colours, and a carriage return ends a line."""
    text = text.removeprefix("\ufeff")
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def objects(text: str) -> tuple[list[Row], list[str]]:
    """Return every object in a cleaned text, and the text before, between and after them.

    An object is JSON on one line or several, or a dict in Python's own form. After other words on its line, it must
    end there. The search for objects over several lines stops after `_IN_VAIN` characters without one.
    """
    rows: list[Row] = []
    between: list[str] = []
    closings = [closing.end() for closing in _CLOSING.finditer(text)]
    at = end_of_last = in_vain = 0
    while (at := text.find("{", at)) >= 0:
        begun = text.rfind("\n", 0, at) + 1
        line_end = _line_end(text, at)
        line = text[at:line_end].rstrip()
        whole = line.endswith("}")
        found, end = None, line_end
        if whole or not text[begun:at].strip():
            several = in_vain < _IN_VAIN
            found, end = _json(text, at, several=several)
            if found is None and whole:
                found, end = _literal(line), line_end
            elif found is None and several:
                nth = bisect_left(closings, line_end)
                if nth < len(closings) and closings[nth] - at <= _LONGEST:
                    found, end = _literal(text[at : closings[nth]]), closings[nth]
        if found is None:
            in_vain += max(end - line_end, 0)
            at = line_end
        else:
            rows.append(dict(flatten(found, mark="/")))
            between.append(text[end_of_last:at])
            at = end_of_last = end
    return rows, [*between, text[end_of_last:]]


def _json(text: str, at: int, *, several: bool) -> tuple[dict[str, Any] | None, int]:
    """Return the JSON object that begins at `at`, alone on its lines, and its end, or None and how far it was read."""
    size = 0
    while True:
        until = _line_end(text, at + size)
        piece = text[at:until]
        try:
            value, end = _DECODER.raw_decode(piece)
        except json.JSONDecodeError as error:
            if several and error.pos >= len(piece.rstrip()) and until < len(text):
                size = max(4096, 4 * len(piece))  # each piece is read from its start, so take few, and ever larger ones
                continue
            return None, at + error.pos
        except (ValueError, RecursionError):
            return None, until
        alone = isinstance(value, dict) and not piece[end : _line_end(piece, end)].strip()
        return (value if alone else None), at + end


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _literal(text: str) -> dict[str, Any] | None:
    """Return a dict as Python prints it, even with nan, inf and `tensor(0.5)` in it. Nothing is evaluated."""
    if len(text) > _LONGEST:
        return None
    try:
        value = _plain(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict) else None


def _plain(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Dict(keys=keys, values=values):
            return {str(_plain(k)): _plain(v) for k, v in zip(keys, values, strict=True) if k is not None}
        case ast.List(elts=elts) | ast.Tuple(elts=elts):
            return [_plain(each) for each in elts]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _plain(operand)
            return -value if isinstance(value, (int, float)) else None
        case ast.Name(id="nan" | "inf" as name):
            return float(name)
        case ast.Call(args=[only, *_]):
            return _plain(only)
    return None if isinstance(node, ast.Name | ast.Attribute | ast.Call) else str(type(node).__name__)


class Backtracks(SweepError):
    """A pattern whose search does not end in time."""


def matches(pattern: str, text: str) -> list[Row]:
    """Return the named groups of every match in a cleaned text; `^` and `$` match at the ends of a line.

    A group that matched part of a number gets the whole number.

    Raises: NotFound if a group matched something that is not a number; Backtracks.
    """
    searched, names = expand(pattern)
    rows: list[Row] = []
    with in_time(pattern, len(text)):
        found = list(searched.finditer(text))
    for match in found:
        row = {
            names.get(group, group): _whole(text, match, group, names.get(group, group))
            for group, value in match.groupdict().items()
            if value is not None
        }
        # A step that was printed before its metrics applies to them.
        carried = {name: rows[-1][name] for name in STEPS if rows and name in rows[-1] and name not in row}
        rows.append({**carried, **row})
    return rows


@contextmanager
def in_time(pattern: str, characters: int) -> Iterator[None]:
    """Limit the time of a search in this many characters, in the main thread only. Raises: Backtracks."""
    seconds = _SECONDS + (characters >> 21)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: object) -> None:
        raise Backtracks(
            f"the search for {pattern[:200]!r} was stopped after {seconds} s",
            hint="write a more specific pattern: this one can match the same text in too many ways",
        )  # fmt: skip

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _whole(text: str, match: re.Match[str], group: str, name: str) -> float:
    """Return the whole number at the place where a group matched. Raises: NotFound."""
    start, end = match.span(group)
    said = text[start:end].strip().lstrip("([").rstrip(".,;:)]%")
    begun = text.rfind("\n", 0, start) + 1
    until = text.find("\n", end)
    line = text[begun : len(text) if until < 0 else until]
    low, high = start - begun, end - begun
    near = [t for t in _TOKEN.finditer(line) if t.start() < high and t.end() > low]
    taken = as_number(said)
    if taken is None or not near:
        raise NotFound(f"the group {name!r} matched {text[start:end][:40]!r}, not a number", where="collect.regex")
    token = near[0]
    whole = as_number(token[0])
    mark = begun + token.end()
    goes_on = (
        _GOES_ON.match(text, mark)
        or (match.end() <= mark and _SCALED.match(text, mark))
        or (token[0].isdecimal() and _COMMA.match(text, mark))
    )
    if goes_on and any(match.start(other) == mark + 1 for other in match.re.groupindex):
        goes_on = None  # the text after it has a group of its own
    unsure = taken != whole and "," in token[0] and "." not in token[0]
    if len(near) > 1 or whole is None or goes_on or unsure:
        raise NotFound(
            f"the group {name!r} matched only part of a number: {said[:40]!r} of {line.strip()[:80]!r}",
            where="collect.regex", hint="print it as Python does, such as 1234.5" if goes_on else
            f"match the whole number: (?P<{name}>{{number}})",
        )  # fmt: skip
    return whole
