"""JSON files as programs write them: an object, a list of them, or one per line."""

from __future__ import annotations

import json
from typing import Any

from sweep.metrics.rows import NotFound, Row
from sweep.metrics.text import flat


def rows(text: str, lines: str, name: str) -> list[Row]:
    """Return the objects of a JSON file; `lines` are its whole lines. Raises: NotFound quoting what is no object."""
    try:
        whole: Any = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return [
            _object(line, at, name)
            for at, line in enumerate(lines.removeprefix("\ufeff").splitlines(), 1)
            if line.strip()
        ]
    items = whole if isinstance(whole, list) else [whole]
    return [flat(item) for item in items if isinstance(item, dict)]


def _object(line: str, at: int, name: str) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NotFound(f"line {at} is no JSON object: {line[:60]!r}", where=name)
    return flat(value)
