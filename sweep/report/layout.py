"""Lines of a terminal: wrapped sentences, aligned tables, colour that can be taken off again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

INDENT = "  "
GAP = "  "
BOLD, DIM, RED, YELLOW = "1", "2", "31", "33"
# No line breaks inside "n = 9", "95 %", "1 of 10 failed".
GLUE = re.compile(r" [=±<] | %| of \d+| (?:ok|failed|lost|pending)\b")
STYLE = re.compile("\x1b\\[[0-9]+m")

Line = Sequence[str]


def paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def wrapped(text: str, width: int, style: str = "") -> list[str]:
    """Sentences within the width, continuation lines indented; styles do not count as width."""
    lines: list[str] = []
    for word in GLUE.sub(lambda found: found[0].replace(" ", "\u00a0"), text).split(" "):
        joined = f"{lines[-1]} {word}" if lines else INDENT + word
        if lines and cell_len(STYLE.sub("", joined)) > width:
            joined = INDENT * 2 + word
            lines.append(joined)
        elif lines:
            lines[-1] = joined
        else:
            lines.append(joined)
    return [paint(line.replace("\u00a0", " "), style) for line in lines]


def aligned(table: Iterable[Line | str], width: int) -> list[str]:
    """Columns as wide as their widest cell, numbers to the right; a bare string is a line of its own."""
    rows = list(table)
    cells = [row for row in rows if not isinstance(row, str)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(cells[0]))]
    widths[0] = max([widths[0], *(cell_len(row) for row in rows if isinstance(row, str) and len(row) < 30)])
    over = len(INDENT) + sum(widths) + len(GAP) * (len(widths) - 1) - width
    widths[0] = max(min(widths[0], 16), widths[0] - max(over, 0))
    lines = []
    for index, row in enumerate(rows):
        if isinstance(row, str):
            lines.append(INDENT + paint(row, DIM))
            continue
        name = _fitted(row[0], widths[0])
        numbers = (" " * (w - cell_len(c)) + c for c, w in zip(row[1:], widths[1:], strict=True))
        line = INDENT + GAP.join([name, *numbers])
        lines.append(paint(line, DIM) if index == 0 else line)
    return lines


def _fitted(text: str, width: int) -> str:
    """`text` cut or filled to `width` terminal cells; the end of a name tells more than its middle."""
    if cell_len(text) <= width:
        return text + " " * (width - cell_len(text))
    kept = text
    while cell_len(kept) > width - 1:
        kept = kept[:-1]
    return kept + "…" + " " * (width - 1 - cell_len(kept))
