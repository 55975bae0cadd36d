"""Numbers and foreign names as text: rounded to what the spread supports, and harmless to print."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from sweep.stats import rounding

LIMIT = 60  # cells that a name or a message may take before it is cut


def shown(text: str, limit: int = LIMIT) -> str:
    """`text` on one line, control and direction characters made visible, cut to `limit` characters.

    Names and messages come from users' code and from directories that somebody sent: printed raw, they could
    move the cursor, clear the screen or turn a line around.
    """
    visible = "".join(c if c.isprintable() else _escaped(c) for c in text[: limit + 1])
    return visible if len(visible) <= limit else visible[: limit - 1] + "…"


def _escaped(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character) or ascii(character)[1:-1]


def places(spread: float | None) -> int | None:
    """Decimal places that show two significant digits of `spread`; None where it is no scale at all."""
    found = None if spread is None else rounding.decimals(spread)
    return None if found is None else max(0, found)


def number(value: float | None, decimals: int | None) -> str:
    """`value` with so many decimals, or five significant digits for None; a dash where it is no number."""
    if value is None or math.isnan(value):
        return "—"
    if decimals is None or decimals > 12 or abs(value) >= 1e15 or math.isinf(value):
        return f"{value:.5g}"
    return rounding.fixed(value, decimals)


def percent(share: float, digits: int = 3) -> str:
    """0.95 as "95 %"."""
    return f"{100 * share:.{digits}g} %"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def path_argument(path: Path | str) -> str:
    """A path as it can be typed into a shell, whatever it is called."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def listed(items: list[str], most: int = 5) -> str:
    """ "a, b, c and 4 more"."""
    head = ", ".join(items[:most])
    return head if len(items) <= most else f"{head} and {len(items) - most} more"
