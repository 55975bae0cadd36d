"""JSON files as programs write them: an object, a list of them, or one per line."""

from __future__ import annotations

import json
from typing import Any

from sweep.metrics.rows import NotFound


def objects(text: str, lines: str, name: str) -> list[dict[str, Any]]:
    """Return the objects of a JSON file. lines: its complete lines. Raises: NotFound with the first other line."""
    try:
        whole = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        numbered = enumerate(lines.removeprefix("\ufeff").splitlines(), 1)
        return [_object(line, at, name) for at, line in numbered if line.strip()]
    return [item for item in (whole if isinstance(whole, list) else [whole]) if isinstance(item, dict)]


def _object(line: str, at: int, name: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NotFound(f"line {at} is not a JSON object: {line[:60]!r}", where=name)
    return value
